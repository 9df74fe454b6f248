"""What a person sees of long work where there is no terminal: plain lines."""

import io
import re
import time

import pytest
from rich.console import Console

from pinakes.jobs import progress
from pinakes.jobs.progress import Progress


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """Every line, at a clock that tests move by hand."""
    monkeypatch.setattr(progress, "EVERY_S", 0)
    clock = iter(range(0, 100_000, 100))
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    return io.StringIO()


def lines(shown: io.StringIO) -> list[str]:
    return shown.getvalue().splitlines()


def test_of_pictures_their_number_and_the_time_left(shown: io.StringIO) -> None:
    with Progress(Console(file=shown, width=200)).counting(1000) as advance:
        advance(10, 0)
        advance(200, 0)
        advance(300, 2)
    assert [line.split(",")[0] for line in lines(shown)] == ["210 of 1", "510 of 1"]
    assert all("/s, " in line and " left" in line for line in lines(shown))
    assert lines(shown)[1].endswith("2 failed")


def test_of_videos_their_hours_and_how_much_quicker_than_they_play(shown: io.StringIO) -> None:
    with Progress(Console(file=shown, width=200)).counting(3, videos=True) as advance:
        advance(1, 0, 3600)
        advance(0, 0, 1800, 7200)
        advance(2, 1, 1800, 7200)
    first, second, third = lines(shown)
    assert first.startswith("1 of 3 items, 1.00 h of video, ")
    assert second.startswith("1 of 3 items, 1.50 h of 2.00 h of video, ")
    assert "times its speed, " in second
    assert second.endswith(" left")
    assert re.match("3 of 3 items, [0-9.]+/s, 2.00 h of video, [0-9.]+ times its speed, ", third)
    assert third.endswith("1 failed")


def test_of_tables_their_bytes(shown: io.StringIO) -> None:
    with Progress(Console(file=shown, width=200)).moving() as moving:
        moving.begin("labels", 300_000_000)
        moving.advance(100_000_000)
        moving.advance(200_000_000)
    assert lines(shown) == ["labels: 100 of 300 MB", "labels: 300 of 300 MB"]
