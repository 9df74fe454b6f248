"""What is taken out of Milvus is not found any more, and on this machine not on its disk either."""

import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NoReturn

import numpy as np
import pyarrow.parquet as pq
import pytest

from pinakes.catalog import Catalog
from pinakes.catalog.collection_definition import Definition
from pinakes.catalog.collection_erasing import erase_vectors
from pinakes.catalog.errors import CollectionError
from pinakes.catalog.face_collections import Collections, last_load
from pinakes.catalog.face_loading import index
from pinakes.catalog.forgetting import forget
from pinakes.catalog.milvus import Vectors, opened
from tests.drawn_faces import add_faces, identities


def every_byte(folder: Path) -> bytes:
    """All that files below a folder say, that of Parquet files as it reads."""
    found = []
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            found.append(path.read_bytes())
            if path.suffix == ".parquet":
                found.append(str(pq.ParquetFile(path).read().to_pydict()).encode())
    return b"".join(found)


@pytest.mark.parametrize("where", ["lite", "server"])
def test_faces_leave_a_collection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, request: pytest.FixtureRequest
) -> None:
    monkeypatch.setenv("PINAKES_CACHE", str(tmp_path / "cache"))
    place = request.getfixturevalue("milvus") if where == "server" else None
    catalog = Catalog(str(tmp_path / "catalog"), create=True)
    vectors = identities(4, 2)
    ids = add_faces(catalog, [f"file:///{number}.jpg" for number in range(4)], vectors.reshape(4, 2, 128))
    index(catalog, "erased", Definition(milvus=place))
    gone, kept = ids[1], [*ids[0], *ids[2], *ids[3]]
    if where == "lite":
        assert gone[0].encode() in every_byte(tmp_path / "cache")
        assert vectors[2].tobytes() in every_byte(tmp_path / "cache")
    removed = erase_vectors(catalog, gone)
    (line, *_), left = removed.lines, removed.left
    assert left == []
    there = Collections(catalog).get("erased")
    with opened(there.milvus_name, there.milvus) as milvus:
        assert sorted(milvus.get([*gone, *kept])) == sorted(kept)
        assert there.faces == milvus.count() == 6
    if where == "lite":
        assert line.endswith("made anew in Milvus Lite with 6 faces, its old copy is removed")
        assert len(list((tmp_path / "cache" / "faces").glob("*.db"))) == 1
        left = every_byte(tmp_path / "cache")
        assert gone[0].encode() not in left
        assert vectors[2].tobytes() not in left
        assert kept[0].encode() in left
    else:
        assert "compaction: Completed" in line


@pytest.fixture
def two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Catalog, list[str], np.ndarray]:
    """A catalogue with four faces, of which the first is to go: its id, and the vector."""
    monkeypatch.setenv("PINAKES_CACHE", str(tmp_path / "cache"))
    catalog = Catalog(str(tmp_path / "catalog"), create=True)
    vectors = identities(4, 1)
    ids = add_faces(catalog, [f"file:///{number}.jpg" for number in range(4)], vectors[:, None])
    return catalog, [one for (one,) in ids], vectors


def test_they_leave_copies_that_are_no_collection_any_more(
    two: tuple[Catalog, list[str], np.ndarray], tmp_path: Path
) -> None:
    """Of a collection that was dropped when its files were in use, and of a rebuilding that was killed."""
    catalog, ids, vectors = two
    for name in ("dropped", "kept"):
        index(catalog, name)
    begun = replace(Collections(catalog).get("kept"), milvus_name="kept_killed", load=last_load(catalog)).after("begun")
    assert Collections(catalog).record(begun)
    whole = {path.name: path for path in (tmp_path / "cache" / "faces").glob("*.db")}
    saved = tmp_path / "saved"
    shutil.copytree(next(path for name, path in whole.items() if name.startswith("dropped")), saved)
    shutil.copytree(saved, tmp_path / "cache" / "faces" / "kept_killed.db")
    last = Collections(catalog).get("dropped")
    dropped = replace(last, load=last_load(catalog)).after("dropped", faces=0, left_out=0, dimensions=None)
    assert Collections(catalog).record(dropped)
    removed = erase_vectors(catalog, ids[:1])
    assert removed.left == []
    (line,) = [line for line in removed.lines if "a former copy of" in line]
    assert line.startswith("a former copy of dropped, dropped_")
    assert "is removed from Milvus Lite in" in line
    left = every_byte(tmp_path / "cache")
    assert ids[0].encode() not in left
    assert vectors[0].tobytes() not in left
    assert ids[1].encode() in left
    assert len(list((tmp_path / "cache" / "faces").glob("*.db"))) == 1


