"""After a forgetting no file of the catalogue holds the face, and no later run brings it back."""

import json
import shutil
import uuid
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars
import pyarrow.parquet as pq
import pytest

from pinakes.catalog import Catalog, commits, live
from pinakes.catalog.chosen_faces import choose
from pinakes.catalog.errors import BusyCatalogError, CatalogError, RemnantError, UnknownError
from pinakes.catalog.forgetting import Removed, forget, receipts
from pinakes.catalog.parts import write_part
from pinakes.catalog.person_templates import Likeness
from tests.catalog.face_rows import MODEL, TABLES, Face, add, commit, contents, hexed, holding, numbers, rows_of
from tests.s3 import Bucket

ANNA, BEN = Face("a.jpg", "anna"), Face("a.jpg", "ben", left=0.5)
#: What Anna's face is in history: by an earlier attempt, by other settings, and in a copy of the file.
EVERYWHERE = (
    ANNA,
    replace(ANNA, attempt=2, left=0.11),
    replace(ANNA, fingerprint="later", left=0.12),
    Face("copy of a.jpg", "anna", content="a.jpg"),
)
OTHERS = (BEN, Face("b.jpg", "ben"), Face("c.jpg", "anna"))


@pytest.fixture
def url(tmp_path: Path) -> Path:
    """Anna's face in four rows and three commits, and three other faces."""
    url = tmp_path / "catalog"
    commit(url, [ANNA, BEN])
    commit(url, [*EVERYWHERE[1:3], *OTHERS[1:]])
    commit(url, [EVERYWHERE[3]])
    return url


def faces(url: Path, table: str = "faces", column: str = "face_id") -> set[str]:
    return set(Catalog(str(url)).sql(f"SELECT {column} FROM {table}")[column].to_pylist())


def ids(rows: Sequence[Face]) -> set[str]:
    return {one.face_id for one in rows}


def texts(rows: Sequence[Face]) -> list[str]:
    """What of those faces no file may hold."""
    return [text for one in rows for text in (one.face_id, numbers(one.vector))]


def test_a_face_goes_with_all_its_history_and_the_others_stay(url: Path) -> None:
    assert len(holding(url, *texts(EVERYWHERE))) == 6
    gone: list[str] = []
    receipt = forget(
        Catalog(str(url)),
        face_ids=[ANNA.face_id],
        remove_vectors=lambda ids, left: gone.extend(ids) or Removed(["4"], []),
    )
    assert holding(url, *texts(EVERYWHERE)) == set()
    assert faces(url) == faces(url, "embeddings", "subject_id") == ids(OTHERS)
    assert all(holding(url, text) for text in texts(OTHERS))
    assert (receipt.request, receipt.faces, receipt.items, receipt.places) == ("face", 4, 2, 3)
    assert receipt.rows == {"embeddings": 4, "faces": 4}
    assert set(gone) == ids(EVERYWHERE)
    assert receipt.milvus == ["4"]
    # The tables are read as before, by others too; and DuckDB hands its conditions on to the files.
    assert polars.read_delta(str(url / "faces")).height == 3
    ben = BEN.face_id
    for condition in (f"= '{ben}'", f"IN ('{ben}', '{ANNA.face_id}')", f"BETWEEN '{ben}' AND 'g'"):
        found = Catalog(str(url)).sql(f"SELECT min(face_id) AS face_id FROM faces WHERE face_id {condition}")
        assert found.to_pylist() == [{"face_id": ben}]
    assert faces(url, "latest_faces") <= ids(OTHERS)


def test_the_receipt_says_what_was_done_and_nothing_of_whom(url: Path) -> None:
    receipt = forget(
        Catalog(str(url)),
        face_ids=[ANNA.face_id],
        likenesses=[Likeness(MODEL, np.array([ANNA.vector], np.float32), 0.9)],
    )
    (written,) = receipts(Catalog(str(url)))
    assert written == json.loads((url / "_pinakes" / "receipts" / f"{receipt.receipt_id}.json").read_text())
    assert written["request"] == "like"
    assert written["requested_at"] < written["finished_at"]
    assert "@" in written["by"]
    assert written["checked"]["ids"] == 4
    assert written["checked"]["parquet_files"] == len(list(url.rglob("*.parquet")))
    assert any("backups" in line for line in written["not_covered"])
    hidden = [*ids(EVERYWHERE), *(one.shared["content_id"] for one in EVERYWHERE), "a.jpg", "anna"]
    assert not any(text in json.dumps(written) for text in hidden)
    assert not list((url / "_pinakes" / "forgetting").iterdir())


