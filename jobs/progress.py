"""What a person sees of long work: a bar on a terminal, a plain line now and then elsewhere, or nothing."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

#: Seconds between plain lines.
EVERY_S = 10

#: Told how many items more are finished, and how many looks have failed so far.
Advance = Callable[[int, int], None]


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
    def counting(self, total: int) -> Iterator[Advance]:
        """Show how many of `total` items are finished, the rate, and the time left."""
        with self._bar(total) if self._console.is_terminal else self._lines(total) as advance:
            yield advance

    @contextmanager
    def _bar(self, total: int) -> Iterator[Advance]:
        columns = (
            TextColumn("looking"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[failed]}", style="red"),
        )
        with Bar(*columns, console=self._console, transient=True) as bar:
            task = bar.add_task("", total=total, rate="", failed="")
            rate = Rate()

            def advance(items: int, failed: int) -> None:
                rate.add(items)
                speed = f"{rate.per_s:.1f}/s" if rate.per_s else ""
                bar.update(task, advance=items, rate=speed, failed=f"{failed} failed" if failed else "")

            yield advance

    @contextmanager
    def _lines(self, total: int) -> Iterator[Advance]:
        said = time.monotonic()
        rate = Rate()

        def advance(items: int, failed: int) -> None:
            nonlocal said
            rate.add(items)
            if time.monotonic() - said >= EVERY_S and rate.per_s:
                said = time.monotonic()
                left = f"{rate.per_s:.1f}/s, {(total - rate.done) / rate.per_s:.0f} s left"
                self.say(f"{rate.done:,} of {total:,} items, {left}{f', {failed} failed' if failed else ''}")

        yield advance


class Rate:
    """Items a second since the first came: the workers' start is no part of their speed."""

    def __init__(self) -> None:
        self.done = 0
        self._first = 0
        self._began = 0.0

    def add(self, items: int) -> None:
        """So many items more are finished."""
        if not self.done:
            self._first, self._began = items, time.monotonic()
        self.done += items

    @property
    def per_s(self) -> float:
        """0 until there is something to measure."""
        seconds = time.monotonic() - self._began
        return (self.done - self._first) / seconds if self.done > self._first and seconds > 0 else 0.0
