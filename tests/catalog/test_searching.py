"""A search finds the same person, keeps to its condition, and is on record."""

import os
import platform
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pinakes.catalog import Catalog, milvus, people
from pinakes.catalog.collection_definition import Definition
from pinakes.catalog.collection_vectors import in_collection, like
from pinakes.catalog.errors import BusyCatalogError, CollectionError, QueryError
from pinakes.catalog.face_collections import Collections
from pinakes.catalog.face_loading import index
from pinakes.catalog.live import at_work, forgetting
from pinakes.catalog.searching import Match, Query, face_query, search
from tests.drawn_faces import MODEL, add_faces, identities

#: Twelve people of three faces each.
VECTORS = identities(12, 3)


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    """Three runs, of 2018, 2019 and 2020, saw a face of everybody each; those of 2020 have no age."""
    made = Catalog(str(tmp_path_factory.mktemp("searched") / "catalog"), create=True)
    for number in range(3):
        add_faces(
            made,
            [f"s3://bucket/{2018 + number}/it's {person}.jpg" for person in range(12)],
            VECTORS[number::3][:, None],
            source=f"s3://bucket/{2018 + number}",
            captured_at=datetime(2018 + number, 6, 1, tzinfo=UTC),
            ages=None if number == 2 else [20.0 + person for person in range(12)],
        )
    return made


