"""`pinakes faces forget`: it says first what would go, and afterwards what did and what could not be reached."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from pinakes.catalog import Catalog, people
from pinakes.catalog.face_collections import Collections
from pinakes.catalog.face_loading import index
from pinakes.catalog.forgetting import receipts
from pinakes.jobs import face_people
from pinakes.jobs.cli import app
from tests.catalog.face_rows import holding
from tests.catalog.test_live import another
from tests.drawn_faces import add_faces, identities

VECTORS = identities(2, 3)


@pytest.fixture
def catalog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Catalog:
    """Three faces each of Anna, who was named by a photo, and of somebody else; a collection on another machine."""
    made = Catalog(str(tmp_path / "catalog"), create=True)
    ids = add_faces(made, [f"file:///{number}.jpg" for number in range(3)], VECTORS.reshape(2, 3, 128).swapaxes(0, 1))
    with monkeypatch.context() as there:
        there.setenv("PINAKES_CACHE", str(tmp_path / "far"))
        there.setattr("platform.node", lambda: "far.away")
        index(made, "everybody")
    collection = Collections(made).get("everybody")
    assert collection.faces == 6
    batches = made.sql("SELECT subject_id AS face_id, vector FROM embeddings")
    assert people.name(made, "everybody", "Anna", batches, 0.5, photos=VECTORS[:1]).matched == 3
    assert len(ids) == 3
    return made


def forget(catalog: Catalog, *words: str, answer: str = "y\n") -> Any:
    return CliRunner().invoke(app, ["faces", "forget", "--catalog", catalog.url, *words], input=answer)


def test_it_says_what_would_go_and_asks(catalog: Catalog) -> None:
    before = catalog.sql("SELECT face_id FROM faces").num_rows
    done = forget(catalog, "--person", "Anna", answer="n\n")
    assert done.exit_code == 1
    assert "forgets 3 faces in 3 pictures and videos of" in " ".join(done.output.split())
    assert "1 faces of photos by which people were named" in " ".join(done.output.split())
    assert catalog.sql("SELECT face_id FROM faces").num_rows == before
    assert receipts(catalog) == []


def test_what_could_not_be_reached_is_said_and_is_no_success(catalog: Catalog) -> None:
    done = forget(catalog, "--person", "Anna", "--collection", "everybody")
    assert done.exit_code == 3, done.output
    said = " ".join(done.output.split())
    assert "NOT DONE: everybody has the faces still: its copy is in Milvus Lite on far.away" in said
    assert "photos by which people were named" in said
    assert catalog.sql("SELECT face_id FROM faces").num_rows == 3
    # It is still not done when somebody else goes, and that is in the answer to a script as well.
    asked = forget(catalog, "--uri", "file:///0.jpg", "--yes", "--json")
    assert asked.exit_code == 3
    assert json.loads(asked.stdout)["not_done"] == [Collections(catalog).get("everybody").milvus_name]


def test_a_name_that_is_taken_back_is_in_no_file_any_more_or_it_is_said(catalog: Catalog) -> None:
    folder = Path(catalog.url.removeprefix("file://")) / "people"
    reports: list[str] = []
    face_people.unname(catalog, "Anna", report=reports.append)
    assert reports == []
    assert holding(folder, "Anna") == set()
    batches = catalog.sql("SELECT subject_id AS face_id, vector FROM embeddings")
    people.name(catalog, "everybody", "Berta", batches, 0.5, photos=VECTORS[3:4])
    with another(catalog.storage):
        face_people.unname(catalog, "Berta", report=reports.append)
    assert "the name is in old files of the table people until somebody is forgotten" in reports[0]
    assert holding(folder, "Berta")
    forget(catalog, "--uri", "file:///0.jpg", "--yes")
    assert holding(folder, "Berta") == set()
