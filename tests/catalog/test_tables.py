"""The tables of a real run, as other engines see them."""

import json
import os
from pathlib import Path

import duckdb
import polars
import pyarrow as pa
import pytest
from deltalake import DeltaTable

from pinakes.catalog import Catalog
from pinakes.operators.operator import available, by_default
from tests.films import write_film
from tests.jobs.small_run import loaded, small_jpeg, small_run, stop_sign


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every operator over a stop sign, a plain picture and a film, and a broken picture in a second run."""
    folder = tmp_path_factory.mktemp("real")
    archive = folder / "archive"
    archive.mkdir()
    (archive / "stop sign.jpg").write_bytes(stop_sign())
    (archive / "plain.jpg").write_bytes(small_jpeg())
    write_film(archive / "film.mp4", 3)
    operators = loaded(*by_default())
    small_run(archive, folder / "catalog", operators)
    (archive / "truncated secret.jpg").write_bytes(stop_sign()[:-2000])
    small_run(archive, folder / "catalog", operators)
    return folder / "catalog"


@pytest.fixture(scope="module")
def tables(url: Path) -> dict[str, DeltaTable]:
    return {name: DeltaTable(str(url / name)) for name in Catalog(str(url)).tables()}


def test_there_is_a_table_for_every_operator_and_four_more(tables: dict[str, DeltaTable]) -> None:
    classes = [entry.load() for entry in available().values()]
    filled = {table for one in classes for table in (*one.tables, *one.video_tables)}
    assert set(tables) == {"commits", "ledger", "runs", "usage"} | filled
    assert {"media", "labels", "objects"} <= filled


def test_every_column_says_what_it_means(tables: dict[str, DeltaTable]) -> None:
    for name, table in tables.items():
        for field in table.schema().fields:
            assert len(str(field.metadata.get("description", ""))) > 5, f"{name}.{field.name}"


def test_no_table_needs_a_feature_that_an_engine_may_lack(tables: dict[str, DeltaTable]) -> None:
    for name, table in tables.items():
        protocol = table.protocol()
        assert (protocol.min_reader_version, protocol.reader_features) == (1, None), name
        assert protocol.min_writer_version <= 2, name
        assert table.metadata().partition_columns == [], name
        configuration = table.metadata().configuration
        assert not {key for key in configuration if "columnMapping" in key or "DeletionVectors" in key}, name
        for field in pa.schema(table.schema().to_arrow()):
            assert not pa.types.is_timestamp(field.type) or field.type.tz == "UTC", f"{name}.{field.name}"


def test_statistics_hold_numbers_and_times_only(url: Path, tables: dict[str, DeltaTable]) -> None:
    # They would outlive a deletion of the rows: every version of the log keeps them.
    seen = 0
    for name, table in tables.items():
        text = {
            field.name
            for field in pa.schema(table.schema().to_arrow())
            if not (
                pa.types.is_integer(field.type) or pa.types.is_floating(field.type) or pa.types.is_timestamp(field.type)
            )
        }
        for entry in sorted((url / name / "_delta_log").glob("*.json")):
            assert "stop sign" not in entry.read_text()
            assert str(url.parent / "archive") not in entry.read_text()
            for line in entry.read_text().splitlines():
                action = json.loads(line).get("add")
                if action is None:
                    continue
                statistics = json.loads(action["stats"])
                seen += 1
                for kind in ("minValues", "maxValues", "nullCount"):
                    assert not text & set(statistics[kind]), f"{name} {kind}"
                assert statistics["numRecords"] > 0
                if name != "runs":
                    assert statistics["minValues"]["n"] == statistics["maxValues"]["n"] > 0
    assert seen >= 6


#: Of a stop sign and its like there are no faces or people, and they offend nobody.
NOTHING_SEEN = ("faces", "embeddings", "moderation", "tracks")


def test_deltalake_duckdb_and_polars_read_the_same_rows(url: Path, tables: dict[str, DeltaTable]) -> None:
    catalog = Catalog(str(url))
    for name, table in tables.items():
        ours = catalog.sql(f'SELECT * FROM "{name}"')
        arrow = table.to_pyarrow_table()
        files = table.file_uris()
        if name in NOTHING_SEEN:
            assert (ours.num_rows, arrow.num_rows, files) == (0, 0, [])
            continue
        with duckdb.connect() as connection:
            count = connection.execute("SELECT count(*) FROM read_parquet($files)", {"files": files}).fetchone()
        frame = polars.read_delta(str(url / name))
        assert count == (ours.num_rows,)
        assert ours.num_rows == arrow.num_rows == frame.height > 0
        assert ours.column_names == arrow.column_names == frame.columns
        if "n" in ours.column_names:
            order = [("n", "ascending"), (ours.column_names[1], "ascending")]
            assert ours.sort_by(order)["n"].to_pylist() == sorted(frame["n"].to_list())
    boxes = polars.read_delta(str(url / "objects")).filter(polars.col("name") == "stop sign")
    assert boxes.height == 1
    box = boxes["box"].struct.unnest().row(0, named=True)
    assert box["left"] < 0.5 < box["left"] + box["width"]


def test_another_engine_can_tell_what_is_current(url: Path) -> None:
    """The views are ours alone, so their rule must be plain enough for a query of anybody's."""
    ledger = polars.read_delta(str(url / "ledger"))
    newest = ledger.sort("n", "attempt").unique(["uri", "operator"], keep="last").filter(polars.col("status") == "ok")
    look = ["item_key", "fingerprint", "attempt"]
    objects = polars.read_delta(str(url / "objects")).join(newest, on=look, how="semi")
    ours = Catalog(str(url)).sql("FROM latest_objects")
    assert objects.height == ours.num_rows > 0


def test_no_file_is_left_that_no_table_names(url: Path, tables: dict[str, DeltaTable]) -> None:
    there = {str(path) for path in url.rglob("*.parquet") if "_delta_log" not in path.parts}
    named = {os.path.abspath(path) for table in tables.values() for path in table.file_uris()}
    assert there == named
    assert [path.name for path in (url / "_pinakes").rglob("*") if path.is_file()] == ["catalog.json"]
