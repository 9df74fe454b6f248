"""The faces of a photo that is asked with: as a run finds them, and compared with those of another photo."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from pinakes.catalog import Catalog
from pinakes.catalog.sql import connect
from pinakes.catalog.thresholds import thresholds
from pinakes.jobs.errors import SpecError
from pinakes.jobs.face_query import QueryFace, compare, faces_in, similarity
from pinakes.operators.errors import ErrorCode, MediaError
from pinakes.operators.faces import SCHEMA, Faces
from pinakes.operators.operator import EMBEDDINGS, PICTURE, Operator, Picture, Results
from tests.films import write_film
from tests.jobs.small_run import jpeg, loaded, small_run, stop_sign

MODEL = "yunet-2023mar+sface-2021dec"

THRESHOLD = thresholds(MODEL).search


@pytest.fixture(scope="module")
def photos() -> Path:
    """The folder of photos of six people."""
    if not os.environ.get("PINAKES_EVAL"):
        pytest.skip("PINAKES_EVAL is not set")
    return Path(os.environ["PINAKES_EVAL"], "faces")


def film_of(photo: Path, path: Path, seconds: int = 3, fps: int = 5) -> Path:
    """A film that shows a photo, which moves to the right by a sixtieth with each frame."""
    import av

    image = Image.open(photo).convert("RGB").resize((480, 600))
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=fps, options={"crf": "18", "preset": "superfast"})
        stream.width, stream.height, stream.pix_fmt = *image.size, "yuv420p"
        for number in range(seconds * fps):
            shifted = np.roll(np.asarray(image), 8 * number, axis=1)
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(shifted), "rgb24").reformat(format="yuv420p")
            frame.pts = number
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


# --- as a run


@pytest.fixture(scope="module")
def seen(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The faces that a run found in a photo, one turned by its EXIF, and a film of one: with their vectors."""
    folder = tmp_path_factory.mktemp("seen")
    archive = folder / "archive"
    archive.mkdir()
    shutil.copy(photos / "two_people.jpg", archive)
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = Image.open(photos / "biden.jpg").convert("RGB").rotate(90, expand=True)
    (archive / "turned.jpg").write_bytes(jpeg(turned, exif=exif))
    film_of(photos / "obama.jpg", archive / "film.mp4")
    small_run(archive, folder / "catalog", loaded("faces"))
    with connect(Catalog(str(folder / "catalog"))) as connection:
        query = "FROM latest_faces JOIN (SELECT subject_id, vector FROM latest_embeddings) ON face_id = subject_id"
        rows = connection.sql(query).to_arrow_table().to_pylist()
    return [{**row, "vector": np.array(row["vector"], np.float32)} for row in rows]


