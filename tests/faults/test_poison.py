"""Files that kill, starve or stop whoever looks at them: each costs itself, and nothing else."""

from collections import Counter
from pathlib import Path

import pytest

from tests.faults.pinakes_process import HALVES, Job, Run, add_photos

#: What the ledger says of a file with that fault; None when it was looked at after all.
EXPECTED = {
    "segv_once": None,
    "segv": "crashed",
    "memory": "out_of_memory",
    "hang": "time_limit",
    "worker": "out_of_memory",
}
GOOD = 40


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> tuple[Job, Run, int]:
    """One run over an archive with one file of each kind among good ones."""
    job = Job(tmp_path_factory.mktemp("poison"), time_limit_s=3, worker_memory_gb=0.8)
    for fault in EXPECTED:
        add_photos(job.archive, GOOD // len(EXPECTED))
        add_photos(job.archive, 1, fault)
    add_photos(job.archive, 1, square=True)
    run = job.start()
    return job, run, run.ended()


@pytest.mark.timeout(600)
def test_the_run_ends_and_says_that_some_failed(ended: tuple[Job, Run, int]) -> None:
    job, run, code = ended
    assert code == 3, run.said
    assert run.summary["errors"] == {"crashed": 1, "out_of_memory": 2, "time_limit": 1, "operator_failed": 1}
    job.check()


@pytest.mark.parametrize("fault", EXPECTED)
def test_a_poisonous_file_costs_itself(ended: tuple[Job, Run, int], fault: str) -> None:
    job, _, _ = ended
    looks = job.rows(f"SELECT operator, status, error_code FROM ledger WHERE uri LIKE '%-{fault}.jpg' ORDER BY 1")
    code = EXPECTED[fault]
    assert looks == [(name, "failed" if code else "ok", code) for name in ("halves", "media")]


def test_no_file_is_tried_without_end(ended: tuple[Job, Run, int]) -> None:
    _, run, _ = ended
    # Among others and alone; whole workers once more, as the first death does not say which file it was.
    assert Counter(run.log.read_text().split()) == {"segv_once": 2, "segv": 2, "memory": 2, "hang": 2, "worker": 3}


def test_the_others_are_looked_at_by_every_operator(ended: tuple[Job, Run, int]) -> None:
    job, _, _ = ended
    others = "NOT contains(parse_filename(uri), '-')"
    assert job.rows(f"SELECT operator, status, count(*) FROM ledger WHERE {others} GROUP BY ALL ORDER BY 1") == [
        ("halves", "ok", GOOD),
        ("media", "ok", GOOD),
    ]
    assert job.rows(f"SELECT count(*) FROM latest_halves WHERE {others}") == [(GOOD * HALVES,)]


def test_an_operator_that_raises_costs_its_own_look_alone(ended: tuple[Job, Run, int]) -> None:
    job, _, _ = ended
    assert job.rows(
        "SELECT operator, status, error_code, error_message FROM ledger WHERE uri LIKE '%-square.jpg' ORDER BY 1"
    ) == [
        ("halves", "failed", "operator_failed", "ValueError: a square has no longer side"),
        ("media", "ok", None, None),
    ]
    assert job.rows("SELECT width, height FROM latest_media WHERE uri LIKE '%-square.jpg'") == [(96, 96)]


@pytest.mark.timeout(600)
def test_workers_that_cannot_start_end_the_run_and_blame_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAULTS_AT_START", "1")
    job = Job(tmp_path, workers=1)
    add_photos(job.archive, 5)
    run = job.start()
    assert run.ended() == 1
    assert "pinakes: a worker died as it loaded its models, 3 times" in run.said
    assert job.rows("SELECT uri FROM ledger") == []
