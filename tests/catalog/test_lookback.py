"""Tables as they were after a commit or at a time, and what is said when that is gone."""

import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from pinakes.catalog import Catalog
from pinakes.catalog.erasing import erase, sweep, trim_log
from pinakes.catalog.errors import QueryError
from tests.catalog.label_rows import commit, label, thing

NAMES = "SELECT name FROM latest_labels ORDER BY name"


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    """A cat; then a dog beside it; then other settings, which take the cat for a fox."""
    made = Catalog(str(tmp_path / "catalog"), create=True)
    commit(made, {"labels": {"a": [label("cat", 0.5)]}})
    commit(made, {"labels": {"b": [label("dog", 0.5)]}})
    commit(made, {"labels": {"a": [label("fox", 0.5)]}, "objects": {"a": [thing("fox", 0.5)]}}, "other")
    return made


def names(catalog: Catalog, at: int | str | datetime | None = None) -> list[str]:
    found: list[str] = catalog.sql(NAMES, at=at)["name"].to_pylist()
    return found


def test_what_counted_after_a_commit_or_at_its_time_counts_again(catalog: Catalog) -> None:
    assert [names(catalog, n) for n in (1, 2, 3, "1", None)] == [
        ["cat"], ["cat", "dog"], ["dog", "fox"], ["cat"], ["dog", "fox"]
    ]  # fmt: skip
    times = catalog.sql("SELECT committed_at FROM commits ORDER BY n")["committed_at"].to_pylist()
    assert names(catalog, times[1].isoformat()) == ["cat", "dog"]
    assert names(catalog, times[1] - timedelta(microseconds=1)) == ["cat"]
    assert names(catalog, datetime.now(UTC)) == ["dog", "fox"]
    assert catalog.sql("FROM runs", at=1).num_rows == 2  # the next one had started, and had committed nothing
    assert catalog.sql("FROM commits", at=2).num_rows == 2


def test_a_time_without_a_catalogue_is_refused_with_those_there_are(catalog: Catalog, tmp_path: Path) -> None:
    for at, why in (
        (0, "there is no commit 0: its commits are 1 "),
        (4, "there is no commit 4: its commits are 1 "),
        ("1999-12-31", "nothing had been committed"),
        ("2999-12-31", "in the future"),
        ("yesterday", "neither the number"),
    ):
        with pytest.raises(QueryError, match=why) as error:
            names(catalog, at)
        assert "\n" not in str(error.value)
    with pytest.raises(QueryError, match="nothing has been committed yet"):
        Catalog(str(tmp_path / "empty"), create=True).sql("FROM runs", at=1)


def test_a_table_that_came_later_was_empty_or_not_there(catalog: Catalog) -> None:
    assert catalog.sql("FROM latest_objects", at=2).num_rows == 0
    assert catalog.sql("FROM latest_objects", at=3).num_rows == 1


def test_parts_that_were_put_together_or_dropped_are_seen_as_long_as_their_files_are_there(catalog: Catalog) -> None:
    assert erase(catalog, "labels", "name", pa.array(["cat"])) == 1  # as optimizing drops what is superseded
    catalog.table("labels").optimize.compact()
    assert names(catalog, 1) == ["cat"]
    assert names(catalog, 2) == ["cat", "dog"]
    catalog.table("labels").vacuum(0, dry_run=False, enforce_retention_duration=False)
    for at in (1, 2):
        with pytest.raises(
            QueryError, match=r"the table labels was after commit . is gone.* \(--at 3\)|before .*--at 3"
        ):
            names(catalog, at)
    assert names(catalog, 3) == ["dog", "fox"]
    # The other tables still go back.
    assert catalog.sql("FROM latest_ledger", at=1).num_rows == 1


def test_what_was_forgotten_is_not_seen_at_any_time(catalog: Catalog) -> None:
    """As forgetting.py does it with faces: rows, replaced files, and the log's old entries go."""
    erase(catalog, "labels", "name", pa.array(["dog"]))
    sweep(catalog, "labels", 3)
    trim_log(catalog, "labels")
    for at in (1, 2):
        with pytest.raises(QueryError, match=r"is gone, by a forgetting .*--at 3"):
            names(catalog, at)
    assert names(catalog, 3) == ["fox"]
    assert commit(catalog, {"labels": {"c": [label("elk", 0.5)]}}, "other") == 4
    assert (names(catalog, 3), names(catalog, 4)) == (["fox"], ["elk", "fox"])


def test_the_log_of_a_table_goes_back_for_longer_than_a_month(tmp_path: Path) -> None:
    catalog = Catalog(str(tmp_path), create=True)
    run = {name: "" for name in ("job", "source", "spec", "operators", "versions", "host")}
    logs = tmp_path / "runs" / "_delta_log"
    for number in range(45):
        catalog.record_run({**run, "run_id": str(number), "status": "started"})
        if number == 22:  # at every twentieth, a checkpoint takes away what is too old
            old = time.time() - 40 * 86400
            for file in logs.iterdir():
                os.utime(file, (old, old))
    assert (logs / f"{0:020d}.json").exists()


@pytest.mark.parametrize("at", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "yesterday"])
def test_what_is_no_time_is_said(tmp_path: Path, at: str) -> None:
    catalog = Catalog(str(tmp_path), create=True)
    catalog.commit_log("run", {}, 0).fence()
    with pytest.raises(QueryError, match="neither the number of a commit nor a time"):
        catalog.sql("FROM runs", at=at)
