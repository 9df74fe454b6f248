"""What a run commits is in its collection before the run has ended; what goes wrong there does not end the run."""

import time
from pathlib import Path

import pytest

from pinakes.catalog import Catalog, milvus
from pinakes.catalog.errors import CollectionError
from pinakes.catalog.face_collections import Collections
from pinakes.jobs.collection_loader import CollectionLoader, model_of
from pinakes.jobs.errors import SpecError
from pinakes.jobs.spec import FacesSpec
from pinakes.operators.operator import create
from tests.drawn_faces import MODEL, add_faces, identities


@pytest.fixture
def catalog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Catalog:
    monkeypatch.setenv("PINAKES_CACHE", str(tmp_path / "cache"))
    return Catalog(str(tmp_path / "catalog"), create=True)


def see(catalog: Catalog, first: int) -> None:
    add_faces(catalog, [f"file:///{number}.jpg" for number in range(first, first + 3)], identities(3, 1)[:, None])


def faces(catalog: Catalog) -> int:
    there = Collections(catalog).find("people")
    return there.faces if there else 0


def test_it_loads_as_the_run_goes(catalog: Catalog) -> None:
    said: list[str] = []
    loader = CollectionLoader(catalog, FacesSpec(collection="people"), MODEL, said.append)
    for seen in (3, 6):
        see(catalog, seen)
        loader.more()
        deadline = time.monotonic() + 60
        while faces(catalog) < seen and time.monotonic() < deadline:
            time.sleep(0.05)
        assert faces(catalog) == seen
    # What was committed last, with nobody told, is loaded at the end all the same.
    see(catalog, 9)
    assert loader.finish() == {"name": "people", "faces": 9, "added": 9, "left_out": 0, "error": None}
    # What a run that was killed has left is loaded by the next at its start.
    see(catalog, 12)
    again = CollectionLoader(catalog, FacesSpec(collection="people"), MODEL, said.append)
    assert faces(catalog) == 12
    assert again.finish()["added"] == 3
    assert said == []


def test_a_milvus_that_fails_is_said_and_the_run_goes_on(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    loader = CollectionLoader(catalog, FacesSpec(collection="people"), MODEL, said.append)
    monkeypatch.setattr(milvus, "lite_folder", lambda name: Path("/proc/nowhere") / name)
    see(catalog, 0)
    summary = loader.finish()
    assert summary["faces"] == 0
    assert summary["error"]
    assert len(said) == 1
    monkeypatch.undo()


def test_another_collection_than_the_job_says_is_refused_before_the_run(catalog: Catalog) -> None:
    see(catalog, 0)
    CollectionLoader(catalog, FacesSpec(collection="people"), MODEL, print).finish()
    with pytest.raises(CollectionError, match="are of the model drawn-1, not another"):
        CollectionLoader(catalog, FacesSpec(collection="people"), "another", print)
    with pytest.raises(CollectionError, match="its condition is none, not age > 3"):
        CollectionLoader(catalog, FacesSpec(collection="people", where="age > 3"), MODEL, print)


def test_a_job_without_face_vectors_fills_no_collection() -> None:
    assert model_of({"faces": create("faces"), "labels": create("labels")}) == create("faces").model
    with pytest.raises(SpecError, match="the job has none: add `faces` to its operators"):
        model_of({"labels": create("labels")})
