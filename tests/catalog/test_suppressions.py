"""What was forgotten does not come back with a later commit, and nothing else is kept back."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pinakes.catalog import Catalog, commits
from pinakes.catalog.forgetting import forget
from pinakes.catalog.storage import Storage
from pinakes.catalog.suppressions import PLACES, Suppressions, overlapping
from tests.catalog.face_rows import TABLES, Face, add, commit, hexed, rows_of


def suppress(url: Path, *rows: dict[str, Any]) -> Suppressions:
    Catalog(str(url), create=True)
    add(url, "suppressions", *({"receipt_id": "r", "suppressed_at": datetime.now(UTC), **row} for row in rows))
    return Suppressions.read(Storage(str(url)))


def place(face: Face) -> dict[str, Any]:
    return {"content_id": face.shared["content_id"], "frame_ms": face.frame_ms, "box": face.box}


def ids(tables: dict[str, pa.Table]) -> set[str]:
    found: set[str] = set(tables["faces"]["face_id"].to_pylist())
    assert found == set(tables["embeddings"]["subject_id"].to_pylist())
    return found


def test_without_any_all_passes_as_it_is(tmp_path: Path) -> None:
    Catalog(str(tmp_path / "catalog"), create=True)
    none = Suppressions.read(Storage(str(tmp_path / "catalog")))
    tables = rows_of([Face("a.jpg", "anna")])
    assert none.without(tables) == tables
    assert all(none.without(tables)[name] is tables[name] for name in tables)


def test_of_a_still_the_face_in_that_place_whatever_model_and_uri(tmp_path: Path) -> None:
    anna, ben = Face("a.jpg", "anna"), Face("a.jpg", "ben", left=0.4)
    found = suppress(tmp_path / "catalog", place(anna))
    later = [
        Face("a.jpg", "anna", left=0.12, fingerprint="later"),
        Face("a.jpg", "ben", left=0.41, fingerprint="later"),
        Face("copy.jpg", "anna", content="a.jpg"),
        Face("other.jpg", "somebody else in the same place"),
        Face("a.jpg", "next to her", left=0.16),
    ]
    kept = found.without(rows_of([anna, ben, *later]))
    assert ids(kept) == {one.face_id for one in (ben, later[1], later[3], later[4])}
    assert kept["ledger"].num_rows == 4


def test_a_whole_content_and_vectors_of_pictures_stay(tmp_path: Path) -> None:
    anna, other = Face("a.jpg", "anna"), Face("b.jpg", "anna")
    found = suppress(tmp_path / "catalog", {"content_id": anna.shared["content_id"], "frame_ms": None, "box": None})
    tables = rows_of([anna, Face("a.jpg", "ben", left=0.7), other])
    picture = {**anna.shared, "subject": "image", "subject_id": anna.shared["item_key"], "vector": [1.0]}
    schema = tables["embeddings"].schema
    tables["embeddings"] = pa.concat_tables([tables["embeddings"], pa.Table.from_pylist([picture], schema)])
    kept = found.without(tables)
    assert kept["faces"]["face_id"].to_pylist() == [other.face_id]
    assert kept["embeddings"]["subject_id"].to_pylist() == [other.face_id, anna.shared["item_key"]]


def film(who: str, left: float, times: range, **more: Any) -> list[Face]:
    return [Face("film.mp4", who, left=left, frame_ms=time, **more) for time in times]


def test_of_a_film_in_its_frames_and_in_those_between_them(tmp_path: Path) -> None:
    anna = film("anna", 0.1, range(0, 5000, 1000))
    found = suppress(tmp_path / "catalog", *(place(one) for one in anna))
    again = film("anna", 0.11, range(0, 6500, 500), fingerprint="twice as many")
    ben = film("ben", 0.6, range(0, 6500, 500), fingerprint="twice as many")
    # After the cut another is where she was.
    cleo = film("cleo", 0.1, range(4500, 9000, 500), fingerprint="twice as many, and a cut")
    tracks = {"anna": again, "ben": ben, "cleo": cleo}
    kept = found.without(rows_of([*again, *ben, *cleo], tracks))
    expected = [*ben, *again[10:], *cleo[1:]]
    assert ids(kept) == {one.face_id for one in expected}
    left = set(kept["tracks"]["track_id"].to_pylist())
    faces = {hexed("face", name) for name in ("ben", "cleo")}
    assert left == faces | {hexed("person", name) for name in tracks}


def test_a_track_that_comes_without_its_faces_is_dropped_as_well(tmp_path: Path) -> None:
    """As jobs/finish.py makes it, of a long film whose windows were committed before the face was forgotten."""
    anna, ben = (film(who, left, range(0, 5000, 1000)) for who, left in (("anna", 0.1), ("ben", 0.6)))
    found = suppress(tmp_path / "catalog", place(anna[2]))
    tables = rows_of([*anna, *ben], {"anna": anna, "ben": ben})
    kept = found.without({name: tables[name] for name in ("tracks", "ledger")})
    assert hexed("face", "anna") not in kept["tracks"]["track_id"].to_pylist()
    assert kept["tracks"].num_rows == 3


def test_a_file_that_was_not_read_to_its_end_is_known_by_its_version(tmp_path: Path) -> None:
    anna = Face("a.jpg", "anna")
    found = suppress(tmp_path / "catalog", {**place(anna), "content_id": anna.shared["item_key"]})
    tables = rows_of([anna])
    for name in ("faces", "embeddings"):
        at = tables[name].schema.get_field_index("content_id")
        tables[name] = tables[name].set_column(at, "content_id", pa.nulls(1, pa.string()))
    assert ids(found.without(tables)) == set()


def test_tables_of_other_shapes_pass(tmp_path: Path) -> None:
    anna = Face("a.jpg", "anna")
    found = suppress(tmp_path / "catalog", place(anna))
    theirs = {"faces": pa.table({"smile": [1]}), "tracks": pa.table({"path": ["a"]}), "ledger": pa.table({"n": [1]})}
    assert found.without(theirs) == theirs


@pytest.mark.parametrize("near_ms", [0, 500])
def test_pairs_are_those_that_a_loop_over_all_finds(near_ms: int) -> None:
    chance = np.random.default_rng(5)

    def some(count: int) -> pa.Table:
        rows = [
            {
                "key": f"{chance.integers(4)}",
                "frame_ms": None if chance.random() < 0.2 else int(chance.integers(-3, 8)) * 250,
                "box": {
                    **dict(zip(("left", "top"), chance.uniform(0, 0.15, 2), strict=True)),
                    **dict(zip(("width", "height"), chance.uniform(0.1, 0.4, 2), strict=True)),
                },
            }
            for _ in range(count)
        ]
        return pa.Table.from_pylist(rows, schema=PLACES)

    def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
        if one["key"] != other["key"] or (one["frame_ms"] is None) != (other["frame_ms"] is None):
            return False
        if one["frame_ms"] is not None and abs(one["frame_ms"] - other["frame_ms"]) > near_ms:
            return False
        a, b = one["box"], other["box"]
        width = min(a["left"] + a["width"], b["left"] + b["width"]) - max(a["left"], b["left"])
        height = min(a["top"] + a["height"], b["top"] + b["height"]) - max(a["top"], b["top"])
        shared = max(width, 0) * max(height, 0)
        return bool(shared >= 0.5 * (a["width"] * a["height"] + b["width"] * b["height"] - shared))

    rows, places = some(400), some(300)
    expected = {
        (one, other)
        for one, row in enumerate(rows.to_pylist())
        for other, it in enumerate(places.to_pylist())
        if same(row, it)
    }
    assert len(expected) > 100
    pairs = list(zip(*(side.tolist() for side in overlapping(rows, places, near_ms)), strict=True))
    assert set(pairs) == expected
    assert len(pairs) == len(expected)
    assert [len(side) for side in overlapping(rows, PLACES.empty_table(), near_ms)] == [0, 0]


@pytest.mark.parametrize("asleep", ["before its parts", "before its row of the log"])
def test_a_run_that_slept_through_a_forgetting_does_not_bring_the_face_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asleep: str
) -> None:
    """Not even when nobody knows of it, since its machine gave no sign of life for so long."""
    url, anna, ben = tmp_path / "catalog", Face("a.jpg", "anna"), Face("a.jpg", "ben", left=0.6)
    commit(url, [anna, ben])
    catalog = Catalog(str(url))
    log = catalog.commit_log("sleeper", TABLES, catalog.finish())
    module: Any = commits
    name = "write_part" if asleep == "before its parts" else "_add"
    wakes: Callable[..., Any] = getattr(module, name)

    def slept(*arguments: Any, **named: Any) -> Any:
        monkeypatch.undo()
        forget(Catalog(str(url)), face_ids=[anna.face_id])
        return wakes(*arguments, **named)

    monkeypatch.setattr(module, name, slept)
    again = [Face("a.jpg", who, left=left, fingerprint="later") for who, left in (("anna", 0.1), ("ben", 0.6))]
    log.commit(rows_of(again))
    assert catalog.sql("SELECT face_id FROM faces ORDER BY 1")["face_id"].to_pylist() == sorted(
        [ben.face_id, again[1].face_id]
    )
    assert catalog.sql("SELECT DISTINCT subject_id FROM embeddings").num_rows == 2
    # What the first try had written is not left lying about.
    named = {Path(path).name for table in ("faces", "embeddings") for path in catalog.table(table).file_uris()}
    assert {path.name for table in ("faces", "embeddings") for path in (url / table).glob("*.parquet")} == named
