"""SIGKILL for the process that commits: at every step in turn, and over a hundred times at random, three at once."""

import multiprocessing
import random
import time
from pathlib import Path

import pytest

from pinakes.catalog import Catalog, commits
from pinakes.catalog.metering import RUN
from tests.faults.committing import CPU_S, FOUND, OPERATORS, drive

# Forks of a process that has imported everything and started nothing: a new driver in some milliseconds.
processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["tests.faults.committing"])


def check(url: str, items: int) -> None:
    """Every item once in the ledger, each of its rows once in the tables, and all tables at the same commit."""
    catalog = Catalog(url)
    looks = catalog.sql("SELECT operator, count(*) AS rows, count(DISTINCT item_key) AS items FROM ledger GROUP BY 1")
    assert sorted(looks.to_pylist(), key=str) == sorted(
        ({"operator": name, "rows": items, "items": items} for name in OPERATORS), key=str
    )
    for name in OPERATORS:
        found = catalog.sql(
            "SELECT count(*) AS rows, count(DISTINCT item_key) AS items, "
            f"count(DISTINCT (item_key, run_id)) AS lookers FROM {name}"
        ).to_pylist()[0]
        assert found == {"rows": items * FOUND, "items": items, "lookers": items}
        assert catalog.sql(f"SELECT count(*) AS rows FROM latest_{name}").to_pylist() == [{"rows": items * FOUND}]
    # Metered as often as it was committed, whoever was killed or came second.
    units = catalog.sql("SELECT operator, sum(amount) AS images, sum(cpu_s) AS cpu_s FROM usage GROUP BY 1 ORDER BY 1")
    of_looks = [row for row in units.to_pylist() if row["operator"] != RUN]
    assert of_looks == [{"operator": name, "images": items, "cpu_s": items * CPU_S} for name in OPERATORS]
    named = {
        (action["table"], action["path"])
        for commit in commits.read_commits(catalog.storage, 0).to_pylist()
        for action in commit["actions"]
    }
    tables = (*OPERATORS, "ledger", "usage")
    present = {(name, Path(path).name) for name in tables for path in catalog.table(name).file_uris()}
    assert present == named
    numbers = catalog.sql("SELECT n FROM commits ORDER BY n")["n"].to_pylist()
    assert numbers == list(range(1, len(numbers) + 1))


def test_killed_at_every_step_a_second_run_completes_it(tmp_path: Path) -> None:
    died = 0
    for step in range(1, 60):  # more than there are
        url = str(tmp_path / f"catalog-{step}")
        # The second commit, so that there is something before it.
        driver = processes.Process(target=drive, args=(url, 14, step, step))
        driver.start()
        driver.join()
        if driver.exitcode == 0:
            break
        assert driver.exitcode == -9
        died += 1
        drive(url, 14, seed=1000 + step)
        check(url, 14)
    # Two commits of four parts, a row of the log and its part, four tables: twenty calls, before and after each.
    assert died == 40


@pytest.mark.timeout(240)
def test_more_than_a_hundred_kills_with_three_drivers_at_once(tmp_path: Path) -> None:
    url, items, chance = str(tmp_path / "catalog"), 1400, random.Random(7)
    Catalog(url, create=True)
    kills = seed = 0
    running: list[multiprocessing.process.BaseProcess] = []
    while kills < 120:
        while len(running) < 3:
            seed += 1
            running.append(processes.Process(target=drive, args=(url, items, seed)))
            running[-1].start()
        time.sleep(chance.uniform(0.02, 0.25))
        victim = running.pop(chance.randrange(3))
        if victim.is_alive():
            victim.kill()
            kills += 1
        victim.join()
        if victim.exitcode not in (0, -9):
            pytest.fail(f"a driver ended with {victim.exitcode}")
    for driver in running:
        driver.join()
        assert driver.exitcode == 0
    drive(url, items, seed=0)
    check(url, items)