def test_a_later_run_does_not_bring_it_back(url: Path) -> None:
    forget(Catalog(str(url)), face_ids=[ANNA.face_id])
    again = [replace(one, fingerprint="a new model", left=one.left + 0.01) for one in (*EVERYWHERE[::3], *OTHERS)]
    commit(url, again)
    assert faces(url) == faces(url, "embeddings", "subject_id") == ids([*OTHERS, *again[2:]])
    assert holding(url, *texts(again[:2])) == set()


def test_what_killed_processes_left_goes_as_well(url: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    catalog = Catalog(str(url))
    open_one, orphan = (replace(ANNA, fingerprint=name) for name in ("open", "orphan"))
    # A commit that its process did not live to add to the tables.
    with monkeypatch.context() as patched:
        patched.setattr(commits, "apply_open_commits", lambda storage: 0)
        catalog.commit_log("killed", TABLES, 3).commit(rows_of([open_one]))
    assert open_one.face_id not in faces(url)
    # Parts that no commit names: whole, half written by us, half written by delta-rs.
    rows = rows_of([orphan])["embeddings"]
    part = write_part(catalog.storage, "embeddings", rows, 4)["path"]
    whole = (url / "embeddings" / part).read_bytes()
    (url / "embeddings" / f"{part}.{uuid.uuid4().hex}.half").write_bytes(whole)
    (url / "embeddings" / f"part-00000-{uuid.uuid4()}-c000.snappy.parquet#1").write_bytes(whole[:-9])
    (url / "faces" / "_delta_log" / "_commit_1.json.tmp").write_text(orphan.face_id)
    receipt = forget(catalog, face_ids=[ANNA.face_id])
    assert holding(url, *texts([*EVERYWHERE, open_one, orphan])) == set()
    assert receipt.faces == 5
    assert {path.name for path in (url / "embeddings").iterdir() if path.is_file()} == {
        Path(path).name for path in catalog.table("embeddings").file_uris()
    }


def test_parts_that_a_run_is_about_to_commit_are_left_alone(url: Path) -> None:
    """Of one that nobody knows to be alive: it has dropped the face already, and its commit must find its parts."""
    catalog = Catalog(str(url))
    later = write_part(catalog.storage, "faces", rows_of([BEN])["faces"], 5)["path"]
    forget(catalog, face_ids=[ANNA.face_id])
    assert (url / "faces" / later).exists()
    assert catalog.sql("SELECT max(n) AS n FROM commits").to_pylist() == [{"n": 4}]


def test_no_number_of_it_stays_in_the_log(url: Path) -> None:
    """A part with one face has that face's numbers for its least and greatest: the frame's time."""
    lone = replace(ANNA, uri="lone.mp4", frame_ms=4_321_987)
    commit(url, [lone])
    logs = {path for path in holding(url, "4321987") if path.startswith("faces")}
    assert len(logs) == 2
    before = commits.applied(Catalog(str(url)).table("faces"))
    forget(Catalog(str(url)), face_ids=[lone.face_id])
    assert not {path for path in holding(url, "4321987") if path.startswith("faces")}
    assert commits.applied(Catalog(str(url)).table("faces")) == before


def film(who: str, left: float, fingerprint: str, step: int) -> list[Face]:
    times = range(0, 6000, step)
    return [Face("film.mp4", who, left=left, frame_ms=time, fingerprint=fingerprint) for time in times]


def test_of_a_film_the_whole_track_goes_in_every_sampling(url: Path) -> None:
    anna, ben = film("anna", 0.1, "1fps", 1000), film("ben", 0.6, "1fps", 1000)
    commit(url, [*anna, *ben], {"anna": anna, "ben": ben})
    twice = film("anna", 0.11, "2fps", 500)
    commit(url, twice, {"twice": twice})
    receipt = forget(Catalog(str(url)), face_ids=[anna[3].face_id])
    assert receipt.rows == {"embeddings": 18, "faces": 18, "tracks": 2}
    assert holding(url, *texts([*anna, *twice])) == set()
    assert faces(url) == ids([*EVERYWHERE, *OTHERS, *ben])
    bodies = {hexed("person", name) for name in ("anna", "ben", "twice")}
    assert faces(url, "tracks", "track_id") == {*bodies, hexed("face", "ben")}
    # And with yet another sampling, every half second's neighbours.
    again = film("anna", 0.1, "4fps", 250)
    commit(url, [*again, *film("ben", 0.6, "4fps", 250)], {"again": again})
    assert not faces(url) & ids(again)
    assert hexed("face", "again") not in faces(url, "tracks", "track_id")


def test_an_item_loses_all_its_faces_now_and_later(url: Path) -> None:
    receipt = forget(Catalog(str(url)), uri="a.jpg")
    assert (receipt.request, receipt.faces) == ("uri", 5)
    assert faces(url) == ids(OTHERS[1:])
    assert holding(url, *texts([*EVERYWHERE, BEN])) == set()
    # It is still known to have been looked at, so nothing is due; and what is new in it stays away.
    assert Catalog(str(url)).sql("FROM latest_ledger WHERE uri = 'a.jpg'").num_rows == 1
    commit(url, [Face("a.jpg", "a third one", left=0.8, fingerprint="later yet"), Face("d.jpg", "anna")])
    assert faces(url) == {*ids(OTHERS[1:]), Face("d.jpg", "anna").face_id}
    # Without a face there is nothing left to do, and it is no error.
    assert forget(Catalog(str(url)), uri="a.jpg").faces == 0


NAME = "Anna O'Näme"
ANNA_ID, BEN_ID = "a" * 32, "b" * 32


@pytest.fixture
def known(url: Path) -> Path:
    """Anna and Ben have names, faces in a collection, and have been searched for."""
    outside = [0.125] * 128
    other = OTHERS[2].face_id
    add(
        url,
        "people",
        {"person_id": ANNA_ID, "name": NAME, "face_id": ANNA.face_id},
        {"person_id": ANNA_ID, "name": None, "face_id": other, "how": "grouped", "similarity": 0.625},
        {"person_id": ANNA_ID, "name": NAME, "vector": outside},
        {"person_id": BEN_ID, "name": "Ben", "face_id": BEN.face_id},
    )
    for number, one in enumerate((ANNA, BEN, OTHERS[2])):
        add(url, "collection_faces", {"face_id": one.face_id, "uri": one.uri, "load": number})
    add(
        url,
        "audit",
        {"search_id": "1", "query": "at/home/anna.jpg", "rank": 1, "face_id": other, "similarity": 0.75},
        {"search_id": "1", "query": "at/home/anna.jpg", "rank": 2, "face_id": BEN.face_id, "similarity": 0.5},
        {"search_id": "2", "query": ANNA.face_id, "query_face_id": ANNA.face_id},
        {"search_id": "3", "query": "ben.jpg", "rank": 1, "face_id": BEN.face_id, "similarity": 0.5},
        {"search_id": "3", "query": "ben.jpg", "rank": 2, "face_id": ANNA.face_id, "similarity": 0.4375},
        {"search_id": "4", "query": "ben.jpg", "condition": "name = 'Anna O''Näme'"},
    )
    return url


@pytest.mark.parametrize("who", [NAME, ANNA_ID])
def test_a_person_goes_with_name_references_and_searches(known: Path, who: str) -> None:
    receipt = forget(Catalog(str(known)), person=who)
    rest = [*EVERYWHERE, OTHERS[2]]
    hidden = [*texts(rest), "Anna O", "at/home", ANNA_ID, numbers([0.125] * 4), "0.4375", "0.625", "0.75"]
    assert holding(known, *hidden) == set()
    assert (receipt.request, receipt.faces, receipt.searches) == ("person", 5, 5)
    assert receipt.rows == {"collection_faces": 2, "embeddings": 5, "faces": 5, "people": 3}
    assert Catalog(str(known)).sql("SELECT name, person_id FROM people").to_pylist() == [
        {"name": "Ben", "person_id": BEN_ID}
    ]
    assert faces(known) == ids(OTHERS[:2])
    assert faces(known, "collection_faces") == {BEN.face_id}
    audit = Catalog(str(known)).sql("SELECT search_id, query, rank, face_id, searched_by FROM audit ORDER BY ALL")
    assert [tuple(row.values()) for row in audit.to_pylist()] == [
        ("1", None, 1, None, "me@here"),
        ("1", None, 2, BEN.face_id, "me@here"),
        ("2", None, None, None, "me@here"),
        ("3", "ben.jpg", 1, BEN.face_id, "me@here"),
        ("3", "ben.jpg", 2, None, "me@here"),
        ("4", "ben.jpg", None, None, "me@here"),
    ]
    with pytest.raises(UnknownError, match="nobody is called"):
        forget(Catalog(str(known)), person=who)


def test_a_collection_that_is_defined_by_a_name_is_told_of(known: Path) -> None:
    about = {"action": "loaded", "model": "m", "quality": "{}", "host": "h", "index": "{}", "fingerprints": "[]"}
    one = {**about, "n": 1, "faces": 2, "left_out": 0, "condition": "name <> 'anna o''näme'"}
    add(known, "collections", one)
    assert "conditions of collections" in forget(Catalog(str(known)), person=NAME).not_covered[-1]
    assert "conditions of collections" not in forget(Catalog(str(known)), person="Ben").not_covered[-1]


def test_one_can_ask_first_what_would_go(known: Path) -> None:
    before = contents(known)
    chosen = choose(Catalog(str(known)), person=NAME)
    assert (len(chosen.face_ids), chosen.items, chosen.people, chosen.names) == (5, 3, 3, [NAME])
    assert contents(known) == before


@pytest.mark.parametrize("what", [{"face_ids": ["0" * 32]}, {"uri": "nowhere.jpg"}, {"person": "Nobody"}, {}])
def test_what_is_not_there_cannot_be_forgotten(url: Path, what: dict[str, Any]) -> None:
    before = contents(url)
    with pytest.raises(UnknownError) as error:
        forget(Catalog(str(url)), **what)
    assert "\n" not in str(error.value)
    assert contents(url) == before


def test_a_run_at_work_is_left_in_peace(url: Path) -> None:
    before = contents(url)
    with live.live(Catalog(str(url)).storage, "a-run"), pytest.raises(BusyCatalogError, match="run a-run"):
        forget(Catalog(str(url)), face_ids=[ANNA.face_id])
    assert contents(url) == before


def test_when_milvus_does_not_answer_nothing_has_left_the_tables(url: Path) -> None:
    def no_answer(ids: Sequence[str], left: Sequence[str]) -> Removed:
        raise CatalogError("Milvus does not answer")

    with pytest.raises(CatalogError, match="does not answer"):
        forget(Catalog(str(url)), face_ids=[ANNA.face_id], remove_vectors=no_answer)
    assert faces(url) == ids([*EVERYWHERE, *OTHERS])
    # Another request, of whatever kind, makes up for it.
    gone: list[str] = []
    receipt = forget(
        Catalog(str(url)), face_ids=[BEN.face_id], remove_vectors=lambda ids, left: gone.extend(ids) or Removed([], [])
    )
    assert set(gone) == ids([*EVERYWHERE, BEN])
    assert holding(url, *texts([*EVERYWHERE, BEN])) == set()
    first, second = receipts(Catalog(str(url)))
    assert receipt.completed == second["completed"] == [first["receipt_id"]]
    assert first["completed_by"] == receipt.receipt_id


def test_what_is_left_in_a_file_that_nobody_knows_of_is_found(url: Path) -> None:
    saved = [url / "answer.json", url / "saved.parquet", url / "_notes" / "about.txt"]
    saved[0].write_text(json.dumps({"face": f"see {ANNA.face_id}!"}))
    pq.write_table(Catalog(str(url)).sql("SELECT [{'face': 'the id is ' || face_id}] AS l FROM faces"), saved[1])
    saved[2].parent.mkdir()
    saved[2].write_bytes(bytes(9 * 2**20 - 10) + ANNA.face_id.encode())
    for path in saved:
        with pytest.raises(RemnantError, match=path.name):
            forget(Catalog(str(url)), face_ids=[ANNA.face_id])
        path.unlink()
        commit(url, [replace(BEN, fingerprint=path.name)])
        shutil.rmtree(url / "suppressions")
        commit(url, [replace(ANNA, fingerprint=ANNA.fingerprint)])


def test_thousands_of_faces_at_once(tmp_path: Path) -> None:
    url = tmp_path / "catalog"
    every = [Face(f"{number // 4}.jpg", "x", left=0.2 * (number % 4)) for number in range(8000)]
    commit(url, every)
    receipt = forget(Catalog(str(url)), face_ids=[one.face_id for one in every[:7000]])
    assert receipt.rows == {"embeddings": 7000, "faces": 7000}
    assert faces(url) == ids(every[7000:])
    assert holding(url, *(one.face_id for one in every[:7000:100])) == set()


def test_in_a_bucket(s3: Bucket, tmp_path: Path) -> None:
    url = f"{s3.url}/catalog"
    commit(url, [ANNA, BEN])
    forget(Catalog(url), face_ids=[ANNA.face_id])
    commit(url, [replace(one, fingerprint="later") for one in (ANNA, BEN)])
    Catalog(url).storage.filesystem.get(f"{s3.name}/catalog", str(tmp_path / "copy"), recursive=True)
    assert holding(tmp_path / "copy", *texts([ANNA, replace(ANNA, fingerprint="later")])) == set()
    assert Catalog(url).sql("SELECT face_id FROM faces").num_rows == 2
