"""SIGKILL for processes that optimize beside one that commits: no row is lost, and the next one does the rest."""

import multiprocessing
import random
import time
from pathlib import Path

import duckdb
import pytest

from pinakes.catalog import Catalog
from pinakes.catalog.optimizing import STATE, optimize
from tests.faults.committing import FOUND, OPERATORS, drive
from tests.faults.optimizing import add_old_versions, keep_optimizing

# Forks of a process that has imported everything and started nothing.
processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["tests.faults.optimizing"])

ITEMS = 280
#: Of these an older version has been looked at.
OLD = 140


@pytest.mark.timeout(240)
def test_killed_beside_a_run_it_loses_nothing_and_the_next_one_completes_it(tmp_path: Path) -> None:
    url, chance = str(tmp_path / "catalog"), random.Random(7)
    add_old_versions(url, OLD, together=14)
    driver = processes.Process(target=drive, args=(url, ITEMS, 1))
    driver.start()
    kills = 0
    while driver.is_alive() or kills < 6:
        victim = processes.Process(target=keep_optimizing, args=(url,))
        victim.start()
        time.sleep(chance.uniform(0.2, 1.5))
        assert victim.is_alive()
        victim.kill()
        victim.join()
        kills += 1
    driver.join()
    assert driver.exitcode == 0
    parts = len(Catalog(url).table("ledger").file_uris())

    done = {one.table: one for one in optimize(Catalog(url), keep_days=0).tables}

    catalog = Catalog(url)
    assert catalog.storage.entries(STATE) == {}
    for name in OPERATORS:
        whose = f"SELECT count(*) AS rows, count(DISTINCT item_key) AS items FROM {name}"
        assert catalog.sql(whose).to_pylist() == [{"rows": ITEMS * FOUND, "items": ITEMS}]
        assert catalog.sql(whose.replace("FROM ", "FROM latest_")).to_pylist() == [
            {"rows": ITEMS * FOUND, "items": ITEMS}
        ]
        paths = catalog.table(name).file_uris()
        (other,) = duckdb.sql(f"SELECT count(*) FROM read_parquet({paths}) WHERE uri LIKE '%/7.jpg'").fetchall()
        assert other == (FOUND,)
        assert len(paths) == done[name].parts == 1
    assert catalog.sql("SELECT count(*) AS n FROM ledger").to_pylist() == [{"n": ITEMS * len(OPERATORS)}]
    numbers = catalog.sql("SELECT n FROM commits ORDER BY n")["n"].to_pylist()
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) > parts >= 1
    # A run finds nothing to do.
    drive(url, ITEMS, seed=2)
    assert catalog.sql("SELECT max(n) AS n FROM commits").to_pylist() == [{"n": len(numbers)}]
