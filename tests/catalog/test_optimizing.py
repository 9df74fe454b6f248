"""Optimizing leaves what counts as it was, and drops what nothing can bring back."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import polars
import pyarrow as pa
import pyarrow.dataset as ds
import pytest
from deltalake import DeltaTable

from pinakes.catalog import Catalog, commits, live, milvus, optimizing
from pinakes.catalog.catalog import new_run_id
from pinakes.catalog.errors import BusyCatalogError, CollectionError
from pinakes.catalog.face_collections import Collections
from pinakes.catalog.face_loading import index
from pinakes.catalog.optimizing import Optimized, optimize
from pinakes.catalog.people import vectors_of
from pinakes.catalog.schema import LEDGER, result_schema
from pinakes.jobs import cli
from tests.catalog.face_rows import add
from tests.drawn_faces import TABLES, add_faces, ask, identities

PICTURES = [f"file:///archive/{number}.jpg" for number in range(8)]
RETRIED = "file:///archive/retried.jpg"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Milvus Lite keeps what it has here."""
    monkeypatch.setenv("PINAKES_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight pictures with two faces each, one commit a picture; two have a newer version, one was looked at with other
    settings since, and a ninth was tried twice."""
    folder = tmp_path_factory.mktemp("made") / "catalog"
    catalog = Catalog(str(folder), create=True)
    vectors = identities(8, 2).reshape(8, 2, 128)
    for uri, found in zip(PICTURES, vectors, strict=True):
        add_faces(catalog, [uri], [found])
    add_faces(catalog, PICTURES[:2], identities(2, 1, seed=1)[:, None], version="2")
    add_faces(catalog, PICTURES[2:3], identities(1, 1, seed=2)[:, None], fingerprint="settings-2")
    look(catalog, RETRIED, "failed", attempt=1)
    look(catalog, RETRIED, "ok", attempt=2)
    return folder


@pytest.fixture
def catalog(made: Path, tmp_path: Path) -> Catalog:
    return Catalog(str(shutil.copytree(made, tmp_path / "catalog")))


def look(
    catalog: Catalog,
    uri: str,
    status: str,
    attempt: int = 1,
    *,
    key: str | None = None,
    fingerprint: str = "boxes-1",
    window: int | None = None,
    run_id: str | None = None,
) -> None:
    """A commit of one look, with a face if it is ok."""
    shared = {"uri": uri, "item_key": key or f"key of {uri}", "model": "boxes", "fingerprint": fingerprint}
    shared |= {"attempt": attempt, "window_start_ms": window}
    done = {"operator": "boxes", "status": status, "results": 1, "finished_at": datetime.now(UTC)}
    box = {"left": 0.1, "top": 0.1, "width": 0.1, "height": 0.1}
    face = {"face_id": f"{uri} {attempt} {window}", "box": box, "confidence": 0.5}
    face |= {"pose": None, "quality": {"brightness": 0.5, "sharpness": 0.5}}
    rows = {"ledger": [{**shared, **done}], "faces": [{**shared, **face}] if status == "ok" else []}
    schemas = {"ledger": LEDGER, "faces": result_schema(TABLES["faces"])}
    log = catalog.commit_log(run_id or new_run_id(), TABLES, catalog.finish())
    log.commit(
        {
            name: pa.Table.from_pylist(
                found, pa.schema([field for field in schemas[name] if field.name not in ("run_id", "n")])
            )
            for name, found in rows.items()
        }
    )


def counting(catalog: Catalog) -> dict[str, list[str]]:
    """Every row that counts, by view."""
    views = [name for name in ("latest_ledger", "latest_media", "latest_faces", "latest_embeddings")]
    return {name: sorted(map(repr, catalog.sql(f"FROM {name}").to_pylist())) for name in views}


def dropped(done: Optimized) -> dict[str, int]:
    return {one.table: one.rows_dropped for one in done.tables if one.rows_dropped}


def test_what_nothing_brings_back_goes_and_what_counts_stays(catalog: Catalog) -> None:
    before = counting(catalog)
    numbers = {name: catalog.table(name).transaction_version("pinakes") for name in ("ledger", "faces", "commits")}
    dry = optimize(catalog, dry_run=True)
    assert counting(catalog) == before
    done = optimize(catalog)
    assert counting(catalog) == before
    # Two old versions of two operators each and a failed look; of faces those of the old versions.
    assert done.looks == dry.looks == {"attempt": 1, "version": 4}
    assert done.kept_looks == 1
    assert dropped(done) == dropped(dry) == {"ledger": 5, "media": 2, "faces": 4, "embeddings": 4}
    assert {one.table: one.parts for one in done.tables} == {one.table: one.parts for one in dry.tables}
    for one in done.tables:
        table = catalog.table(one.table)
        assert one.parts == len(table.file_uris()) == min(one.parts_before, 1), one.table
        assert table.to_pyarrow_table().num_rows == sum(pa.table(table.get_add_actions())["num_records"].to_pylist())
    assert {name: catalog.table(name).transaction_version("pinakes") for name in numbers} == numbers
    assert catalog.sql("SELECT n FROM commits ORDER BY n")["n"].to_pylist() == list(range(1, 13))
    assert dropped(optimize(catalog)) == {}


def test_another_engine_reads_it_and_its_log_holds_no_text(catalog: Catalog, tmp_path: Path) -> None:
    schema = catalog.table("faces").to_pyarrow_dataset().schema
    optimize(catalog)
    table = DeltaTable(str(tmp_path / "catalog" / "faces"))
    wanted = ds.field("uri") == PICTURES[5]
    assert table.to_pyarrow_dataset().schema.equals(schema, check_metadata=True)
    assert (table.protocol().min_reader_version, table.protocol().reader_features) == (1, None)
    assert table.protocol().min_writer_version <= 2
    assert table.to_pyarrow_dataset().to_table(filter=wanted).num_rows == 2
    for path in table.file_uris():
        assert pa.types.is_string(ds.dataset(path).schema.field("uri").type)
        assert duckdb.sql(f"FROM '{path}' WHERE uri = '{PICTURES[5]}'").fetchall()
    found = polars.read_delta(str(tmp_path / "catalog" / "faces")).filter(polars.col("uri") == PICTURES[5])
    assert found.height == 2
    for name in catalog.tables():
        for entry in (tmp_path / "catalog" / name / "_delta_log").glob("*.json"):
            assert "archive/" not in entry.read_text(), entry
        parts = pa.table(catalog.table(name).get_add_actions(flatten=True))
        for column in (one for one in parts.column_names if one.startswith("min.")):
            kind = parts[column].type
            assert pa.types.is_integer(kind) or pa.types.is_timestamp(kind) or pa.types.is_null(kind), column


def test_other_settings_go_when_that_is_asked_for_and_then_are_looked_at_again(catalog: Catalog) -> None:
    before = counting(catalog)
    done = optimize(catalog, drop_superseded=True)
    assert done.looks == {"attempt": 1, "version": 4, "settings": 1}
    assert counting(catalog) == before
    ask(catalog, new_run_id(), "settings-1")
    known = catalog.sql("SELECT uri FROM ledger WHERE fingerprint = 'settings-1'")["uri"].to_pylist()
    assert PICTURES[2] not in known  # a plan goes by this
    # Looked at again it has the same attempt as before, and counts once.
    add_faces(catalog, PICTURES[2:3], identities(8, 2).reshape(8, 2, 128)[2:3])
    assert catalog.sql(f"FROM latest_faces WHERE uri = '{PICTURES[2]}'").num_rows == 2


def test_settings_of_a_run_at_work_stay(catalog: Catalog) -> None:
    run_id = new_run_id()
    ask(catalog, run_id, "settings-1")
    ask(catalog, new_run_id(), "settings-2")
    with live.live(catalog.storage, run_id):
        assert "settings" not in optimize(catalog, drop_superseded=True).looks
    assert optimize(catalog, drop_superseded=True).looks["settings"] == 1


def test_nobody_begins_while_settings_leave_the_ledger(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    """It might plan by looks that are about to go."""
    refused = {}
    write_anew = optimizing._write_anew

    def meanwhile(catalog: Catalog, table: str, *rest: Any) -> Any:
        try:
            with live.live(catalog.storage, "beginner"):
                refused[table] = ""
        except BusyCatalogError as error:
            refused[table] = str(error)
        return write_anew(catalog, table, *rest)

    monkeypatch.setattr(optimizing, "_write_anew", meanwhile)
    optimize(catalog)
    assert set(refused.values()) == {""}
    optimize(catalog, drop_superseded=True)
    assert [table for table, said in refused.items() if said] == ["ledger"]
    assert "rows or files are being removed" in refused["ledger"]


def test_while_a_run_begins_that_has_not_said_its_settings_all_stay(catalog: Catalog) -> None:
    with live.live(catalog.storage, new_run_id()):
        assert "settings" not in optimize(catalog, drop_superseded=True).looks


def test_a_film_that_is_not_finished_keeps_its_windows(catalog: Catalog) -> None:
    film = "file:///archive/film.mp4"
    for window in (0, 300_000):
        look(catalog, film, "ok", window=window)
    optimize(catalog, drop_superseded=True)
    windows = f"FROM faces WHERE uri = '{film}' ORDER BY window_start_ms, attempt"
    assert catalog.sql(windows).num_rows == 2
    # Done, and one window of it looked at again: then that counts, and the other stands.
    look(catalog, film, "ok")
    look(catalog, film, "ok", attempt=2, window=0)
    look(catalog, film, "ok", attempt=2)
    counts = catalog.sql(windows.replace("faces", "latest_faces")).to_pylist()
    with live.live(catalog.storage, new_run_id()):  # which may be at this film
        optimize(catalog)
    assert catalog.sql(windows).num_rows == 5
    optimize(catalog)
    assert catalog.sql(windows).to_pylist() == counts
    assert [(row["window_start_ms"], row["attempt"]) for row in counts] == [(0, 2), (300_000, 1), (None, 2)]
    # Another version of it goes with all its windows.
    look(catalog, film, "ok", key="another version")
    assert optimize(catalog).looks == {"version": 3}


def test_a_collection_and_its_people_stay_right(catalog: Catalog) -> None:
    def held() -> set[str]:
        there = Collections(catalog).get("people")
        with milvus.opened(there.milvus_name, there.milvus) as vectors:
            rows = vectors._client.query(there.milvus_name, filter="confidence >= 0", output_fields=["face_id"])
        return {row["face_id"] for row in rows}

    index(catalog, "people")
    old = catalog.sql(f"SELECT face_id FROM latest_faces WHERE uri = '{PICTURES[4]}'")["face_id"].to_pylist()
    newer = {"version": "2", "fingerprint": "settings-2"}
    add_faces(catalog, PICTURES[4:6], identities(2, 1, seed=3)[:, None], **newer)
    # One of the old version's faces is somebody's reference.
    add(catalog.url, "people", {"collection": "people", "person_id": "a", "name": "Ada", "face_id": old[0]})
    done = optimize(catalog)
    assert dropped(done)["embeddings"] == 6  # two of three pictures whose versions are old, and not of that one
    assert set(vectors_of(catalog, old)) == set(old)
    loaded = index(catalog, "people")
    assert (loaded.removed, loaded.added) == (4, 2)
    latest = catalog.sql("SELECT subject_id FROM latest_embeddings WHERE subject = 'face'")["subject_id"].to_pylist()
    assert held() == set(latest)
    assert index(catalog, "people").removed == 0


def test_a_collection_of_another_model_is_not_emptied_without_a_word(catalog: Catalog) -> None:
    index(catalog, "people")
    add_faces(catalog, PICTURES, identities(8, 1, 64)[:, None], version="2", model="other-1", fingerprint="other")
    optimize(catalog, drop_superseded=True)
    with pytest.raises(CollectionError, match="have been looked at with other-1"):
        index(catalog, "people")


def test_a_second_one_and_a_forgetting_keep_out(catalog: Catalog) -> None:
    before = catalog.table("ledger").version()
    with live.live(catalog.storage, "optimize-other"), pytest.raises(BusyCatalogError, match="another `pinakes opti"):
        optimize(catalog)
    with live.forgetting(catalog.storage, "receipt"), pytest.raises(BusyCatalogError, match="being forgotten"):
        optimize(catalog)
    with (
        live.live(catalog.storage, "optimize-other"),
        pytest.raises(BusyCatalogError, match="a command that optimizes is at work"),
        live.forgetting(catalog.storage, "receipt"),
    ):
        pass
    assert catalog.table("ledger").version() == before


def test_history_stays_as_long_as_was_asked_for(catalog: Catalog, tmp_path: Path) -> None:
    def files() -> int:
        return len(list((tmp_path / "catalog" / "faces").glob("*.parquet")))

    orphan = tmp_path / "catalog" / "faces" / "n0000000099-of-a-run-at-work.parquet"
    orphan.write_bytes(b"not committed yet")
    before = files()
    snapshot = catalog.table("faces")
    done = optimize(catalog)
    assert files() == before + 1
    assert not any(one.freed_bytes for one in done.tables)
    assert snapshot.to_pyarrow_table().num_rows == 20  # who began to read before goes on
    run = live.live(catalog.storage, new_run_id())
    with ThreadPoolExecutor(1) as another:
        another.submit(run.__enter__).result()
        assert "another process is at work" in optimize(catalog, keep_days=0).remarks[0]
        another.submit(run.__exit__, None, None, None).result()
    assert files() == before + 1
    catalog.table("faces").create_checkpoint()
    done = optimize(catalog, keep_days=0)
    assert files() == 2
    assert orphan.exists()
    assert next(one.freed_bytes for one in done.tables if one.table == "faces") > 0
    assert not any(one.freed_bytes for one in optimize(catalog, keep_days=0).tables)


def test_large_parts_are_left_alone_and_small_ones_put_together(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(optimizing, "PART_BYTES", 25_000)
    done = {one.table: one for one in optimize(catalog).tables}
    assert 1 < done["faces"].parts < done["faces"].parts_before
    parts = pa.table(catalog.table("faces").get_add_actions(flatten=True)).sort_by("min.n")
    lows, highs = parts["min.n"].to_numpy(), parts["max.n"].to_numpy()
    assert np.all(lows[1:] > highs[:-1])  # so that who asks for some commits reads few parts


def test_killed_after_the_ledger_the_next_one_finds_the_rows(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = counting(catalog)
    rewrite = optimizing._write_anew

    def dies(catalog: Catalog, name: str, *rest: object) -> object:
        if name != "ledger":
            raise KeyboardInterrupt
        return rewrite(catalog, name, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(optimizing, "_write_anew", dies)
    with pytest.raises(KeyboardInterrupt):
        optimize(catalog, drop_superseded=True)
    monkeypatch.undo()
    assert counting(catalog) == before
    assert catalog.sql("SELECT count(*) AS n FROM faces").to_pylist() == [{"n": 20}]
    states = tmp_path / "catalog" / "_pinakes" / "optimizing"
    assert len(json.loads(next(states.iterdir()).read_text())["numbers"]) == 4
    # A run with the earlier settings looks again meanwhile: its rows are told from those that were left.
    ask(catalog, new_run_id(), "settings-1")
    add_faces(catalog, PICTURES[2:3], identities(8, 2).reshape(8, 2, 128)[2:3])
    before = counting(catalog)
    assert catalog.sql(f"FROM latest_faces WHERE uri = '{PICTURES[2]}'").num_rows == 2
    done = optimize(catalog)
    assert dropped(done) == {"media": 2, "faces": 6, "embeddings": 6}
    assert counting(catalog) == before
    assert not list(states.iterdir())
    assert commits.applied(catalog.table("ledger")) == 13


def test_the_command(catalog: Catalog, capsys: pytest.CaptureFixture[str]) -> None:
    def said(*arguments: str) -> tuple[int, str]:
        command = ["optimize", "--catalog", catalog.url, *arguments]
        code = cli.guarded(lambda: cli.app(command, standalone_mode=False))
        return code, capsys.readouterr().out

    code, answer = said("--dry-run")
    assert code == 0
    assert "nothing was changed" in answer
    assert "4 looks of an older version of a file: would be dropped" in answer
    assert "--drop-superseded drops them" in answer
    code, answer = said("--drop-superseded", "--keep-history", "0", "--json")
    done = json.loads(answer)
    assert (code, done["looks"]) == (0, {"attempt": 1, "settings": 1, "version": 4})
    assert sum(one["freed_bytes"] for one in done["tables"]) > 0
