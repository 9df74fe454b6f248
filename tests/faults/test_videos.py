"""Kills and poison while long videos are looked at: what is lost is a window, and no window is looked at twice."""

import math
import shutil
from pathlib import Path

import pytest

from pinakes.catalog import Catalog
from pinakes.operators.video import WINDOW_MS
from tests.faults.pinakes_process import HALVES, Job, Run, wait
from tests.films import write_film

WINDOWS = 5
SECONDS = WINDOWS * WINDOW_MS // 1000


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """25 minutes, a frame a second."""
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    write_film(path, SECONDS, fps=1, size=(96, 64), gop=10)
    return path


def archive(job: Job, film: Path, *names: str) -> None:
    job.archive.mkdir()
    for name in names:
        shutil.copy(film, job.archive / name)


@pytest.mark.timeout(300)
def test_a_long_video_goes_on_after_a_kill_with_the_windows_that_are_left(tmp_path: Path, film: Path) -> None:
    job = Job(tmp_path, seconds=0.01, workers=2)
    archive(job, film, "film.mp4")
    run = job.start()
    # The first commit is that the film was opened; the second brings a window.
    wait(lambda: run.process.poll() is not None or job.commits() > 1, "a run does not commit")
    run.kill()
    Catalog(job.url).finish()  # as every command does that writes
    windows = "SELECT count(*) FROM ledger WHERE operator = 'halves' AND window_start_ms IS NOT NULL"
    ((done,),) = job.rows(windows)
    assert 0 < done < WINDOWS
    assert job.rows("FROM latest_halves") == []
    last = job.start()
    assert last.ended() == 0, last.said
    # Every window that was committed, and none but them, was left out.
    assert last.summary["video_s"] == (WINDOWS - done) * WINDOW_MS / 1000
    assert job.rows(windows) == [(WINDOWS,)]
    assert job.rows("SELECT count(*), count(DISTINCT (frame_ms, side)) FROM latest_halves") == [(SECONDS * HALVES,) * 2]
    minutes = "SELECT sum(amount), sum(rounded_amount) FROM usage WHERE operator = 'halves'"
    assert job.rows(minutes) == [(SECONDS / 60, math.ceil(SECONDS / 60))], "a film is metered once, as a whole"
    looks = "SELECT operator, count(*), min(status) FROM ledger WHERE window_start_ms IS NULL GROUP BY 1 ORDER BY 1"
    assert job.rows(looks) == [(name, 1, "ok") for name in ("frames", "halves", "media")]


@pytest.fixture(scope="module")
def poisoned(tmp_path_factory: pytest.TempPathFactory, film: Path) -> tuple[Job, Run, int]:
    """One run over films of which the second window kills or stops whoever decodes it."""
    job = Job(tmp_path_factory.mktemp("poisoned"), time_limit_s=3, workers=2)
    archive(job, film, "film-segv.mp4", "film-hang.mp4", "good.mp4")
    run = job.start()
    return job, run, run.ended()


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("name", "code"), [("segv", "crashed"), ("hang", "time_limit")])
def test_a_decoder_that_dies_or_hangs_costs_a_window(poisoned: tuple[Job, Run, int], name: str, code: str) -> None:
    job, run, exit_code = poisoned
    assert exit_code == 3, run.said
    looks = job.rows(
        "SELECT window_start_ms // 300000, status, error_code FROM latest_ledger "
        f"WHERE operator = 'halves' AND uri LIKE '%-{name}.mp4' ORDER BY 1 NULLS LAST"
    )
    assert looks == [(window, "failed", code) if window == 1 else (window, "ok", None) for window in range(WINDOWS)] + [
        (None, "failed", code)
    ]
    assert job.rows(f"SELECT count(*) FROM latest_halves WHERE uri LIKE '%-{name}.mp4'") == [
        ((WINDOWS - 1) * WINDOW_MS // 1000 * HALVES,)
    ]
    assert run.log.read_text().split().count(name) == 2  # among others, and alone


def test_other_videos_are_whole(poisoned: tuple[Job, Run, int]) -> None:
    job, _, _ = poisoned
    assert job.rows("SELECT count(*) FROM latest_halves WHERE uri LIKE '%good.mp4'") == [(SECONDS * HALVES,)]
