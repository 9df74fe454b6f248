"""What a person sees of long work: a bar on a terminal, a plain line now and then elsewhere, or nothing."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bar

from pinakes.jobs.printing import duration, hours

#: Seconds between plain lines.
EVERY_S = 10


class Advance(Protocol):
    """Told how many items more are finished, and how many looks have failed so far.

    Of videos, how many seconds more have been looked at, and, once that is known, how many there are in all.
    """

    def __call__(self, items: int, failed: int, video_s: float = 0, all_s: float = 0) -> None: ...


class Progress:
    """Messages and counts to the console; to standard error, so that answers can be piped."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)

    @classmethod
    def silent(cls) -> "Progress":
        """For programs that watch by other means."""
        return cls(Console(quiet=True))

    def say(self, message: str) -> None:
        """One line."""
        self._console.print(message, style="dim", highlight=False, markup=False, soft_wrap=True)

    @contextmanager
    def counting(self, total: int, videos: bool = False) -> Iterator[Advance]:
        """Show how many of `total` items are finished, the rate, and the time left.

        Videos differ in length by a factor of ten thousand: where there are some, the time left goes by their hours.
        """
        rate = VideoRate() if videos else Rate()
        with self._bar(total, rate) if self._console.is_terminal else self._lines(total, rate) as advance:
            yield advance

    @contextmanager
    def adding(self, what: str) -> Iterator[Callable[[int], None]]:
        """Say now and then how many there are by now, where nobody knows how many there will be."""
        began = said = time.monotonic()
        done = 0

        def advance(more: int) -> None:
            nonlocal said, done
            done += more
            if time.monotonic() - said >= EVERY_S:
                said = time.monotonic()
                self.say(f"{done:,} {what}, {done / (said - began):,.0f}/s")

        yield advance

    @contextmanager
    def moving(self) -> Iterator["Moving"]:
        """Show how much of a table's bytes has been written anew, table by table."""
        if not self._console.is_terminal:
            yield Moving(self, None)
            return
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
        with Bar(*columns, console=self._console, transient=True) as bar:
            yield Moving(self, bar)

    @contextmanager
    def _bar(self, total: int, rate: "Rate") -> Iterator[Advance]:
        columns = (
            TextColumn("looking"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[failed]}", style="red"),
        )
        with Bar(*columns, console=self._console, transient=True) as bar:
            task = bar.add_task("", total=total, rate="", failed="")

            def advance(items: int, failed: int, video_s: float = 0, all_s: float = 0) -> None:
                rate.add(items, video_s, all_s)
                said = f"{failed} failed" if failed else ""
                bar.update(task, advance=items, rate=rate.said(total), failed=said)

            yield advance

    @contextmanager
    def _lines(self, total: int, rate: "Rate") -> Iterator[Advance]:
        said = time.monotonic()

        def advance(items: int, failed: int, video_s: float = 0, all_s: float = 0) -> None:
            nonlocal said
            rate.add(items, video_s, all_s)
            if time.monotonic() - said >= EVERY_S and (now := rate.said(total)):
                said = time.monotonic()
                self.say(f"{rate.done:,} of {total:,} items, {now}{f', {failed} failed' if failed else ''}")

        yield advance


class Moving:
    """A bar, or lines, for bytes of one table after another."""

    def __init__(self, progress: Progress, bar: Bar | None) -> None:
        self._progress = progress
        self._bar = bar
        self._task = None if bar is None else bar.add_task("", total=None)
        self._what, self._size, self._done = "", 0, 0
        self._said = time.monotonic()

    def begin(self, what: str, size: int) -> None:
        """From now on `what`, over so many bytes."""
        self._what, self._size, self._done = what, size, 0
        if self._bar is not None and self._task is not None:
            self._bar.reset(self._task, total=size, description=what)

    def advance(self, size: int) -> None:
        """So many bytes more are done."""
        self._done += size
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, advance=size)
        elif time.monotonic() - self._said >= EVERY_S:
            self._said = time.monotonic()
            self._progress.say(f"{self._what}: {self._done / 1e6:,.0f} of {self._size / 1e6:,.0f} MB")


class Rate:
    """Items a second since the first came: the workers' start is no part of their speed."""

    def __init__(self) -> None:
        self.done = 0
        self._first = 0
        self._began = 0.0

    def add(self, items: int, video_s: float = 0, all_s: float = 0) -> None:
        """So many items more are finished."""
        if not self.done:
            self._first, self._began = items, time.monotonic()
        self.done += items

    def said(self, total: int) -> str:
        """The rate and the time left; nothing until there is something to measure."""
        return f"{self.per_s:.1f}/s, {duration((total - self.done) / self.per_s)} left" if self.per_s else ""

    @property
    def per_s(self) -> float:
        """0 until there is something to measure."""
        seconds = time.monotonic() - self._began
        return (self.done - self._first) / seconds if self.done > self._first and seconds > 0 else 0.0


class VideoRate(Rate):
    """Besides, hours of video, and how many times quicker than they play, since the start of the work."""

    def __init__(self) -> None:
        super().__init__()
        self._started = time.monotonic()
        self._video_s = self._all_s = 0.0

    def add(self, items: int, video_s: float = 0, all_s: float = 0) -> None:
        """So many items, and seconds of video, more are finished."""
        super().add(items)
        self._video_s += video_s
        self._all_s = all_s

    def said(self, total: int) -> str:
        """Both rates, and what time is left once it is known how much video there is."""
        parts = [f"{self.per_s:.1f}/s"] if self.per_s else []
        if self._video_s:
            speed = self._video_s / (time.monotonic() - self._started)
            known = self._all_s > self._video_s
            parts.append(f"{hours(self._video_s)}{f' of {hours(self._all_s)}' if known else ''} of video")
            parts.append(f"{speed:.1f} times its speed")
            if known:
                parts.append(f"{duration((self._all_s - self._video_s) / speed)} left")
        return ", ".join(parts)
