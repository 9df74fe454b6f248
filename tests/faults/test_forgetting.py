"""SIGKILL for the process that forgets: asked again it does the rest, and the next run does not undo it."""

import multiprocessing
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from pinakes.catalog import Catalog
from pinakes.catalog.errors import UnknownError
from pinakes.catalog.forgetting import Removed, forget, receipts
from tests.catalog.face_rows import Face, add, commit, holding, numbers
from tests.faults.forgetting import forget_person

# Forks of a process that has imported everything and started nothing.
processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["tests.faults.forgetting"])

ANNA = [Face("a.jpg", "anna"), Face("copy.jpg", "anna", content="a.jpg"), Face("b.jpg", "anna")]
BEN = [Face("a.jpg", "ben", left=0.5), Face("c.jpg", "ben")]
NAME, PERSON_ID = "Anna Näme", "a" * 32
HIDDEN = [text for one in ANNA for text in (one.face_id, numbers(one.vector))] + ["Anna N", PERSON_ID]
#: How often it is killed, evenly over all steps. With as many as there are it passes as well.
KILLS = 9


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Anna has a name, a face by which she was named and one that is like it, and one that nobody has looked at."""
    folder = tmp_path_factory.mktemp("made")
    url = folder / "catalog"
    commit(url, [*ANNA, *BEN])
    known = {"person_id": PERSON_ID, "name": NAME}
    add(url, "people", *({**known, "face_id": one.face_id} for one in (ANNA[0], ANNA[2])), {**known, "vector": [0.5]})
    add(url, "collection_faces", *({"face_id": one.face_id} for one in (*ANNA, *BEN)))
    add(url, "audit", {"search_id": "1", "query": "b.jpg", "rank": 1, "face_id": ANNA[2].face_id, "similarity": 1.0})
    (folder / "milvus").write_text("\n".join(one.face_id for one in (*ANNA, *BEN)))
    return folder


def check(folder: Path) -> None:
    assert holding(folder, *HIDDEN) == set()
    url = folder / "catalog"
    commit(url, [replace(one, fingerprint="later") for one in (*ANNA, *BEN)])
    catalog = Catalog(str(url))
    # What she looks like in a file that is new to the catalogue nobody knows any more; these files are not.
    assert catalog.sql("SELECT uri FROM latest_faces ORDER BY 1")["uri"].to_pylist() == ["a.jpg", "c.jpg"]
    assert sorted((folder / "milvus").read_text().split()) == sorted(one.face_id for one in BEN)
    assert list((url / "_pinakes" / "forgetting").glob("*")) == list((url / "_pinakes" / "live").glob("*")) == []
    written = receipts(catalog)
    finished = {one["receipt_id"] for one in written if one.get("finished_at")}
    assert finished
    assert all(one["receipt_id"] in finished or one["completed_by"] in finished for one in written)


@pytest.mark.timeout(240)
def test_killed_at_any_step_it_is_done_when_asked_again(made: Path, tmp_path: Path) -> None:
    whole = shutil.copytree(made, tmp_path / "whole")
    steps = forget_person(str(whole / "catalog"), NAME, whole / "milvus")
    check(whole)
    assert steps > 60
    died = 0
    for number in range(KILLS):
        die_at = 1 + number * (steps - 1) // (KILLS - 1)
        folder = shutil.copytree(made, tmp_path / str(die_at))
        process = processes.Process(
            target=forget_person, args=(str(folder / "catalog"), NAME, folder / "milvus", die_at)
        )
        process.start()
        process.join()
        died += process.exitcode == -9
        try:
            if number % 3:
                forget_person(str(folder / "catalog"), NAME, folder / "milvus")
            else:
                # Somebody else is to be forgotten, and with her what was left of this one.
                commit(folder / "catalog", [other := Face("d.jpg", "dora")])
                forget(
                    Catalog(str(folder / "catalog")),
                    face_ids=[other.face_id],
                    remove_vectors=lambda ids, left: forgotten(folder / "milvus", ids),  # noqa: B023
                )
                forget_person(str(folder / "catalog"), NAME, folder / "milvus")
        except UnknownError:
            pass  # it had been done
        try:
            check(folder)
        except BaseException as error:
            error.add_note(f"killed at step {die_at} of {steps}")
            raise
    assert died == KILLS


def forgotten(milvus: Path, ids: Sequence[str]) -> Removed:
    milvus.write_text("\n".join(one for one in milvus.read_text().split() if one not in ids))
    return Removed([], [])