@pytest.fixture(scope="module", params=["lite", "server"])
def collection(request: pytest.FixtureRequest, catalog: Catalog, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of a collection of them."""
    place = request.getfixturevalue("milvus") if request.param == "server" else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PINAKES_CACHE", str(tmp_path_factory.getbasetemp() / "searched-cache"))
        index(catalog, f"all_{request.param}", Definition(milvus=place), wait=False)
    return f"all_{request.param}"


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PINAKES_CACHE", str(tmp_path_factory.getbasetemp() / "searched-cache"))


def ask(catalog: Catalog, collection: str, person: int, **words: object) -> list[Match]:
    """Who is like the first face of that person."""
    query = Query("f" * 32, VECTORS[3 * person])
    settings = {"asked": "a.jpg", "threshold": 0.5, **words}
    (found,) = search(catalog, collection, [query], **settings)  # type: ignore[arg-type]
    return found


def years(found: list[Match]) -> list[str]:
    return [match.uri.split("/")[3] for match in found]


def test_the_same_person_is_found_the_best_first(catalog: Catalog, collection: str) -> None:
    found = ask(catalog, collection, 4)
    assert sorted(years(found)) == ["2018", "2019", "2020"]
    assert {match.uri.rsplit("/", 1)[1] for match in found} == {"it's 4.jpg"}
    assert [match.rank for match in found] == [1, 2, 3]
    assert found[0].similarity == pytest.approx(1, abs=1e-5)
    by_hand = [float(VECTORS[12] @ VECTORS[12 + number]) for number in range(3)]
    assert [match.similarity for match in found] == pytest.approx(sorted(by_hand, reverse=True), abs=1e-4)
    assert years(ask(catalog, collection, 4, limit=1)) == ["2018"]
    assert years(ask(catalog, collection, 4, threshold=0.999)) == ["2018"]


@pytest.mark.parametrize(
    ("condition", "found"),
    [
        ("captured_at >= '2019-01-01'", ["2019", "2020"]),
        ("captured_at < DATE '2019-01-01' OR source = 's3://bucket/2020'", ["2018", "2020"]),
        ("age > 23", ["2018", "2019"]),
        ("NOT age > 100", ["2018", "2019"]),
        ("age IS NULL", ["2020"]),
        ("uri LIKE 's3://bucket/2018/it''s%'", ["2018"]),
        ("uri LIKE 's3://bucket/1%'", []),
    ],
)
def test_a_condition_is_kept(catalog: Catalog, collection: str, condition: str, found: list[str]) -> None:
    # One match may be given: a filter after the search would have thrown away what it found.
    best = ask(catalog, collection, 4, condition=condition, limit=1)
    assert len(best) == min(1, len(found))
    assert sorted(years(ask(catalog, collection, 4, condition=condition))) == found


def test_a_condition_that_is_none_is_refused(catalog: Catalog, collection: str) -> None:
    with pytest.raises(QueryError, match="size"):
        ask(catalog, collection, 4, condition="size > 3")


def test_a_face_of_the_collection_does_not_find_itself(catalog: Catalog, collection: str) -> None:
    first = ask(catalog, collection, 7)[0]
    query = face_query(catalog, collection, first.face_id)
    (found,) = search(catalog, collection, [query], asked=first.face_id, threshold=0.5)
    assert sorted(years(found)) == ["2019", "2020"]
    with pytest.raises(CollectionError, match="has no vector by drawn-1 of a face 0000"):
        face_query(catalog, collection, "0" * 32)
    with pytest.raises(CollectionError, match="32 hex digits"):
        face_query(catalog, collection, "' OR true --")


def test_several_faces_are_looked_for_at_once_and_all_of_it_is_on_record(catalog: Catalog, collection: str) -> None:
    before = catalog.sql("SELECT search_id FROM audit").num_rows if "audit" in catalog.tables() else 0
    stranger = identities(1, 1, seed=9)[0]
    queries = [Query("a" * 32, VECTORS[0]), Query("b" * 32, stranger)]
    found = search(catalog, collection, queries, asked="two people.jpg", threshold=0.6, limit=2, condition="age > 1")
    assert [len(matches) for matches in found] == [2, 0]
    search(catalog, collection, [], asked="nobody.jpg", threshold=0.6)
    rows = catalog.sql("SELECT * FROM audit ORDER BY searched_at, query_face_id, rank").to_pylist()[before:]
    assert len(rows) == 4
    assert [row["query_face_id"] for row in rows[:3]] == ["a" * 32, "a" * 32, "b" * 32]
    assert [row["face_id"] for row in rows] == [*(match.face_id for match in found[0]), None, None]
    assert rows[3]["query"] == "nobody.jpg"
    assert {row["condition"] for row in rows[:3]} == {"age > 1"}
    assert rows[0]["threshold"] == pytest.approx(0.6)
    assert rows[0]["searched_by"].endswith(f"@{platform.node()}")
    assert len({row["search_id"] for row in rows}) == 3


def test_nobody_is_forgotten_between_a_search_and_its_record(
    catalog: Catalog, collection: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the record would name who was forgotten meanwhile."""
    real, seen = milvus.Vectors.search, []

    def asking(self: milvus.Vectors, *words: Any, **named: Any) -> list[list[dict[str, Any]]]:
        found = real(self, *words, **named)
        seen.extend(one.name.split("-")[0] for one in at_work(catalog.storage))
        return found

    monkeypatch.setattr(milvus.Vectors, "search", asking)
    assert ask(catalog, collection, 4)
    assert seen == ["search"]
    assert at_work(catalog.storage) == []
    with forgetting(catalog.storage, "receipt"), pytest.raises(BusyCatalogError, match="being forgotten"):
        ask(catalog, collection, 4)
    # A face that was forgotten after its vector was read is asked for in vain.
    gone = Query("e" * 32, VECTORS[0])
    with pytest.raises(CollectionError, match="has no vector by drawn-1 of a face eeee"):
        search(catalog, collection, [gone], asked=gone.face_id, threshold=0.5)
    assert not catalog.sql(f"FROM audit WHERE query_face_id = '{gone.face_id}'").num_rows


def test_a_face_that_milvus_has_is_not_looked_for_in_all_the_tables(
    catalog: Catalog, collection: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (face_id,) = catalog.sql("SELECT face_id FROM faces WHERE uri LIKE '%2018/it''s 3.jpg'")["face_id"].to_pylist()
    real = Catalog.sql
    monkeypatch.setattr(Catalog, "sql", lambda self, query: pytest.fail(query))
    assert face_query(catalog, collection, face_id).vector == pytest.approx(VECTORS[9])
    monkeypatch.setattr(Catalog, "sql", real)
    # Of one that is not in the collection the tables have it.
    monkeypatch.setattr(milvus.Vectors, "get", lambda self, ids: {})
    assert face_query(catalog, collection, face_id).vector == pytest.approx(VECTORS[9])


def test_who_searches_may_have_no_name(catalog: Catalog, collection: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found: 4711")

    monkeypatch.setattr("getpass.getuser", nobody)
    search(catalog, collection, [], asked="of nobody.jpg", threshold=0.5)
    (row,) = catalog.sql("SELECT searched_by FROM audit WHERE query = 'of nobody.jpg' LIMIT 1").to_pylist()
    assert row["searched_by"].startswith(str(os.getuid()))


def test_matches_have_the_names_that_were_given(catalog: Catalog, collection: str) -> None:
    there = Collections(catalog).get(collection)
    faces = partial(in_collection, catalog, there)
    named = people.name(catalog, collection, "Ada", faces, 0.6, photos=VECTORS[15:16])
    assert named.matched == 3
    assert {match.name for match in ask(catalog, collection, 5)} == {"Ada"}
    assert {match.name for match in ask(catalog, collection, 6)} == {None}
    rows = catalog.sql(f"SELECT uri FROM latest_people WHERE name = 'Ada' AND collection = '{collection}'")
    assert sorted(rows["uri"].to_pylist()) == [f"s3://bucket/{year}/it's 5.jpg" for year in (2018, 2019, 2020)]


def test_all_that_are_like_a_face_are_found_without_a_collection(catalog: Catalog) -> None:
    found = like(catalog, MODEL, np.stack([VECTORS[0], VECTORS[3]]), 0.5)
    uris = catalog.sql("SELECT face_id, uri FROM faces").to_pylist()
    assert {row["uri"].rsplit("/", 1)[1] for row in uris if row["face_id"] in found} == {"it's 0.jpg", "it's 1.jpg"}
    assert len(found) == 6
    assert like(catalog, "another", VECTORS, 0.5) == set()


def test_vectors_of_another_model_are_refused(catalog: Catalog, collection: str) -> None:
    with pytest.raises(CollectionError, match=r"have 128 numbers, that of b.jpg has 64"):
        search(catalog, collection, [Query("a" * 32, np.ones(64, np.float32))], asked="b.jpg", threshold=0.5)


def test_a_collection_that_is_not_on_this_machine_says_how_it_comes_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Catalog(str(tmp_path / "catalog"), create=True)
    add_faces(made, ["file:///a.jpg"], VECTORS[:1, None])
    name = index(made, "here").collection.milvus_name
    milvus.remove(name, None)
    with pytest.raises(CollectionError, match=r"does not have the collection here.*`pinakes faces index here`"):
        search(made, "here", [Query("a" * 32, VECTORS[0])], asked="b.jpg", threshold=0.5)