def same(face: QueryFace, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The face of the catalogue that is in its place."""
    (row,) = [one for one in rows if one["frame_ms"] == face.frame_ms and one["box"] == pytest.approx(dict(face.box))]
    return row


@pytest.mark.parametrize(("name", "at_ms"), [("two_people.jpg", None), ("turned.jpg", None), ("film.mp4", 2000)])
def test_a_photo_is_like_itself_in_the_archive(
    seen: list[dict[str, Any]], tmp_path: Path, name: str, at_ms: int | None
) -> None:
    rows = [row for row in seen if row["uri"].endswith(name)]
    path = Path(rows[0]["uri"].removeprefix("file://"))
    copy = tmp_path / f"another name{path.suffix}"
    shutil.copy(path, copy)
    found = faces_in(str(copy), MODEL, at_ms=at_ms)
    assert found
    for face in found:
        row = same(face, rows)
        assert similarity(face.vector, row["vector"]) > 0.999
        assert face.vector.shape == (128,)
        assert face.content_id == row["content_id"]
        assert face.quality == row["quality"]
        assert face.face_id != row["face_id"], "an id of the catalogue's"
    again = faces_in(str(path), MODEL, at_ms=at_ms)
    assert [one.face_id for one in again] == [one.face_id for one in found], "ids are not from the content alone"


def test_a_frame_is_that_of_its_time(photos: Path, tmp_path: Path) -> None:
    film = film_of(photos / "obama.jpg", tmp_path / "film.mp4")
    at = {ms: faces_in(str(film), MODEL, at_ms=ms)[0] for ms in (0, 2900)}
    assert {ms: one.frame_ms for ms, one in at.items()} == {0: 0, 2900: 2800}
    assert at[2900].box["left"] - at[0].box["left"] == pytest.approx(14 * 8 / 480, abs=0.02)


# --- who is whom


def test_the_same_person_is_above_the_threshold_and_strangers_are_below(photos: Path) -> None:
    people = {
        "obama": ["obama.jpg", "obama2.jpg", "obama3.jpg", "obama_partial_face.jpg", "test/obama1.jpg"],
        "biden": ["biden.jpg", "train/biden/biden2.jpg"],
        "alex": ["test/alex_lacamoire1.jpg", "train/alex_lacamoire/img1.jpg"],
        "rose": ["train/rose_leslie/img1.jpg", "train/rose_leslie/img2.jpg"],
        "lin": ["lin-manuel-miranda.png"],
        "kit": ["test/johnsnow_test1.jpg"],
    }
    vectors = [(who, faces_in(str(photos / name), MODEL)[0].vector) for who, names in people.items() for name in names]
    pairs = 0
    for number, (who, vector) in enumerate(vectors):
        for other, another in vectors[:number]:
            alike = similarity(vector, another)
            assert 0 <= alike <= 1
            assert (alike > THRESHOLD) == (who == other), (who, other, alike)
            pairs += 1
    assert pairs == 78


def test_the_largest_face_comes_first(photos: Path) -> None:
    found = faces_in(str(photos / "test" / "obama_and_biden.jpg"), MODEL)
    areas = [one.box["width"] * one.box["height"] for one in found]
    assert len(areas) == 3
    assert areas == sorted(areas, reverse=True)


def test_two_photos_are_compared(photos: Path) -> None:
    both = photos / "test" / "obama_and_biden.jpg"
    found = compare(str(photos / "obama.jpg"), str(both), MODEL, THRESHOLD)
    assert (len(found.matches), len(found.unmatched), found.source_faces) == (1, 2, 1)
    # Obama stands in the middle, to the right of Biden.
    assert 0.5 < found.matches[0].face.box["left"] < 0.65
    said = json.loads(json.dumps(found.as_dict()))
    assert said["target"] == f"file://{both}"
    assert [one["similarity"] > THRESHOLD for one in said["matches"] + said["unmatched"]] == [True, False, False]
    assert said["unmatched"][0]["similarity"] >= said["unmatched"][1]["similarity"]
    assert said["matches"][0]["box"].keys() == {"left", "top", "width", "height"}
    assert "vector" not in json.dumps(said)
    none = compare(str(photos / "obama.jpg"), str(both), MODEL, 0.999)
    assert not none.matches
    assert none.unmatched[0].face.face_id == found.matches[0].face.face_id


# --- without a face, without a photo


def test_no_face_is_an_empty_answer(tmp_path: Path) -> None:
    sign = tmp_path / "sign.jpg"
    sign.write_bytes(stop_sign())
    assert faces_in(str(sign), MODEL) == []
    found = compare(str(sign), str(sign), MODEL, THRESHOLD)
    assert (found.source_face, found.source_faces, found.matches, found.unmatched) == (None, 0, (), ())
    assert found.as_dict()["source_face"] is None


def test_the_faces_of_the_other_photo_are_told_where_the_first_has_none(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "sign.jpg").write_bytes(stop_sign())
    found = compare(str(tmp_path / "sign.jpg"), str(photos / "two_people.jpg"), MODEL, 0.0)
    assert not found.matches
    assert [one.similarity for one in found.unmatched] == [None, None]


def test_what_is_no_photo_is_said_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "torn.jpg").write_bytes(stop_sign()[:9000])
    (tmp_path / "note.txt").write_text("no picture")
    (tmp_path / "torn.mp4").write_bytes(b"no film")
    write_film(tmp_path / "film.mp4", 1, size=(160, 90))
    codes = {"torn.jpg": ErrorCode.TRUNCATED, "note.txt": ErrorCode.NOT_MEDIA, "nowhere.jpg": ErrorCode.NOT_FOUND}
    for name, code in codes.items():
        with pytest.raises(MediaError, match=name) as error:
            faces_in(str(tmp_path / name), MODEL)
        assert error.value.code is code
    with pytest.raises(MediaError, match=r"torn\.mp4"):
        faces_in(str(tmp_path / "torn.mp4"), MODEL, at_ms=0)
    with pytest.raises(SpecError, match=r"film\.mp4 is a video"):
        faces_in(str(tmp_path / "film.mp4"), MODEL)
    with pytest.raises(SpecError, match="long: there is no frame"):
        faces_in(str(tmp_path / "film.mp4"), MODEL, at_ms=60_000)
    with pytest.raises(SpecError, match="one picture"):
        faces_in(str(tmp_path / "torn.jpg"), MODEL, at_ms=0)


# --- models


class Mine(Operator):
    """An operator of a user's own: two faces in every picture, the smaller one first, and a vector of the picture."""

    name = "mine"
    tables: ClassVar = {"faces": SCHEMA.remove(SCHEMA.get_field_index("quality")), "embeddings": EMBEDDINGS}

    def look(self, pictures: Sequence[Picture]) -> Results:
        places = {"small": box(0.1), "large": box(0.2)}
        vectors = [("face", "large", [0.0, 1.0]), ("image", "small", [1.0, 1.0]), ("face", "small", [1.0, 0.0])]
        rows: dict[str, list[dict[str, Any]]] = {
            "faces": [{"face_id": name, "box": place, "confidence": 0.5} for name, place in places.items()],
            "embeddings": [dict(zip(EMBEDDINGS.names, vector, strict=True)) for vector in vectors],
        }
        schemas = {table: pa.schema([PICTURE, *own]) for table, own in self.tables.items()}
        return {
            table: pa.Table.from_pylist([{"picture": 0, **row} for row in own], schemas[table])
            for table, own in rows.items()
        }


def box(side: float) -> dict[str, float]:
    return {"left": 0.5, "top": 0.5, "width": side, "height": side}


@pytest.fixture
def mine(monkeypatch: pytest.MonkeyPatch) -> None:
    """An installation that has it beside `faces`."""
    entries = {one.name: SimpleNamespace(load=lambda one=one: one) for one in (Faces, Mine)}
    monkeypatch.setattr("pinakes.operators.operator.available", lambda: entries)
    monkeypatch.setattr("pinakes.jobs.face_query._open", {})


def test_the_operator_is_the_one_whose_model_it_is(mine: None, tmp_path: Path) -> None:
    (tmp_path / "sign.jpg").write_bytes(stop_sign())
    large, small = faces_in(str(tmp_path / "sign.jpg"), "mine-1")
    assert (large.face_id, small.face_id) == ("large", "small")
    assert (large.quality, large.confidence) == (None, 0.5)
    assert large.vector.tolist() == [0.0, 1.0]


def test_another_model_is_refused(mine: None, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="of the model theirs-2") as error:
        faces_in(str(tmp_path / "nowhere.jpg"), "theirs-2")
    assert f"mine-1, {MODEL}" in str(error.value)


def test_the_import_is_quick() -> None:
    script = """
import sys
import pinakes.jobs.face_query
heavy = {"ray", "pyarrow", "duckdb", "openvino", "cv2", "numpy", "deltalake", "PIL", "fsspec"} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
