"""Videos through a run: the same operators and tables as stills, windows that join without a seam, and resume."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pinakes.catalog import Catalog
from pinakes.jobs import watch
from pinakes.operators.operator import Operator, Results, create
from pinakes.operators.properties import Properties
from tests.films import write_film
from tests.jobs.photos import write_photos
from tests.jobs.small_run import loaded, small_run

LIGHT = ("media", "frames", "properties")
WINDOW_MS = 30_000


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten seconds, with a cut after four and a black second at the end."""
    folder = tmp_path_factory.mktemp("short")
    write_film(folder / "short.mp4", 10, cuts=[100], black=[(225, 249)])
    return folder


@pytest.fixture(scope="module")
def long_film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A minute and a quarter: three windows in these tests."""
    folder = tmp_path_factory.mktemp("long")
    write_film(folder / "long.mp4", 75, fps=5, size=(160, 90), cuts=[148, 250], black=[(295, 305)])
    return folder


@pytest.fixture
def short_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "WINDOW_MS", WINDOW_MS)


def operators(*names: str) -> dict[str, Operator]:
    made = {name: create(name) for name in (*LIGHT, *names)}
    for one in made.values():
        one.fetch("cpu")
        one.load()
    return made


def rows(catalog: Path, query: str) -> list[dict[str, Any]]:
    return Catalog(str(catalog)).sql(query).to_pylist()


def test_a_short_video_is_an_item_of_many_pictures(film: Path, tmp_path: Path) -> None:
    write_photos(tmp_path / "archive", 2)
    (tmp_path / "archive" / "film.mp4").write_bytes((film / "short.mp4").read_bytes())
    small_run(tmp_path / "archive", tmp_path / "catalog", loaded(*LIGHT, "labels"))
    (media,) = rows(tmp_path / "catalog", "FROM latest_media WHERE media_type = 'video'")
    facts = ("format", "width", "height", "orientation", "duration_ms", "fps", "codec", "frame_ms", "window_start_ms")
    assert [media[name] for name in facts] == ["mp4", 320, 180, 1, 10_000, 25.0, "h264", None, None]
    frames = rows(tmp_path / "catalog", "FROM latest_frames ORDER BY frame_ms")
    assert [row["frame_ms"] for row in frames] == [1000 * second for second in range(10)]
    assert {row["sampling"] for row in frames} == {"1fps"}
    seen = rows(tmp_path / "catalog", "SELECT frame_ms FROM latest_properties WHERE uri LIKE '%film.mp4' ORDER BY 1")
    assert [row["frame_ms"] for row in seen] == [1000 * second for second in range(10)]
    ledger = rows(tmp_path / "catalog", "FROM latest_ledger WHERE uri LIKE '%film.mp4'")
    assert {(row["operator"], row["status"], row["window_start_ms"]) for row in ledger} == {
        (name, "ok", None) for name in (*LIGHT, "labels")
    }
    stills = rows(tmp_path / "catalog", "FROM latest_ledger WHERE uri LIKE '%.jpg'")
    assert {row["operator"] for row in stills} == {"media", "properties", "labels"}
    # The picture of a frame is what the operator was shown: black, at the end.
    black = "SELECT frame_ms FROM latest_properties WHERE brightness < 0.02 AND frame_ms IS NOT NULL"
    black = "SELECT frame_ms FROM latest_properties WHERE brightness < 0.02 AND frame_ms IS NOT NULL"
    dark = rows(tmp_path / "catalog", black)
    dark = rows(tmp_path / "catalog", black)
    assert [row["frame_ms"] for row in dark] == [9000]
    spans = rows(tmp_path / "catalog", "FROM latest_spans")
    assert spans
    assert all(0 <= span["start_ms"] < span["end_ms"] <= 10_000 for span in spans)
    assert small_run(tmp_path / "archive", tmp_path / "catalog", loaded(*LIGHT, "labels")).due == 0


def test_rows_do_not_depend_on_how_a_video_was_cut(
    long_film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = operators("shots", "labels", "tracks")
    found = {}
    for length in (WINDOW_MS, 10 * WINDOW_MS):
        monkeypatch.setattr(watch, "WINDOW_MS", length)
        catalog = tmp_path / str(length)
        small_run(long_film, catalog, every)
        bookkeeping = "n, run_id, attempt, window_start_ms"
        found[length] = {
            table: rows(catalog, f"SELECT * EXCLUDE ({bookkeeping}) FROM latest_{table} ORDER BY ALL")
            for table in ("media", "frames", "properties", "labels", "spans", "segments", "tracks")
        }
        windows = rows(catalog, "SELECT DISTINCT window_start_ms AS start FROM latest_labels ORDER BY 1")
        assert [row["start"] for row in windows] == ([0, 30_000, 60_000] if length == WINDOW_MS else [None])
    assert found[WINDOW_MS] == found[10 * WINDOW_MS]
    shots = [row for row in found[WINDOW_MS]["segments"] if row["kind"] == "shot"]
    assert {148, 250} <= {row["start_frame"] for row in shots}


class Killed(BaseException):
    """As if the process died."""


class Stumbling(Properties):
    """Dies, or fails, on frames from some time on, as long as `stumbles` is set."""

    stumbles: type[BaseException] | None = None

    def look(self, pictures: Any) -> Results:
        late = [one for one in pictures if (one.frame_ms or 0) >= WINDOW_MS and (one.frame_ms or 0) < 2 * WINDOW_MS]
        if self.stumbles is not None and late:
            raise self.stumbles("here")
        return super().look(pictures)


@pytest.fixture
def stumbling() -> Iterator[dict[str, Operator]]:
    made = operators()
    made["properties"] = Stumbling()
    yield made
    Stumbling.stumbles = None


@pytest.mark.usefixtures("short_windows")
def test_a_run_goes_on_in_the_middle_of_a_video(
    long_film: Path, tmp_path: Path, stumbling: dict[str, Operator]
) -> None:
    Stumbling.stumbles = Killed
    with pytest.raises(Killed):
        small_run(long_film, tmp_path / "catalog", stumbling)
    done = rows(tmp_path / "catalog", "SELECT window_start_ms FROM ledger WHERE operator = 'properties'")
    assert WINDOW_MS not in [row["window_start_ms"] for row in done]
    assert rows(tmp_path / "catalog", "FROM latest_properties") == []
    Stumbling.stumbles = None
    small_run(long_film, tmp_path / "catalog", stumbling)
    looks = rows(
        tmp_path / "catalog",
        "SELECT operator, window_start_ms, count(*) AS n, min(status) AS s FROM ledger GROUP BY ALL",
    )
    assert {(row["n"], row["s"]) for row in looks} == {(1, "ok")}
    usage = "SELECT sum(amount) AS minutes, sum(rounded_amount) AS begun FROM usage WHERE operator = 'properties'"
    assert rows(tmp_path / "catalog", usage) == [{"minutes": 1.25, "begun": 2}]
    starts = {row["window_start_ms"] for row in looks if row["operator"] == "properties"}
    assert starts == {None, 0, WINDOW_MS, 2 * WINDOW_MS}
    times = rows(tmp_path / "catalog", "SELECT frame_ms FROM latest_properties ORDER BY 1")
    assert [row["frame_ms"] for row in times] == [1000 * second for second in range(75)]


@pytest.mark.usefixtures("short_windows")
def test_a_window_that_fails_costs_itself_alone_and_is_tried_again_alone(
    long_film: Path, tmp_path: Path, stumbling: dict[str, Operator]
) -> None:
    Stumbling.stumbles = ValueError
    small_run(long_film, tmp_path / "catalog", stumbling)
    (row,) = rows(tmp_path / "catalog", "FROM latest_ledger WHERE operator = 'properties' AND window_start_ms IS NULL")
    assert (row["status"], row["error_code"]) == ("failed", "operator_failed")
    assert row["error_message"] == "1 of 3 windows failed, one at 30 s: at 30.000 s: ValueError: here"
    times = rows(tmp_path / "catalog", "SELECT frame_ms FROM latest_properties ORDER BY 1")
    assert [row["frame_ms"] for row in times] == [1000 * second for second in (*range(30), *range(60, 75))]
    usage = "SELECT sum(amount) AS minutes, sum(cpu_s) > 0 AS took FROM usage WHERE operator = 'properties'"
    assert rows(tmp_path / "catalog", usage) == [{"minutes": 0, "took": True}], "what failed is no unit"
    assert small_run(long_film, tmp_path / "catalog", stumbling).due == 0
    Stumbling.stumbles = None
    small_run(long_film, tmp_path / "catalog", stumbling, failed_only=True)
    looks = rows(
        tmp_path / "catalog", "SELECT window_start_ms, attempt, status FROM ledger WHERE operator = 'properties'"
    )
    assert {tuple(row.values()) for row in looks} == {
        (0, 1, "ok"), (WINDOW_MS, 1, "failed"), (2 * WINDOW_MS, 1, "ok"), (None, 1, "failed"),
        (WINDOW_MS, 2, "ok"), (None, 2, "ok"),
    }  # fmt: skip
    times = rows(tmp_path / "catalog", "SELECT frame_ms FROM latest_properties ORDER BY 1")
    assert [row["frame_ms"] for row in times] == [1000 * second for second in range(75)]
    (units,) = rows(tmp_path / "catalog", "SELECT sum(amount) AS minutes FROM usage WHERE operator = 'properties'")
    assert units == {"minutes": 1.25}
