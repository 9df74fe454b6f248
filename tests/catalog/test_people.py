"""People: groups that keep their ids, names that spread to like faces and to no others, and nothing in the log."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pinakes.catalog import Catalog
from pinakes.catalog.errors import CollectionError, UnknownError
from pinakes.catalog.people import (
    Known,
    group,
    match_new,
    name,
    names,
    people_of,
    unname,
)
from tests.drawn_faces import add_faces, identities

#: Of one person two faces are at .77 here, of two people at .35 at most.
THRESHOLD = 0.5
PEOPLE, FACES = 6, 8


class Archive:
    """Six people, eight faces of each: of the first two together in pictures, of the others alone."""

    def __init__(self, url: Path) -> None:
        self.catalog = Catalog(str(url), create=True)
        self.vectors = identities(PEOPLE, FACES)
        uris, vectors, whose = [], [], []
        for number in range(FACES):
            uris.append(f"s3://bucket/both {number}.jpg")
            vectors.append(self.vectors[[number, FACES + number]])
            whose.append([0, 1])
            for person in range(2, PEOPLE):
                uris.append(f"s3://bucket/{person} {number}.jpg")
                vectors.append(self.vectors[[person * FACES + number]])
                whose.append([person])
        ids = add_faces(self.catalog, uris, vectors, captured_at=datetime(2019, 5, 1, tzinfo=UTC))
        self.ids: dict[int, list[str]] = {person: [] for person in range(PEOPLE)}
        for people, found in zip(whose, ids, strict=True):
            for person, face_id in zip(people, found, strict=True):
                self.ids[person].append(face_id)

    @property
    def everybody(self) -> list[str]:
        return [face_id for ids in self.ids.values() for face_id in ids]

    @property
    def faces(self) -> pa.Table:
        """As the loader gives them."""
        return self.catalog.sql(
            "SELECT subject_id AS face_id, vector, item_key, frame_ms FROM latest_embeddings ORDER BY subject_id"
        )

    def group(self, **settings: bool) -> None:
        group(self.catalog, "all", self.faces, THRESHOLD, **settings)

    def name(self, person: str, *face_ids: str, photos: np.ndarray | None = None, **more: object) -> None:
        name(self.catalog, "all", person, self.faces, THRESHOLD, face_ids=face_ids, photos=photos, **more)  # type: ignore[arg-type]

    def who(self, person: int) -> set[tuple[str, str | None]]:
        """The ids and names that the faces of a person have."""
        found = names(self.catalog, "all", self.ids[person])
        assert set(found) == set(self.ids[person])
        return {(one.person_id, one.name) for one in found.values()}

    def rows(self) -> list[tuple[object, ...]]:
        """All that stands in the table but when."""
        table = self.catalog.sql("SELECT * EXCLUDE (recorded_at) FROM people ORDER BY ALL")
        return [tuple(str(value) for value in row.values()) for row in table.to_pylist()]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    return Archive(tmp_path_factory.mktemp("made") / "catalog")


@pytest.fixture
def archive(made: Archive, tmp_path: Path) -> Archive:
    """A copy of it, with nobody in it yet."""
    shutil.copytree(made.catalog.url.removeprefix("file://"), tmp_path / "catalog")
    copied = copy(made)
    copied.catalog = Catalog(str(tmp_path / "catalog"))
    return copied


def another(archive: Archive, person: int, seed: int) -> np.ndarray:
    """(1, 128) a face of that person that is in no picture of the archive."""
    vector = archive.vectors[person * FACES : (person + 1) * FACES].mean(axis=0)
    vector = vector / np.linalg.norm(vector) + 0.4 * np.random.default_rng(seed).normal(size=128) / 128**0.5
    unit: np.ndarray = (vector / np.linalg.norm(vector)).astype(np.float32)[None]
    return unit


def test_strangers_get_ids_of_their_own(archive: Archive) -> None:
    result = group(archive.catalog, "all", archive.faces, THRESHOLD)
    assert (result.faces, result.people, result.alone, result.named) == (PEOPLE * FACES, PEOPLE, 0, 0)
    found = [archive.who(person) for person in range(PEOPLE)]
    assert all(len(one) == 1 for one in found)
    assert len(set().union(*found)) == PEOPLE
    table = people_of(archive.catalog, "all").to_pylist()
    assert [(row["faces"], row["pictures"], row["name"]) for row in table] == [(FACES, FACES, None)] * PEOPLE
    assert {row["first"] for row in table} == {datetime(2019, 5, 1, tzinfo=UTC)}
    for row in table:
        (person,) = (number for number, ids in archive.ids.items() if row["face_id"] in ids)
        assert archive.who(person) == {(row["person_id"], None)}
        own = archive.vectors[person * FACES : (person + 1) * FACES]
        nearest = archive.ids[person][int((own @ own.mean(axis=0)).argmax())]
        assert row["face_id"] == nearest


def test_people_keep_their_ids_when_they_are_grouped_anew(archive: Archive) -> None:
    few = archive.faces.filter(pa.array([number % 3 > 0 for number in range(PEOPLE * FACES)]))
    group(archive.catalog, "all", few, THRESHOLD)
    before = {
        one.person_id: face_id for face_id, one in names(archive.catalog, "all", few["face_id"].to_pylist()).items()
    }
    archive.group()
    archive.group()
    assert len(archive.rows()) == PEOPLE * FACES
    after = names(archive.catalog, "all", list(before.values()))
    assert {one.person_id: face_id for face_id, one in after.items()} == before
    # Another collection has other people.
    group(archive.catalog, "other", few, THRESHOLD)
    assert len(archive.rows()) == PEOPLE * FACES + few.num_rows
    assert {one.person_id for one in names(archive.catalog, "other", list(before.values())).values()}.isdisjoint(before)


def test_a_name_spreads_to_faces_like_it(archive: Archive) -> None:
    archive.group()
    (before,) = archive.who(2)
    naming = name(archive.catalog, "all", "Ada", archive.faces, THRESHOLD, face_ids=[archive.ids[2][0]])
    assert (naming.references, naming.matched, naming.faces) == (1, FACES - 1, FACES)
    assert archive.who(2) == {(before[0], "Ada")}  # the id that grouping gave
    assert names(archive.catalog, "all", archive.ids[2][:2]) == {
        archive.ids[2][0]: Known(before[0], "Ada", "reference"),
        archive.ids[2][1]: Known(before[0], "Ada", "matched"),
    }
    assert {person_name for person in (0, 1, 3, 4, 5) for _, person_name in archive.who(person)} == {None}
    assert people_of(archive.catalog, "all").to_pylist()[0]["faces"] == FACES
    # Grouped anew, and named again with the same face, all is as it was.
    archive.group()
    rows = archive.rows()
    archive.name("Ada", archive.ids[2][0])
    archive.group()
    assert archive.rows() == rows
    assert archive.who(2) == {(before[0], "Ada")}
    # SQL says the same.
    counted = archive.catalog.sql("SELECT name, count(*) AS n FROM latest_people GROUP BY 1 ORDER BY 1 NULLS LAST")
    assert counted.to_pylist() == [{"name": "Ada", "n": FACES}, {"name": None, "n": (PEOPLE - 1) * FACES}]


def test_photos_name_too_and_new_faces_get_the_name(archive: Archive) -> None:
    archive.name("Ada", photos=another(archive, 0, 1))
    archive.name("Ada", photos=another(archive, 0, 1))
    archive.name("Bob", archive.ids[1][3], photos=another(archive, 1, 2))
    archive.name("Cy", photos=np.ones((1, 64), np.float32) / 8)  # by a model of other vectors: it finds nobody
    assert {one[1] for one in archive.who(0)} == {"Ada"}
    assert {one[1] for one in archive.who(1)} == {"Bob"}
    references = archive.catalog.sql(
        "SELECT name, count(*) AS n FROM people WHERE how = 'reference' GROUP BY 1 ORDER BY 1"
    )
    assert references.to_pylist() == [
        {"name": "Ada", "n": 1},
        {"name": "Bob", "n": 2},
        {"name": "Cy", "n": 1},
    ]
    vectors = [another(archive, 0, 7), another(archive, 1, 8), another(archive, 3, 9)]
    ids = [one for (one,) in add_faces(archive.catalog, ["a.jpg", "b.jpg", "c.jpg"], vectors)]
    new = pa.table({"face_id": ids, "vector": [vector[0].tolist() for vector in vectors]})
    asked: list[object] = []

    def look_up(face_ids: list[str]) -> dict[str, np.ndarray]:
        asked.append(face_ids)
        return {archive.ids[1][3]: archive.vectors[FACES + 3]}

    batches = new.cast(pa.schema([("face_id", pa.string()), ("vector", pa.list_(pa.float32()))])).to_batches(1)
    assert match_new(archive.catalog, "all", lambda: batches, THRESHOLD, look_up=look_up) == 2
    assert asked == [[archive.ids[1][3]]]
    found = names(archive.catalog, "all", ids)
    assert {face_id: (one.name, one.how) for face_id, one in found.items()} == {
        ids[0]: ("Ada", "matched"),
        ids[1]: ("Bob", "matched"),
    }
    assert match_new(archive.catalog, "all", lambda: batches, THRESHOLD) == 0
    assert match_new(archive.catalog, "other", lambda: batches, THRESHOLD) == 0


def test_two_names_never_become_one(archive: Archive) -> None:
    """Even where grouping takes two people for one: each face goes to whom it is nearest."""
    archive.name("Ada", archive.ids[0][0])
    archive.name("Bob", archive.ids[1][0])
    group(archive.catalog, "all", archive.faces, -1.0)
    assert {one[1] for one in archive.who(0)} == {"Ada"}
    assert {one[1] for one in archive.who(1)} == {"Bob"}
    ids = {one.person_id for one in names(archive.catalog, "all", archive.everybody).values()}
    assert len(ids) == 2


def test_a_group_that_is_like_a_reference_here_and_there_only_is_not_that_person(archive: Archive) -> None:
    archive.group()
    # A reference that is like one face of somebody else's.
    stray = archive.vectors[3 * FACES] + 0.5 * archive.vectors[2 * FACES]
    low = float((archive.vectors[3 * FACES : 4 * FACES] @ (stray / np.linalg.norm(stray)))[1:].max()) + 0.01
    name(archive.catalog, "all", "Ada", archive.faces, low, photos=(stray / np.linalg.norm(stray))[None])
    assert sum(one.name == "Ada" for one in names(archive.catalog, "all", archive.ids[3]).values()) == 1
    archive.group()
    assert sum(one.name == "Ada" for one in names(archive.catalog, "all", archive.ids[3]).values()) == 1


def test_names_can_be_taken_back(archive: Archive) -> None:
    archive.group()
    archive.name("Ada", archive.ids[0][0])
    archive.name("Bob", archive.ids[1][0])
    (before,) = archive.who(0)
    with pytest.raises(CollectionError, match="is a reference of Bob"):
        archive.name("Eve", archive.ids[1][0])
    with pytest.raises(UnknownError, match="no vector of the face 0000"):
        archive.name("Eve", "0" * 32)
    unname(archive.catalog, "all", "Ada")
    assert archive.who(0) == {(before[0], None)}
    assert {one[1] for one in archive.who(1)} == {"Bob"}
    with pytest.raises(UnknownError, match="nobody in all is called Ada"):
        unname(archive.catalog, "all", "Ada")


def test_before_there_are_people_there_are_none(archive: Archive) -> None:
    assert names(archive.catalog, "all", archive.ids[0]) == {}
    assert people_of(archive.catalog, "all").num_rows == 0
    assert match_new(archive.catalog, "all", archive.faces, THRESHOLD) == 0
    result = group(archive.catalog, "all", archive.faces.slice(0, 0), THRESHOLD)
    assert (result.faces, result.people) == (0, 0)
    assert archive.rows() == []


def test_nobody_stands_in_the_delta_log(archive: Archive) -> None:
    archive.group()
    archive.name("Ada Lovelace", archive.ids[0][0], photos=another(archive, 0, 1))
    match_new(archive.catalog, "all", archive.faces, THRESHOLD)
    archive.group()
    log = "".join(
        path.read_text()
        for path in Path(archive.catalog.url.removeprefix("file://"), "people/_delta_log").glob("*.json")
    )
    assert "collection = 'all'" in log
    secrets = {"Lovelace", "Countess", *archive.everybody}
    secrets |= set(archive.catalog.sql("SELECT DISTINCT person_id FROM people")["person_id"].to_pylist())
    assert [secret for secret in secrets if secret in log] == []


def test_those_who_write_at_once_lose_nothing(archive: Archive) -> None:
    archive.group()
    with ThreadPoolExecutor(4) as pool:
        for future in [
            *(pool.submit(archive.name, f"person {number}", archive.ids[number][0]) for number in range(4)),
            pool.submit(archive.group),
        ]:
            future.result()
    archive.group()
    for number in range(4):
        assert {one[1] for one in archive.who(number)} == {f"person {number}"}
    assert len({face for face in archive.catalog.sql("SELECT face_id FROM people")["face_id"].to_pylist()}) == 48


def test_what_dies_before_the_commit_has_changed_nothing(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    archive.name("Ada", archive.ids[0][0])
    rows = archive.rows()

    def dies(*given: object, **more: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("pinakes.catalog.people_rows.write_deltalake", dies)
        for change in (archive.group, lambda: archive.name("Bob", archive.ids[1][0])):
            with pytest.raises(KeyboardInterrupt):
                change()
    assert archive.rows() == rows
