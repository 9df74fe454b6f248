"""With a face go the photos by which somebody was named, and the name; and what could not be done is done later."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pinakes.catalog import Catalog
from pinakes.catalog.chosen_faces import choose
from pinakes.catalog.errors import AmbiguousError, UnknownError
from pinakes.catalog.forgetting import Removed, forget, receipts
from pinakes.catalog.person_templates import Likeness
from pinakes.catalog.remnants import look_for
from tests.catalog.face_rows import MODEL, add, contents, holding, numbers
from tests.catalog.test_forgetting import ANNA, ANNA_ID, BEN, BEN_ID, EVERYWHERE, OTHERS, faces, ids, texts, url

__all__ = ["url"]


def turned(vector: Sequence[float], cosine: float, seed: int = 0) -> list[float]:
    """Another vector of length 1, so like that one."""
    one = np.asarray(vector, np.float64)
    other = np.random.default_rng(seed).normal(size=len(one))
    other -= one * (other @ one)
    return [
        float(number) for number in np.float32(cosine * one + (1 - cosine**2) ** 0.5 * other / np.linalg.norm(other))
    ]


@pytest.mark.parametrize("asked", ["face", "uri", "like"])
def test_photos_by_which_the_same_face_was_named_go_with_it(url: Path, asked: str) -> None:
    """Anna is named by a photo of this face in one collection, and by it and another photo in a second one."""
    same, other, bens = turned(ANNA.vector, 0.7), turned(ANNA.vector, 0.2), turned(ANNA.vector, 0.65, 1)
    anna = {"person_id": ANNA_ID, "name": "Anna Näme"}
    again = {"collection": "second", "person_id": "c" * 32, "name": "Anna der Zweite"}
    add(
        url,
        "people",
        {**anna, "vector": same},
        {**anna, "face_id": ANNA.face_id, "how": "matched", "similarity": 0.7},
        {**anna, "face_id": OTHERS[2].face_id, "how": "matched", "similarity": 0.6},
        {**anna, "face_id": OTHERS[1].face_id, "how": "grouped", "similarity": 0.5},
        {**again, "vector": same},
        {**again, "vector": other},
        {**again, "face_id": ANNA.face_id, "how": "grouped"},
        {**again, "face_id": OTHERS[2].face_id, "how": "matched"},
        {"person_id": BEN_ID, "name": "Ben", "vector": bens},
        {"person_id": BEN_ID, "name": "Ben", "face_id": BEN.face_id},
    )
    add(url, "audit", {"search_id": "1", "query": "b.jpg", "condition": "name = 'anna näme'"})
    what: dict[str, Any] = {
        "face": {"face_ids": [ANNA.face_id]},
        "uri": {"uri": "copy of a.jpg"},
        "like": {
            "face_ids": [ANNA.face_id],
            "likenesses": [Likeness(MODEL, np.array([turned(ANNA.vector, 0.99, 2)], np.float32), 0.6)],
        },
    }[asked]
    receipt = forget(Catalog(str(url)), **what)
    assert holding(url, *texts(EVERYWHERE), numbers(same), "Anna N", "anna n") == set()
    left = Catalog(str(url)).sql("SELECT person_id, name, face_id, how FROM people ORDER BY ALL").to_pylist()
    # The uri is of the same content as a.jpg, which Ben is in; and a photo takes everybody's that are like it.
    kept = [
        (ANNA_ID, None, OTHERS[1].face_id, "grouped"),
        *([(BEN_ID, "Ben", BEN.face_id, "reference")] if asked != "uri" else []),
        *([(BEN_ID, "Ben", None, "reference")] if asked == "face" else []),
        ("c" * 32, "Anna der Zweite", OTHERS[2].face_id, "matched"),
        ("c" * 32, "Anna der Zweite", None, "reference"),
    ]
    assert [tuple(row.values()) for row in left] == kept
    assert (receipt.references, receipt.names) == {"face": (1, 1), "uri": (2, 2), "like": (2, 1)}[asked]
    assert holding(url, numbers(other))
    assert bool(holding(url, numbers(bens))) == (asked == "face")


def test_a_photo_finds_references_though_no_face_of_the_catalogue_is_like_it(url: Path) -> None:
    outside = turned(ANNA.vector, 0.0, 5)
    add(url, "people", {"person_id": ANNA_ID, "name": "Anna N", "vector": outside})
    receipt = forget(Catalog(str(url)), likenesses=[Likeness(MODEL, np.array([turned(outside, 0.9)], np.float32), 0.8)])
    assert (receipt.faces, receipt.references, receipt.names) == (0, 1, 1)
    assert holding(url, numbers(outside), "Anna N", ANNA_ID) == set()
    assert faces(url) == ids([*EVERYWHERE, *OTHERS])


def test_what_a_photo_has_found_is_known_to_the_next_one_when_it_is_killed(url: Path) -> None:
    outside = turned(ANNA.vector, 0.0, 5)
    add(url, "people", {"person_id": ANNA_ID, "name": "Anna N", "vector": outside})

    def killed(gone: Sequence[str], left: Sequence[str]) -> Removed:
        raise KeyboardInterrupt

    likenesses = [Likeness(MODEL, np.array([turned(outside, 0.9)], np.float32), 0.8)]
    with pytest.raises(KeyboardInterrupt):
        forget(Catalog(str(url)), likenesses=likenesses, remove_vectors=killed)
    assert holding(url, numbers(outside))
    assert forget(Catalog(str(url)), face_ids=[BEN.face_id]).references == 1
    assert holding(url, numbers(outside), "Anna N", ANNA_ID) == set()


def test_of_several_persons_of_one_name_it_must_be_said_which(url: Path) -> None:
    second = {"collection": "second", "person_id": "c" * 32, "name": "Anna", "face_id": OTHERS[2].face_id}
    add(url, "people", {"person_id": ANNA_ID, "name": "Anna", "face_id": ANNA.face_id}, second)
    before = contents(url)
    with pytest.raises(AmbiguousError, match=f"{ANNA_ID} of all, {'c' * 32} of second") as error:
        forget(Catalog(str(url)), person="Anna")
    assert "\n" not in str(error.value)
    assert contents(url) == before
    with pytest.raises(UnknownError, match="nobody is called Anna in the table people of the collection third"):
        choose(Catalog(str(url)), person="Anna", collection="third")
    by_id, by_collection = (
        choose(Catalog(str(url)), person=person, collection=collection)
        for person, collection in (("c" * 32, None), ("Anna", "second"))
    )
    assert by_id.person_ids == by_collection.person_ids == pa.array(["c" * 32])
    # The name is still the other one's.
    forget(Catalog(str(url)), person="Anna", collection="second")
    assert Catalog(str(url)).sql("SELECT person_id, name FROM people").to_pylist() == [
        {"person_id": ANNA_ID, "name": "Anna"}
    ]
    forget(Catalog(str(url)), person="Anna")
    assert holding(url, "Anna", ANNA_ID) == set()


@pytest.mark.parametrize("name", ["all", "grouped", "reference", "indexed", "person", "people", "b.jpg", "name"])
def test_a_person_may_be_called_as_anything_else_is(url: Path, name: str) -> None:
    add(
        url,
        "people",
        {"person_id": ANNA_ID, "name": name, "face_id": ANNA.face_id},
        {"person_id": ANNA_ID, "name": name, "face_id": OTHERS[2].face_id, "how": "grouped"},
        {"person_id": BEN_ID, "name": "Ben", "face_id": BEN.face_id, "how": "grouped"},
        {"person_id": BEN_ID, "name": "Ben", "face_id": BEN.face_id},
    )
    add(url, "audit", {"search_id": "1", "query": name, "rank": 1, "face_id": BEN.face_id})
    add(url, "collection_faces", {"face_id": BEN.face_id, "uri": "b.jpg"})
    assert forget(Catalog(str(url)), person=name).names == 1
    found = Catalog(str(url)).sql("SELECT DISTINCT name FROM people").to_pylist()
    assert found == [{"name": "Ben"}]


def test_a_name_that_stays_where_names_stand_is_found(url: Path) -> None:
    def found(*names: str) -> set[str]:
        return {path.split("/")[0] for path in look_for(Catalog(str(url)).storage, [], names).found}

    add(url, "people", {"person_id": ANNA_ID, "name": "Ännchen", "face_id": ANNA.face_id})
    add(url, "audit", {"search_id": "1", "query": "b.jpg", "condition": "name = 'ännchen' AND age > 3"})
    assert found("Ännchen") == {"people", "audit"}
    assert found("collection", "person_id", "b.jpg", "all", "1") == set()
    forget(Catalog(str(url)), person=ANNA_ID)
    assert found("Ännchen") == set()
    # Statistics of another writer would have it.
    log = url / "people" / "_delta_log" / "00000000000000000099.json"
    for ascii_only in (True, False):
        least = json.dumps({"minValues": {"name": "Ännchen"}}, ensure_ascii=ascii_only, separators=(",", ":"))
        log.write_text(json.dumps({"add": {"path": "x", "stats": least}}, ensure_ascii=ascii_only))
        assert found("Ännchen") == {"people"}


def test_what_could_not_be_reached_in_milvus_is_tried_again(url: Path) -> None:
    asked: list[tuple[set[str], set[str]]] = []

    def unreachable(gone: Sequence[str], left: Sequence[str]) -> Removed:
        asked.append((set(gone), set(left)))
        return Removed(["NOT DONE: far away"], sorted({*left, f"copy_{len(asked)}"}))

    def reachable(gone: Sequence[str], left: Sequence[str]) -> Removed:
        asked.append((set(gone), set(left)))
        return Removed(["done"], [])

    first = forget(Catalog(str(url)), face_ids=[ANNA.face_id], remove_vectors=unreachable)
    assert first.not_done == ["copy_1"]
    assert holding(url, *texts(EVERYWHERE)) == set()
    second = forget(Catalog(str(url)), face_ids=[BEN.face_id], remove_vectors=unreachable)
    # One that cannot reach Milvus at all, and asks for nobody that is there, leaves it as it is.
    third = forget(Catalog(str(url)), face_ids=["0" * 32])
    assert third.not_done == second.not_done == ["copy_1", "copy_2"]
    # Of which of two it was asked is no question that may be passed over for it.
    two = [{"person_id": one, "name": "Dora", "face_id": OTHERS[1].face_id} for one in (ANNA_ID, BEN_ID)]
    add(url, "people", *two)
    with pytest.raises(AmbiguousError):
        forget(Catalog(str(url)), person="Dora", remove_vectors=reachable)
    fourth = forget(Catalog(str(url)), face_ids=[ANNA.face_id], remove_vectors=reachable)
    assert [left for _, left in asked] == [set(), {"copy_1"}, {"copy_1", "copy_2"}]
    assert asked[1:] == [({BEN.face_id}, {"copy_1"}), (set(), {"copy_1", "copy_2"})]
    assert not list((url / "_pinakes" / "forgetting").iterdir())
    written = receipts(Catalog(str(url)))
    assert [one.get("completed_by") for one in written] == [*[fourth.receipt_id] * 3, None]
    assert all(one["finished_at"] for one in written)
    with pytest.raises(UnknownError):
        forget(Catalog(str(url)), face_ids=["0" * 32], remove_vectors=reachable)
