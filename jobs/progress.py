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
            began = time.monotonic()
            done = 0

            def advance(items: int, failed: int) -> None:
                nonlocal done
                done += items
                rate = f"{done / max(time.monotonic() - began, 1e-3):.1f}/s"
                bar.update(task, advance=items, rate=rate, failed=f"{failed} failed" if failed else "")

            yield advance

    @contextmanager
    def _lines(self, total: int) -> Iterator[Advance]:
        began = said = time.monotonic()
        done = 0

        def advance(items: int, failed: int) -> None:
            nonlocal done, said
            done += items
            now = time.monotonic()
            if now - said >= EVERY_S:
                said = now
                rate = done / (now - began)
                left = f"{(total - done) / rate:.0f} s left" if rate else ""
                self.say(f"{done:,} of {total:,} items, {rate:.1f}/s, {left}{f', {failed} failed' if failed else ''}")

        yield advance
