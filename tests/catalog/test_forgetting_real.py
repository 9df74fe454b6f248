"""Real faces, in real photos and a film of one, are forgotten and do not come back when all is looked at again."""

import os
import shutil
from pathlib import Path
from typing import Any

import av
import cv2
import pytest

from pinakes.catalog import Catalog
from pinakes.catalog.forgetting import forget
from pinakes.jobs import watch
from pinakes.operators.faces import Faces
from tests.catalog.face_rows import holding, numbers
from tests.jobs.small_run import loaded, small_run

pytestmark = pytest.mark.skipif("PINAKES_EVAL" not in os.environ, reason="PINAKES_EVAL is not set")


def faces(url: Path) -> set[str]:
    return set(Catalog(str(url)).sql("SELECT face_id FROM faces")["face_id"].to_pylist())


class LaterFaces(Faces):
    """As `faces`, of a later version: it looks at everything again, with other ids."""

    version = 1000


def test_real_faces_do_not_come_back_when_real_photos_are_looked_at_again(tmp_path: Path) -> None:
    photos, archive, url = Path(os.environ["PINAKES_EVAL"], "faces"), tmp_path / "archive", tmp_path / "catalog"
    archive.mkdir()
    for name in ("obama.jpg", "biden.jpg", "two_people.jpg"):
        shutil.copy(photos / name, archive / name)
    shutil.copy(photos / "obama.jpg", archive / "copy.jpg")
    operators = loaded("media", "faces")
    small_run(archive, url, operators)
    query = (
        "SELECT faces.uri, face_id, box, vector FROM faces JOIN embeddings ON face_id = subject_id ORDER BY box.left"
    )
    rows = Catalog(str(url)).sql(query).to_pylist()
    obama = [row for row in rows if row["uri"].endswith(("obama.jpg", "copy.jpg"))]
    of_two = [row for row in rows if row["uri"].endswith("two_people.jpg")]
    assert (len(rows), len(obama), len(of_two)) == (5, 2, 2)
    gone = [*obama, of_two[0]]
    hidden = [text for row in gone for text in (row["face_id"], numbers(row["vector"]))]
    assert len(holding(url, *hidden)) == 2
    # One of the two copies is named, and one of two people next to each other.
    assert forget(Catalog(str(url)), face_ids=[obama[0]["face_id"], of_two[0]["face_id"]]).faces == 3
    assert holding(url, *hidden) == set()
    kept = {row["face_id"] for row in rows} - {row["face_id"] for row in gone}
    assert faces(url) == kept
    later = LaterFaces()
    later.load()
    assert small_run(archive, url, {**operators, "faces": later}).again == 4
    found = Catalog(str(url)).sql("SELECT uri, face_id FROM latest_faces").to_pylist()
    assert sorted(Path(row["uri"]).name for row in found) == ["biden.jpg", "two_people.jpg"]
    assert not {row["face_id"] for row in found} & {row["face_id"] for row in rows}
    assert Catalog(str(url)).sql("SELECT count(*) AS rows FROM latest_embeddings").to_pylist() == [{"rows": 2}]
    # What is in the same place in another file is somebody else, and comes.
    shutil.copy(photos / "obama2.jpg", archive / "new.jpg")
    assert small_run(archive, url, {**operators, "faces": later}).new == 1
    assert Catalog(str(url)).sql("FROM latest_faces").num_rows == 3


@pytest.mark.parametrize("window_ms", [2000, 60_000])
def test_a_real_face_does_not_come_back_with_the_tracks_of_a_film(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, window_ms: int
) -> None:
    """Of a long film they are made of what was committed window by window, of a short one of what is in memory."""
    monkeypatch.setattr(watch, "WINDOW_MS", window_ms)
    archive, url = tmp_path / "archive", tmp_path / "catalog"
    archive.mkdir()
    picture = cv2.imread(str(Path(os.environ["PINAKES_EVAL"], "faces", "two_people.jpg")))
    with av.open(archive / "film.mp4", "w") as container:
        stream = container.add_stream("libx264", rate=2)
        stream.width, stream.height = (side // 2 * 2 for side in picture.shape[1::-1])
        still = av.VideoFrame.from_ndarray(picture[: stream.height, : stream.width], "bgr24")
        for packet in (packet for _ in range(10) for packet in stream.encode(still)):
            container.mux(packet)
        container.mux(stream.encode())
    operators = loaded("media", "frames", "objects", "faces", "tracks")
    small_run(archive, url, operators)

    def tracks(kind: str) -> list[dict[str, Any]]:
        left = "list_min([box.left FOR box IN boxes]) AS left"
        query = f"SELECT track_id, face_ids, {left} FROM latest_tracks WHERE kind = '{kind}' ORDER BY 3"
        found: list[dict[str, Any]] = Catalog(str(url)).sql(query).to_pylist()
        return found

    windows = Catalog(str(url)).sql("FROM ledger WHERE window_start_ms IS NOT NULL").num_rows
    assert bool(windows) == (window_ms < 5000)
    people, (left, right) = tracks("person"), tracks("face")
    assert len(people) >= 2
    assert len(left["face_ids"]) == len(right["face_ids"]) == 5
    assert forget(Catalog(str(url)), face_ids=left["face_ids"][2:3]).rows == {"embeddings": 5, "faces": 5, "tracks": 1}
    assert holding(url, *left["face_ids"], left["track_id"]) == set()
    assert tracks("face") == [right]
    later = LaterFaces()
    later.load()
    assert small_run(archive, url, {**operators, "faces": later}).due == 1
    (again,) = tracks("face")
    assert abs(again["left"] - right["left"]) < 0.01
    assert [one["left"] for one in tracks("person")] == [one["left"] for one in people]
    assert Catalog(str(url)).sql("FROM latest_faces").num_rows == 5
    assert Catalog(str(url)).sql("FROM faces").num_rows == 10