def test_a_copy_on_another_machine_is_not_done_and_made_anew_there(
    two: tuple[Catalog, list[str], np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog, ids, vectors = two
    index(catalog, "here")
    with monkeypatch.context() as there:
        there.setattr("platform.node", lambda: "far.away")
        there.setenv("PINAKES_CACHE", str(tmp_path / "far"))
        index(catalog, "far")
    receipt = forget(catalog, face_ids=ids[:1], remove_vectors=partial(erase_vectors, catalog))
    far = Collections(catalog).get("far")
    assert receipt.not_done == [far.milvus_name]
    (line,) = [line for line in receipt.milvus if line.startswith("NOT DONE: far has the faces still")]
    assert "on far.away: `pinakes faces rebuild far` there" in line
    # All else is done.
    for folder in (tmp_path / "cache", tmp_path / "catalog"):
        assert ids[0].encode() not in every_byte(folder)
    assert (far.host, far.folder, far.faces) == ("far.away", str(tmp_path / "far" / "faces" / Path(far.folder).name), 3)
    again = forget(catalog, face_ids=ids[:1], remove_vectors=partial(erase_vectors, catalog))
    assert again.not_done == receipt.not_done
    assert len(again.milvus) == 1
    with monkeypatch.context() as there:
        there.setattr("platform.node", lambda: "far.away")
        there.setenv("PINAKES_CACHE", str(tmp_path / "far"))
        assert vectors[0].tobytes() in every_byte(tmp_path / "far")
        assert index(catalog, "far").collection.faces == 3
        assert vectors[0].tobytes() not in every_byte(tmp_path / "far")
    assert forget(catalog, face_ids=ids[:1], remove_vectors=partial(erase_vectors, catalog)).not_done == []


def test_a_copy_of_another_user_is_not_done(
    two: tuple[Catalog, list[str], np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog, ids, vectors = two
    index(catalog, "theirs")
    # The tests may run as root, who may write everywhere.
    monkeypatch.setattr("pinakes.catalog.collection_erasing.os.access", lambda path, mode: False)
    removed = erase_vectors(catalog, ids[:1])
    there = Collections(catalog).get("theirs")
    assert removed.left == [there.milvus_name]
    assert f"its copy in {there.folder} is another user's: `pinakes faces rebuild theirs` there" in removed.lines[0]
    assert (there.action, there.faces) == ("forgotten", 3)
    assert vectors[0].tobytes() in every_byte(Path(str(there.folder)))


def test_a_server_that_does_not_answer_keeps_nobody_in_the_tables(
    two: tuple[Catalog, list[str], np.ndarray], milvus: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog, ids, _ = two
    index(catalog, "served", Definition(milvus=milvus))

    # What a server says to have deleted is looked for, all of it.
    with monkeypatch.context() as patched:
        patched.setattr(Vectors, "remove", lambda self, face_ids: None)
        removed = erase_vectors(catalog, [*(f"{number:032x}" for number in range(1000)), ids[0]])
    assert "has 1 of the faces after they were deleted" in removed.lines[0]
    assert removed.left == [Collections(catalog).get("served").milvus_name]

    def silent(*_: object) -> NoReturn:
        raise CollectionError(f"Milvus at {milvus}: no answer")

    with monkeypatch.context() as patched:
        patched.setattr(Vectors, "remove", silent)
        receipt = forget(catalog, face_ids=ids[:1], remove_vectors=partial(erase_vectors, catalog))
    old = Collections(catalog).get("served")
    assert receipt.not_done == [old.milvus_name]
    assert "no answer; `pinakes faces forget` again" in receipt.milvus[0]
    assert catalog.sql("SELECT face_id FROM faces").num_rows == 3
    # Nobody knows any more who should not be in it.
    done = forget(catalog, face_ids=ids[1:2], remove_vectors=partial(erase_vectors, catalog))
    assert done.not_done == []
    assert done.milvus[0].startswith(f"served: made anew in {milvus} with 2 faces")
    with opened(old.milvus_name, milvus) as vectors:
        assert not vectors.exists
