"""A load that is killed loses nothing and leaves nothing behind: the next one makes the collection what it must be."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pinakes.catalog import Catalog
from pinakes.catalog.face_collections import Collections
from pinakes.catalog.face_loading import index, rebuild
from pinakes.catalog.milvus import lite_folder, opened
from tests.drawn_faces import add_faces, identities

#: Says a line after each step, and goes on when it is read.
LOADER = """
import sys
from pinakes.catalog import Catalog, face_loading
face_loading.STEP = 50
getattr(face_loading, sys.argv[2])(Catalog(sys.argv[1]), "people", advance=lambda faces: print(faces, flush=True))
"""


def killed(catalog: Catalog, command: str, steps: int) -> None:
    """Load in a process of its own, and kill it after so many steps of 50 faces."""
    with subprocess.Popen(
        [sys.executable, "-c", LOADER, catalog.url, command], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for _ in range(steps):
            assert process.stdout.readline() == "50\n"
        os.kill(process.pid, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL


def held(catalog: Catalog) -> set[str]:
    there = Collections(catalog).get("people")
    ids = catalog.sql("SELECT DISTINCT subject_id FROM embeddings")["subject_id"].to_pylist()
    with opened(there.milvus_name, None) as vectors:
        found = set(vectors.get(ids))
        assert vectors.count() == len(found)
    return found


def latest(catalog: Catalog) -> set[str]:
    return set(catalog.sql("SELECT subject_id FROM latest_embeddings")["subject_id"].to_pylist())


def test_a_killed_load_is_made_good_by_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PINAKES_CACHE", str(tmp_path / "cache"))
    catalog = Catalog(str(tmp_path / "catalog"), create=True)
    uris = [f"file:///{number}.jpg" for number in range(500)]
    add_faces(catalog, uris, identities(500, 1)[:, None])
    killed(catalog, "index", 3)
    # What was in it is superseded before anyone loads again: it has to leave.
    add_faces(catalog, uris[:200], identities(200, 1, seed=1)[:, None], version="2")
    killed(catalog, "index", 2)
    done = index(catalog, "people")
    assert done.collection.faces == 500
    assert done.added < 500
    assert held(catalog) == latest(catalog)

    before = Collections(catalog).get("people").milvus_name
    killed(catalog, "rebuild", 4)
    assert Collections(catalog).get("people").milvus_name == before  # the old one answers
    assert held(catalog) == latest(catalog)
    rebuild(catalog, "people")
    assert held(catalog) == latest(catalog)
    # Neither the old one nor the half of the one that was killed takes room any more.
    now = Collections(catalog).get("people").milvus_name
    assert [path.stem for path in lite_folder(now).parent.glob("*.db")] == [now]
