"""SIGTERM and Ctrl-C. Two runs at once are in tests/jobs/test_overlap.py, and in a bucket in test_s3_job.py."""

import os
import signal
import time
from pathlib import Path

import pytest

from tests.faults.pinakes_process import Job, Run, add_photos, wait

PHOTOS = 80


@pytest.fixture
def job(tmp_path: Path) -> Job:
    made = Job(tmp_path, seconds=0.1)
    add_photos(made.archive, PHOTOS)
    return made


@pytest.mark.timeout(600)
def test_what_was_finished_at_an_interrupt_is_not_looked_at_again(job: Job) -> None:
    before = 0
    for stop in (lambda run: run.process.terminate(), lambda run: os.killpg(run.process.pid, signal.SIGINT)):
        run = job.start()
        wait(lambda: job.commits() > before or run.process.poll() is not None, "a run does not commit")  # noqa: B023
        stop(run)
        assert run.ended() == 130, run.said
        assert run.summary["status"] == "interrupted"
        # What it counted as done is committed, not only what was before the signal.
        assert done(job) == run.summary["items"] + before_items(run)
        before = job.commits()
    left = PHOTOS - done(job)
    assert 0 < left < PHOTOS
    last = job.start()
    assert last.ended() == 0, last.said
    assert last.summary["plan"]["due"] == last.summary["items"] == left
    job.check_all_ok()
    assert job.rows("SELECT status FROM runs ORDER BY recorded_at") == [
        ("started",), ("interrupted",), ("started",), ("interrupted",), ("started",), ("finished",)
    ]  # fmt: skip


@pytest.mark.timeout(600)
def test_an_interrupt_while_it_starts(job: Job) -> None:
    run = job.start()
    wait(lambda: "starting the workers" in run.said, "a run does not start")
    time.sleep(1)
    run.process.terminate()
    assert run.ended() == 130, run.said
    assert done(job) == 0


def done(job: Job) -> int:
    return int(job.rows("SELECT count(DISTINCT uri) FROM ledger")[0][0])


def before_items(run: Run) -> int:
    return int(run.summary["plan"]["done"])
