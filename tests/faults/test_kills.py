"""SIGKILL for the driver, its workers and the watchdog at random moments: what is left is whole, and goes on."""

import random
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.faults.pinakes_process import Job, Run, add_photos, wait


@pytest.fixture(scope="module")
def killed() -> list[Run]:
    """The runs that were killed, in order."""
    return []


@pytest.mark.timeout(900)
def test_a_driver_killed_again_and_again_at_any_moment_of_its_life(tmp_path: Path, killed: list[Run]) -> None:
    job, chance = Job(tmp_path, seconds=0.1), random.Random()
    add_photos(job.archive, 160)
    while len(killed) < 5:
        run = job.start()
        if len(killed) % 2:
            before = job.commits()
            wait(lambda: run.process.poll() is not None or job.commits() > before, "a run does not commit")  # noqa: B023
            time.sleep(chance.uniform(0, 1.5))
        else:
            time.sleep(chance.uniform(0.3, 7))
        if run.process.poll() is None:
            run.process.kill()
            killed.append(run)
        else:
            # Quicker than its kill: there must be work for those that are left.
            assert run.process.returncode == 0, run.said
            add_photos(job.archive, 80)
        # The next one starts at once, beside what is left of this one.
        run.process.wait()
    last = job.start()
    assert last.ended() == 0, last.said
    job.check_all_ok()


@pytest.mark.timeout(600)
def test_workers_killed_at_random_are_replaced(tmp_path: Path) -> None:
    job, chance = Job(tmp_path, seconds=0.1), random.Random()
    add_photos(job.archive, 200)
    run = job.start()
    struck: set[int] = set()
    kills = 0
    # No file is in hand alone at two of these deaths: an actor's looking process dies once, and two actors do.
    for victim in ("looker", "actor", "looker", "watchdog", "actor", "looker"):
        there: dict[int, psutil.Process] = {}
        while not there and run.process.poll() is None:
            time.sleep(chance.uniform(0, 1))
            there = {actor: one for actor, one in actors(run).items() if victim != "looker" or actor not in struck}
        if run.process.poll() is not None:
            break
        actor, looker = chance.choice(list(there.items()))
        match victim:
            case "looker":
                struck.add(actor)
                kill(looker)
            case "actor":
                kill(psutil.Process(actor))
            case "watchdog":
                kill(next(one for one in run.members() if one.name() == "ray::Watchdog"))
        kills += 1
    assert run.ended() == 0, run.said
    assert kills == 6
    job.check_all_ok()


@pytest.mark.timeout(200)
def test_a_killed_driver_leaves_no_process_behind(killed: list[Run]) -> None:
    # Of Ray's own two take a minute, in which they try to tell a Ray that is gone that it is gone: so this comes last.
    assert killed
    wait(lambda: not [one for run in killed for one in run.members()], "a killed driver left processes behind")


def actors(run: Run) -> dict[int, psutil.Process]:
    """The actors' process ids and their looking processes."""
    found = {}
    for looker in run.lookers():
        try:
            found[looker.ppid()] = looker
        except psutil.Error:
            continue
    return found


def kill(process: psutil.Process) -> None:
    with suppress(psutil.NoSuchProcess):
        process.kill()
