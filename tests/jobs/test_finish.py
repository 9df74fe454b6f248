"""What is made of whole videos comes out whole, whenever and in whatever parts they were looked at."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pinakes.catalog import Catalog
from pinakes.jobs import watch
from pinakes.jobs.finish import Finisher
from pinakes.operators.operator import Operator, create
from tests.films import write_film
from tests.jobs.small_run import small_run

WINDOW_MS = 30_000
SECONDS = 75


@pytest.fixture(autouse=True)
def short_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "WINDOW_MS", WINDOW_MS)


@pytest.fixture(params=["long", "short"])
def archive(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """One film, in three windows or in one."""
    folder = tmp_path / "archive"
    folder.mkdir()
    write_film(folder / "film.mp4", SECONDS if request.param == "long" else 20, fps=2, size=(160, 90))
    return folder


def operators(*names: str) -> dict[str, Operator]:
    made = {name: create(name) for name in ("media", "frames", *names)}
    for one in made.values():
        one.fetch("cpu")
        one.load()
    return made


class Follower(Operator):
    """Says how many rows of others it was given, and how many frames there are."""

    name = "follower"
    media_types = ("video",)
    sees = "rows"
    tables: dict[str, pa.Schema] = {}  # noqa: RUF012
    follows = ("properties",)
    video_tables = {"counts": pa.schema([pa.field("seen", pa.int64()), pa.field("sampled", pa.int64())])}  # noqa: RUF012

    def look(self, pictures: Any) -> Any:
        raise AssertionError("it is never shown anything")

    def finish(self, video: Any) -> dict[str, pa.Table]:
        return {"counts": pa.table({"seen": [video.rows["properties"].num_rows], "sampled": [len(video.frame_ms)]})}


def rows(catalog: Path, query: str) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in Catalog(str(catalog)).sql(query).to_pylist()]


def check_once(catalog: Path) -> None:
    looks = (
        "SELECT count(*) = count(DISTINCT (item_key, fingerprint, attempt, coalesce(window_start_ms, -1))) FROM ledger"
    )
    assert rows(catalog, looks) == [(True,)]


def test_an_operator_that_comes_later_is_told_all_that_was_seen_before(archive: Path, tmp_path: Path) -> None:
    catalog = tmp_path / "catalog"
    first = operators("properties")
    small_run(archive, catalog, first)
    samples = rows(catalog, "SELECT count(*) FROM latest_frames")[0][0]
    # One that follows what is there already; one that looks itself, and needs the times of the sample.
    small_run(archive, catalog, {**first, "follower": Follower()})
    assert rows(catalog, "SELECT seen, sampled FROM latest_counts") == [(samples, samples)]
    labels = operators("properties", "labels")
    small_run(archive, catalog, {**labels, "follower": Follower()})
    at_once = tmp_path / "at-once"
    small_run(archive, at_once, labels)
    spans = "SELECT name, start_ms, end_ms, frames FROM latest_spans ORDER BY ALL"
    assert rows(catalog, spans) == rows(at_once, spans) != []
    check_once(catalog)
    assert small_run(archive, catalog, {**labels, "follower": Follower()}).due == 0


def test_one_that_looks_and_one_that_follows_older_rows_come_together(archive: Path, tmp_path: Path) -> None:
    catalog = tmp_path / "catalog"
    first = operators("properties")
    small_run(archive, catalog, first)
    samples = rows(catalog, "SELECT count(*) FROM latest_frames")[0][0]
    second = operators("properties", "shots")
    small_run(archive, catalog, {**second, "follower": Follower()})
    assert rows(catalog, "SELECT seen, sampled FROM latest_counts") == [(samples, samples)]
    assert len(rows(catalog, "FROM latest_segments WHERE kind = 'shot'")) == 1
    check_once(catalog)


def test_a_run_killed_before_the_finish_is_finished_by_the_next(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog = tmp_path / "catalog"
    every = operators("properties", "shots")
    monkeypatch.setattr(Finisher, "_finish", lambda self, videos: 0)
    small_run(archive, catalog, every)
    long = rows(catalog, "SELECT count(*) FROM ledger WHERE window_start_ms IS NOT NULL") != [(0,)]
    assert bool(rows(catalog, "FROM latest_properties")) != long
    monkeypatch.undo()
    monkeypatch.setattr(watch, "WINDOW_MS", WINDOW_MS)
    small_run(archive, catalog, every)
    assert rows(catalog, "SELECT count(*) FROM latest_media") == [(1,)]
    assert len(rows(catalog, "FROM latest_segments WHERE kind = 'shot'")) == 1
    check_once(catalog)


def test_a_new_version_takes_the_place_of_the_old_one_when_it_is_whole(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog = tmp_path / "catalog"
    every = operators("properties")
    small_run(archive, catalog, every)
    before = rows(catalog, "FROM latest_properties ORDER BY frame_ms")
    write_film(archive / "film.mp4", SECONDS, fps=2, size=(160, 90), cuts=[50])
    monkeypatch.setattr(Finisher, "_finish", lambda self, videos: 0)
    small_run(archive, catalog, every)
    assert rows(catalog, "FROM latest_properties ORDER BY frame_ms") == before
    monkeypatch.undo()
    monkeypatch.setattr(watch, "WINDOW_MS", WINDOW_MS)
    small_run(archive, catalog, every)
    assert len(rows(catalog, "FROM latest_properties")) == SECONDS
    check_once(catalog)


def test_what_sees_every_frame_answers_for_one_way_of_cutting() -> None:
    """With every frame in the sample windows are shorter: a film half seen so is not one half seen otherwise."""
    shots = operators("shots")
    prints = {sample: shots["shots"].video_fingerprint(sample, shots) for sample in ("1fps", "2fps", "every-frame")}
    assert prints["1fps"] == prints["2fps"] != prints["every-frame"]


def test_failures_of_windows_that_are_worth_trying_again_make_the_whole_so() -> None:
    from pinakes.jobs.finish import _failures

    looks = [
        {"operator": "labels", "status": "failed", "window_start_ms": start, "error_code": code, "error_message": "m"}
        for start, code in ((0, "corrupt"), (60_000, "unreachable"))
    ]
    code, message = _failures(looks, 3)["labels"]
    assert (code, message) == ("unreachable", "2 of 3 windows failed, one at 60 s: m")
