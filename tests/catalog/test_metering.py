"""What a commit says was used: of the looks that are in it, and of nothing else."""

from pathlib import Path

from pinakes.catalog import Catalog
from pinakes.catalog.metering import DECODE, IMAGES, RUN, SPENT, spent
from tests.faults.committing import CPU_S, OPERATORS, TABLES, made_rows


def used(catalog: Catalog, run_id: str) -> dict[str, tuple[float, float]]:
    """Units and seconds, by operator."""
    rows = catalog.sql(
        f"SELECT operator, sum(amount) AS amount, sum(cpu_s) AS cpu_s FROM usage WHERE run_id = '{run_id}' GROUP BY 1"
    )
    return {row["operator"]: (row["amount"], row["cpu_s"]) for row in rows.to_pylist()}


def test_looks_that_another_run_committed_first_are_seconds_of_the_run_and_no_units(tmp_path: Path) -> None:
    catalog = Catalog(str(tmp_path), create=True)
    first = catalog.commit_log("first", TABLES, 0, job="nightly")
    second = catalog.commit_log("second", TABLES, 0)
    assert first.commit(made_rows([1, 2, 3], 1)) == 1
    # One of two comes too late, then both of two.
    assert second.commit(made_rows([3, 4], 2)) == 2
    assert second.commit(made_rows([1, 2], 2)) is None
    assert used(catalog, "second") == {**dict.fromkeys(OPERATORS, (1, CPU_S)), RUN: (0, 2 * CPU_S)}
    second.commit_rest()
    second.commit_rest()
    assert used(catalog, "first") == dict.fromkeys(OPERATORS, (3, 3 * CPU_S))
    assert used(catalog, "second") == {**dict.fromkeys(OPERATORS, (1, CPU_S)), RUN: (0, 6 * CPU_S)}
    assert second.measures["cpu_s"].to_pylist() == [CPU_S, 6 * CPU_S, CPU_S]
    jobs = catalog.sql("SELECT DISTINCT run_id, job FROM usage ORDER BY 1").to_pylist()
    assert jobs == [{"run_id": "first", "job": "nightly"}, {"run_id": "second", "job": ""}]
    # What is only metered is a commit like others.
    assert catalog.finish() == 3
    assert catalog.sql("SELECT count(*) AS looks FROM latest_ledger").to_pylist() == [{"looks": 4 * len(OPERATORS)}]


def test_what_belongs_to_no_look_comes_in_the_same_commit(tmp_path: Path) -> None:
    catalog = Catalog(str(tmp_path), create=True)
    log = catalog.commit_log("run", TABLES, 0)
    decoding = spent({(DECODE, IMAGES): [0.25, 2, 2, 1000, 2], (RUN, None): [1.5, 0, 0, 0, 0]})
    log.commit({**made_rows([1, 2], 1), SPENT: decoding})
    row = catalog.sql("FROM usage WHERE operator = 'decode'").drop_columns(["recorded_at"]).to_pylist()
    assert row == [
        {"n": 1, "run_id": "run", "job": "", "operator": "decode", "unit": "images", "amount": 2, "rounded_amount": 2}
        | {"cpu_s": 0.25, "gpu_s": 0, "device": None, "bytes": 1000, "requests": 2}
    ]
    assert used(catalog, "run")[RUN] == (0, 1.5)


def test_rows_without_a_meter_leave_no_usage(tmp_path: Path) -> None:
    catalog = Catalog(str(tmp_path), create=True)
    rows = made_rows([1], 1)
    plain = rows["ledger"].drop_columns(["unit", "amount", "cpu_s", "gpu_s", "device"])
    assert catalog.commit_log("run", TABLES, 0).commit({**rows, "ledger": plain}) == 1
    assert catalog.sql("SELECT count(*) AS rows FROM usage").to_pylist() == [{"rows": 0}]
