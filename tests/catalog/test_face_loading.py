"""A collection holds what `latest_embeddings` has of its model: after every kind of change, and on any Milvus."""

import json
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pymilvus import MilvusClient

from pinakes.catalog import Catalog, collection_definition, face_collections, face_loading, milvus
from pinakes.catalog.catalog import new_run_id
from pinakes.catalog.collection_definition import Definition
from pinakes.catalog.errors import CollectionError, QueryError
from pinakes.catalog.face_collections import Collection, Collections, append
from pinakes.catalog.face_loading import drop, index, rebuild
from pinakes.catalog.face_quality import QualityLimits
from pinakes.catalog.face_tables import SUPPRESSIONS
from tests.drawn_faces import MODEL, add_faces, ask, identities


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Milvus Lite keeps what it has here."""
    monkeypatch.setenv("PINAKES_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "faces"


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return Catalog(str(tmp_path / "catalog"), create=True)


def held(catalog: Catalog, name: str) -> set[str]:
    """The ids that Milvus itself says it has."""
    there = Collections(catalog).get(name)
    with milvus.opened(there.milvus_name, there.milvus) as vectors:
        if not vectors.exists:
            return set()
        rows = vectors._client.query(
            there.milvus_name,
            filter="confidence >= 0",
            output_fields=["face_id"],
            limit=16384,
            consistency_level="Strong",
        )
    return {row["face_id"] for row in rows}


def latest(catalog: Catalog, model: str = MODEL) -> set[str]:
    rows = catalog.sql(f"SELECT subject_id FROM latest_embeddings WHERE subject = 'face' AND model = '{model}'")
    return set(rows["subject_id"].to_pylist())


def photos(count: int, first: int = 0) -> list[str]:
    return [f"file:///archive/{number}.jpg" for number in range(first, first + count)]


def test_what_is_new_is_loaded_and_nothing_twice(catalog: Catalog) -> None:
    vectors = identities(10, 4).reshape(20, 2, 128)
    add_faces(catalog, photos(20), vectors)
    first = index(catalog, "people")
    assert (first.added, first.removed, first.collection.faces) == (40, 0, 40)
    assert held(catalog, "people") == latest(catalog)
    again = index(catalog, "people")
    assert (again.added, again.removed, again.collection.faces) == (0, 0, 40)
    add_faces(catalog, photos(5, 100), identities(5, 1, seed=1)[:, None])
    more = index(catalog, "people")
    assert (more.added, more.collection.faces) == (5, 45)
    assert held(catalog, "people") == latest(catalog)


@pytest.mark.parametrize("where", ["lite", "server"])
def test_what_counts_no_more_leaves(catalog: Catalog, where: str, request: pytest.FixtureRequest) -> None:
    place = request.getfixturevalue("milvus") if where == "server" else None
    asked = Definition(milvus=place)
    old = add_faces(catalog, photos(6), identities(6, 2).reshape(6, 2, 128))
    index(catalog, "people", asked)
    # Another version of two pictures, with one face each; and other settings for the third.
    add_faces(catalog, photos(2), identities(2, 1, seed=2)[:, None], version="2")
    after = index(catalog, "people", wait=False)
    assert (after.added, after.removed, after.collection.faces) == (2, 4, 10)
    assert held(catalog, "people") == latest(catalog)
    assert not held(catalog, "people") & {*old[0], *old[1]}
    add_faces(catalog, [photos(3)[2]], identities(1, 1, seed=3)[:, None], fingerprint="settings-2")
    assert index(catalog, "people", wait=False).removed == 2
    assert held(catalog, "people") == latest(catalog)
    # A run that asks for the first settings again commits nothing, and yet its faces count again.
    ask(catalog, new_run_id(), "settings-1")
    back = index(catalog, "people", wait=False)
    assert (back.added, back.removed) == (2, 1)
    assert set(old[2]) <= held(catalog, "people")
    assert held(catalog, "people") == latest(catalog)
    assert rebuild(catalog, "people").collection.faces == back.collection.faces
    assert held(catalog, "people") == latest(catalog)
    if place:
        there = Collections(catalog).get("people").milvus_name
        ours = [name for name in MilvusClient(place).list_collections() if name.startswith("people_")]
        assert ours == [there]  # the one before the rebuilding is gone
    drop(catalog, "people")
    assert not Collections(catalog).all()
    if place:
        assert there not in MilvusClient(place).list_collections()


def test_the_table_says_what_was_done_with_each_face(catalog: Catalog) -> None:
    add_faces(catalog, photos(3), identities(3, 1)[:, None], sharpness=[0.9, 0.001, 0.9])
    loaded = index(catalog, "people", Definition(quality=QualityLimits()))
    assert loaded.left_out == {"blurred": 1}
    assert loaded.collection.left_out == 1
    rows = catalog.sql("SELECT uri, action, reasons FROM collection_faces ORDER BY uri").to_pylist()
    assert [(row["action"], row["reasons"]) for row in rows] == [
        ("indexed", None),
        ("left_out", ["blurred"]),
        ("indexed", None),
    ]
    assert index(catalog, "people").left_out == {}  # told once


def test_a_condition_chooses_and_is_kept(catalog: Catalog) -> None:
    add_faces(catalog, photos(4), identities(4, 1)[:, None], ages=[10, 20, 30, 40])
    asked = Definition(condition="age > 15 AND uri NOT LIKE '%/3.jpg'")
    assert index(catalog, "adults", asked).collection.faces == 2
    add_faces(catalog, photos(2, 10), identities(2, 1, seed=1)[:, None], ages=[5, 50])
    assert index(catalog, "adults").collection.faces == 3
    with pytest.raises(CollectionError, match="its condition is age > 15"):
        index(catalog, "adults", Definition(condition="age > 20"))
    assert rebuild(catalog, "adults", Definition(condition="age > 45")).collection.faces == 1
    with pytest.raises(QueryError, match="one SQL expression over face_id, uri"):
        index(catalog, "others", Definition(condition="height > 3"))
    with pytest.raises(QueryError):
        index(catalog, "others", Definition(condition="true; DROP TABLE faces"))


def test_a_collection_is_of_one_model(catalog: Catalog) -> None:
    add_faces(catalog, photos(3), identities(3, 1)[:, None])
    index(catalog, "people")
    before = held(catalog, "people")
    with pytest.raises(CollectionError, match=r"vectors are of the model drawn-1, not other-1.*rebuild people"):
        index(catalog, "people", Definition(model="other-1"))
    # Looked at anew with another model: the collection would be empty without a word.
    add_faces(catalog, photos(3), identities(3, 1, 64)[:, None], model="other-1", fingerprint="other")
    with pytest.raises(CollectionError, match=r"3 of its items have been looked at with other-1.*--model other-1"):
        index(catalog, "people")
    assert held(catalog, "people") == before
    assert rebuild(catalog, "people", Definition(model="other-1")).collection.dimensions == 64
    assert held(catalog, "people") == latest(catalog, "other-1")


def test_a_catalogue_without_faces_says_so(catalog: Catalog) -> None:
    with pytest.raises(CollectionError, match="no vectors of faces yet: `pinakes run SOURCE --operators faces`"):
        index(catalog, "people")
    with pytest.raises(CollectionError, match="has no collection 'people'"):
        rebuild(catalog, "people")


def test_what_milvus_lost_is_loaded_anew(catalog: Catalog, cache: Path) -> None:
    add_faces(catalog, photos(4), identities(4, 1)[:, None])
    name = index(catalog, "people").collection.milvus_name
    milvus.remove(name, None)
    said: list[str] = []
    assert index(catalog, "people", report=said.append).collection.faces == 4
    assert held(catalog, "people") == latest(catalog)
    assert "does not have people any more" in said[0]
    there = Collections(catalog).get("people")
    with milvus.opened(there.milvus_name, None) as vectors:
        vectors.remove(sorted(latest(catalog))[:1])
    index(catalog, "people", report=said.append)
    assert held(catalog, "people") == latest(catalog)
    assert "has 3 faces of people, and it should be 4" in said[-1]
    assert [one.name for one in cache.glob("*.db")] == [Collections(catalog).get("people").milvus_name + ".db"]


def test_a_broken_off_load_goes_on(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    add_faces(catalog, photos(30), identities(30, 1)[:, None])
    monkeypatch.setattr(face_loading, "STEP", 10)
    whole = face_loading.append
    calls = []

    def broken(catalog: Catalog, table: str, rows: pa.Table) -> None:
        calls.append(table)
        if len(calls) == 2:
            raise KeyboardInterrupt
        whole(catalog, table, rows)

    monkeypatch.setattr(face_loading, "append", broken)
    with pytest.raises(KeyboardInterrupt):
        index(catalog, "people")
    monkeypatch.setattr(face_loading, "append", whole)
    assert 0 < len(held(catalog, "people")) < 30
    rest = index(catalog, "people")
    assert rest.added < 30
    assert rest.collection.faces == 30
    assert held(catalog, "people") == latest(catalog)


def test_a_load_that_died_before_its_last_word_goes_on(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    add_faces(catalog, photos(4), identities(4, 1)[:, None])
    whole = Collections.record

    def broken(collections: Collections, row: Collection) -> bool:
        if row.action == "loaded":
            raise KeyboardInterrupt
        return whole(collections, row)

    monkeypatch.setattr(Collections, "record", broken)
    with pytest.raises(KeyboardInterrupt):
        index(catalog, "people")
    monkeypatch.setattr(Collections, "record", whole)
    done = index(catalog, "people").collection
    assert (done.faces, done.dimensions) == (4, 128)
    assert done.index_chosen is not None
    assert held(catalog, "people") == latest(catalog)


def test_faces_that_are_suppressed_are_not_loaded(catalog: Catalog) -> None:
    add_faces(catalog, photos(3), identities(3, 1)[:, None])
    (row,) = catalog.sql("SELECT content_id, box, face_id FROM faces WHERE uri LIKE '%/1.jpg'").to_pylist()
    place = {"content_id": row["content_id"], "box": row["box"], "receipt_id": "r", "suppressed_at": datetime.now(UTC)}
    append(catalog, "suppressions", pa.Table.from_pylist([place], schema=SUPPRESSIONS))
    # The forgetting has died before it took the rows out of the tables.
    assert index(catalog, "people").collection.faces == 2
    assert held(catalog, "people") == latest(catalog) - {row["face_id"]}
    assert rebuild(catalog, "people").collection.faces == 2


def test_what_cannot_be_made_is_not_recorded(catalog: Catalog) -> None:
    add_faces(catalog, photos(2), identities(2, 1)[:, None], source="drawn://")
    with pytest.raises(CollectionError, match="check that it runs there, and the URI"):
        index(catalog, "people", Definition(milvus="http://127.0.0.1:9"))
    for wrong in ("localhost:19530", "./x.db", "http://", "http://user:secret@host:19530"):
        with pytest.raises(CollectionError, match="URI"):
            index(catalog, "people", Definition(milvus=wrong))
    # It is understood, and fails on what it is asked of.
    with pytest.raises(QueryError, match="Conversion Error"):
        index(catalog, "people", Definition(condition="CAST(source AS INTEGER) = 3"))
    with pytest.raises(CollectionError, match="letters, digits and underscores, 100 at most"):
        index(catalog, "p" * 101)
    assert Collections(catalog).all() == []
    assert index(catalog, "people").collection.faces == 2


def test_a_rebuilding_takes_in_what_is_loaded_meanwhile(catalog: Catalog, cache: Path) -> None:
    add_faces(catalog, photos(3), identities(3, 1)[:, None])
    index(catalog, "people")
    came: list[int] = []

    def meanwhile(faces: int) -> None:
        if not came:
            add_faces(catalog, photos(2, 10), identities(2, 1, seed=1)[:, None])
            came.append(index(Catalog(catalog.url), "people").added)

    assert rebuild(catalog, "people", advance=meanwhile).collection.faces == 5
    assert came == [2]
    assert held(catalog, "people") == latest(catalog)
    assert [one.name for one in cache.glob("*.db")] == [Collections(catalog).get("people").milvus_name + ".db"]
    assert [one.is_current for one in Collections(catalog).copies()] == [True]


def test_two_operators_for_faces_do_not_take_each_other_for_a_new_model(catalog: Catalog) -> None:
    uris = photos(3)
    add_faces(catalog, uris, identities(3, 1)[:, None])
    add_faces(catalog, uris, identities(3, 1, 64)[:, None], model="other", fingerprint="o", operator="others")
    index(catalog, "people", Definition(model=MODEL))
    # A new version of a photo has no face by the one, and one by the other.
    add_faces(catalog, uris[:1], [identities(1, 1)[:0]], version="2")
    add_faces(
        catalog, uris[:1], identities(1, 1, 64)[:, None], model="other", fingerprint="o", operator="others", version="2"
    )
    assert index(catalog, "people").removed == 1
    assert held(catalog, "people") == latest(catalog)


def test_settings_of_another_model_that_count_again_are_noticed(catalog: Catalog) -> None:
    add_faces(catalog, photos(2), identities(2, 1, 64)[:, None], model="other", fingerprint="o")
    add_faces(catalog, photos(2), identities(2, 1)[:, None])
    index(catalog, "people", Definition(model=MODEL))
    ask(catalog, new_run_id(), "o", "other")
    with pytest.raises(CollectionError, match="2 of its items have been looked at with other"):
        index(catalog, "people")


def test_a_face_that_turns_out_poor_leaves(catalog: Catalog) -> None:
    add_faces(catalog, photos(2), identities(2, 1)[:, None])
    index(catalog, "people", Definition(quality=QualityLimits()))
    # Its picture turns out to be small: the same faces, another look at the media.
    add_faces(catalog, photos(1), [identities(1, 1)[:0]], operator="nobody", fingerprint="x", media="media-2", width=50)
    after = index(catalog, "people")
    assert (after.removed, after.left_out, after.collection.faces) == (1, {"small": 1}, 1)
    assert len(held(catalog, "people")) == 1
    assert index(catalog, "people").removed == 0


def test_too_many_faces_for_milvus_lite_are_said(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collection_definition, "LITE_LIMIT", 3)
    add_faces(catalog, photos(3), identities(3, 1)[:, None])
    assert index(catalog, "people", wait=False).remarks == []
    add_faces(catalog, photos(1, 3), identities(1, 1, seed=1)[:, None])
    (remark,) = index(catalog, "people", wait=False).remarks
    assert "with more than 3 use a Milvus server, `pinakes faces rebuild people --milvus URI`" in remark


def test_many_loads_leave_few_rows_and_few_parts(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(face_collections, "MOST_PARTS", 3)
    for number in range(6):
        add_faces(catalog, photos(1, number), identities(1, 1, seed=number)[:, None])
        index(catalog, "people", wait=False)
        index(catalog, "people", wait=False)
    assert [row.action for row in Collections(catalog).rows("people")] == ["created", *["loaded"] * 6]
    assert held(catalog, "people") == latest(catalog)
    for table in ("collections", "collection_faces"):
        assert len(catalog.table(table).file_uris()) <= 4


def test_a_server_takes_what_is_odd(catalog: Catalog, milvus: str) -> None:
    vectors = identities(3, 1)
    vectors[1] = np.nan
    add_faces(catalog, ["file:///a.jpg", "file:///b.jpg", "file:///" + "ä" * 40_000], vectors[:, None])
    assert index(catalog, "odd", Definition(milvus=milvus), wait=False).collection.faces == 3
    assert drop(catalog, "odd") == []


def test_a_collection_whose_server_is_gone_can_be_dropped(catalog: Catalog) -> None:
    add_faces(catalog, photos(1), identities(1, 1)[:, None])
    there = index(catalog, "people").collection
    gone = replace(there, milvus="http://127.0.0.1:9", folder=None).after("rebuilt")
    assert Collections(catalog).record(gone)
    (why,) = [line for line in drop(catalog, "people") if "127.0.0.1:9" in line]
    assert "could not be removed from http://127.0.0.1:9" in why
    assert Collections(catalog).all() == []
    assert [copy.milvus for copy in Collections(catalog).copies()] == ["http://127.0.0.1:9"]


def test_what_stands_beside_a_vector(catalog: Catalog) -> None:
    taken = datetime(2019, 5, 1, 12, tzinfo=UTC)
    vectors = identities(2, 1)
    add_faces(catalog, photos(1), vectors[:1, None], captured_at=taken, ages=[33.0], source="s3://one")
    add_faces(catalog, photos(1, 1), vectors[1:, None], source="s3://two")
    there = index(catalog, "people").collection
    with milvus.opened(there.milvus_name, there.milvus) as opened:
        (best, other), (second, *_) = opened.search(np.stack(vectors), 2, parameters={})
    assert best["uri"] == "file:///archive/0.jpg"
    assert best["similarity"] == pytest.approx(1, abs=1e-5)
    assert (best["captured_at"], best["age"], best["source"]) == (taken.timestamp() * 1000, 33, "s3://one")
    assert (second["captured_at"], second["age"], second["source"]) == (None, None, "s3://two")
    assert 0 <= other["similarity"] < 0.5
    assert best["frame_ms"] is None
    assert json.loads(there.index)["chosen"]["type"]


def test_two_commands_at_once_take_turns_in_milvus_lite(catalog: Catalog) -> None:
    add_faces(catalog, photos(2), identities(2, 1)[:, None])
    there = index(catalog, "people").collection
    add_faces(catalog, photos(2, 2), identities(2, 1, seed=1)[:, None])
    said: list[str] = []
    done: list[int] = []
    second = threading.Thread(
        target=lambda: done.append(index(Catalog(catalog.url), "people", report=said.append).collection.faces)
    )
    with milvus.opened(there.milvus_name, None) as vectors:
        second.start()
        deadline = time.monotonic() + 60
        while not said and time.monotonic() < deadline:
            time.sleep(0.05)
        assert vectors.count() == 2
        assert done == []
    second.join(60)
    assert done == [4]
    assert said == [f"another command has {there.milvus_name} open in Milvus Lite: waiting for it"]
