"""`pinakes show URI`: what was found is on the picture, where it was found, and what has no place stands beside it."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from pinakes.jobs.show import show
from pinakes.operators.decode import decode
from pinakes.operators.operator import BOX, EMBEDDINGS, PICTURE, Operator, Picture, Results
from tests.jobs.command import here, pinakes, refused
from tests.jobs.small_run import jpeg, stop_sign

XY = pa.struct([("x", pa.float32()), ("y", pa.float32())])
COLOUR = pa.struct([("red", pa.uint8()), ("green", pa.uint8()), ("blue", pa.uint8()), ("share", pa.float32())])


class Told(Operator):
    """An operator of a user's own that finds in every picture the rows it was told."""

    name = "told"

    def __init__(self, schema: pa.Schema, rows: Sequence[Mapping[str, Any]], table: str = "finds") -> None:
        super().__init__()
        self.tables = {table: schema}  # type: ignore[misc]
        self.rows = rows

    def look(self, pictures: Sequence[Picture]) -> Results:
        ((table, schema),) = self.tables.items()
        rows = [{"picture": 0, **row} for row in self.rows]
        return {table: pa.Table.from_pylist(rows, schema=pa.schema([PICTURE, *schema]))}


class Broken(Operator):
    name = "broken"
    tables: ClassVar = {"broken": pa.schema([("name", pa.string())])}

    def look(self, pictures: Sequence[Picture]) -> Results:
        raise RuntimeError("no lens\nno light")


NAMED = pa.schema([("name", pa.string()), ("confidence", pa.float32()), ("box", BOX)])
SHAPES = pa.schema([("text", pa.string()), ("polygon", pa.list_(XY)), ("parent_id", pa.string())])


def box(left: float, top: float, width: float, height: float) -> dict[str, float]:
    return {"left": left, "top": top, "width": width, "height": height}


def grey(folder: Path, width: int = 1000, height: int = 800, name: str = "grey.png") -> Path:
    Image.new("RGB", (width, height), (128, 128, 128)).save(folder / name)
    return folder / name


def shown(uri: Path, *operators: str | Operator) -> np.ndarray:
    return np.asarray(show(uri, list(operators)).image)


def touched(pixels: np.ndarray) -> np.ndarray:
    """(height, width) of bool: where a grey picture was drawn on."""
    return (pixels != 128).any(axis=2)


# --- on the picture


@pytest.mark.parametrize("orientation", [1, 6, 3])
def test_a_known_thing_is_framed_where_it_is_whatever_its_orientation_in_the_file(
    tmp_path: Path, orientation: int
) -> None:
    sign = Image.open(io.BytesIO(stop_sign()))
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = sign.rotate({1: 0, 6: 90, 3: 180}[orientation], expand=True)
    (tmp_path / "sign.jpg").write_bytes(jpeg(turned, exif=exif))
    answer = show(tmp_path / "sign.jpg", ["objects", "labels"])
    assert "stop sign" in [one.title for one in answer.findings if one.table == "objects"]
    pixels, before = np.asarray(answer.image), decode((tmp_path / "sign.jpg").read_bytes())[0]
    height, width = before.shape[:2]
    assert (width, height) == (720, 480)
    assert answer.image.height == height
    assert answer.image.width > width + 100, "no panel for the labels"
    changed = (pixels[:, :width] != before).any(axis=2)
    # The sign was drawn at 232..488 x 42..298.
    for band in (changed[150:200, 222:242], changed[150:200, 478:498]):
        assert band.any(axis=1).all(), "an upright side of the box is missing"
    for band in (changed[32:52, 300:420], changed[288:308, 300:420]):
        assert band.any(axis=0).all(), "a level side of the box is missing"
    assert not changed[100:240, 300:420].any(), "the box covers what it frames"


def test_boxes_polygons_and_landmarks_of_anyones_operator(tmp_path: Path) -> None:
    photo = grey(tmp_path)
    pixels = shown(photo, Told(NAMED, [{"name": "kite", "confidence": 0.9, "box": box(0.2, 0.25, 0.5, 0.5)}]))
    assert pixels.shape == (800, 1000, 3), "a panel with nothing in it"
    drawn = touched(pixels)
    assert drawn[200, 200:700].all()
    assert drawn[600, 200:700].all()
    assert drawn[200:600, 200].all()
    assert drawn[200:600, 700].all()
    assert not drawn[210:590, 210:690].any()
    assert not drawn[620:].any()

    corners = [{"x": 0.5, "y": 0.1}, {"x": 0.9, "y": 0.5}, {"x": 0.5, "y": 0.9}]
    drawn = touched(shown(photo, Told(SHAPES, [{"text": "roof", "polygon": corners}])))
    for step in np.linspace(0, 1, 50):
        assert drawn[round(800 * (0.1 + 0.4 * step)), round(1000 * (0.5 + 0.4 * step))]
        assert drawn[round(800 * (0.1 + 0.8 * step)), 500]
    assert not drawn[300:500, 520:700].any()

    schema = pa.schema([("landmarks", pa.struct([("left_eye", XY), ("nose", XY)]))])
    eyes = {"left_eye": {"x": 0.25, "y": 0.5}, "nose": {"x": 0.75, "y": 0.25}}
    drawn = touched(shown(photo, Told(schema, [{"landmarks": eyes}])))
    assert drawn[400, 250]
    assert drawn[200, 750]
    assert not drawn[200, 250]


def test_the_parts_of_a_row_are_not_drawn_again(tmp_path: Path) -> None:
    corners = [{"x": x, "y": y} for x, y in ((0.1, 0.4), (0.5, 0.4), (0.5, 0.6), (0.1, 0.6))]
    line = {"text": "two words", "polygon": corners}
    word = {"text": "two", "polygon": [{**one, "y": 0.9 * one["y"]} for one in corners], "parent_id": "1"}
    alone, both = (shown(grey(tmp_path), Told(SHAPES, rows)) for rows in ([line], [line, word]))
    assert (alone == both).all()


def test_titles_cover_no_text_and_what_has_no_room_is_numbered(tmp_path: Path) -> None:
    rows = []
    for number in range(30):
        top, bottom = 0.02 + 0.032 * number, 0.045 + 0.032 * number
        corners = [{"x": x, "y": y} for x, y in ((0.1, top), (0.9, top), (0.9, bottom), (0.1, bottom))]
        rows.append({"text": f"line {number} of a page", "polygon": corners})
    pixels = shown(grey(tmp_path), Told(SHAPES, rows))
    drawn = touched(pixels)
    for number in range(30):
        middle = round(800 * (0.0325 + 0.032 * number))
        assert not drawn[middle - 4 : middle + 4, 110:890].any(), f"line {number} is covered"
    assert pixels.shape[1] > 1100, "the lines are nowhere to be read"
    assert pixels.shape[0] == 800


def test_a_text_that_fills_the_picture_leaves_room_for_titles(tmp_path: Path) -> None:
    corners = [{"x": x, "y": y} for x, y in ((0, 0), (1, 0), (1, 1), (0, 1))]
    named = Told(NAMED, [{"name": "kite", "confidence": 0.9, "box": box(0.2, 0.25, 0.5, 0.5)}])
    drawn = touched(shown(grey(tmp_path), Told(SHAPES, [{"text": "all", "polygon": corners}], "texts"), named))
    # Its title stands above its corner, as wide as eight letters.
    assert drawn[186:194, 206:260].all()


def test_boxes_and_names_stay_within_the_picture(tmp_path: Path) -> None:
    rows = [
        {"name": "a thing at the corner", "confidence": 0.5, "box": box(0.97, 0, 0.03, 0.02)},
        {"name": "all of it", "confidence": 0.5, "box": box(0, 0, 1, 1)},
        {"name": "far outside", "confidence": 0.5, "box": box(-3, -3, 9, 9)},
        {"name": "nowhere", "confidence": float("nan"), "box": box(float("nan"), 0, float("inf"), 1)},
    ]
    answer = show(grey(tmp_path), [Told(NAMED, rows)])
    assert answer.image.height == 800
    drawn = touched(np.asarray(answer.image)[:, :1000])
    assert drawn[799, :].all() or drawn[798, :].all(), "a box along the edge is not seen"


def test_a_name_has_one_colour_in_every_picture(tmp_path: Path) -> None:
    def edges(*names: str) -> list[tuple[int, ...]]:
        rows = [{"name": name, "confidence": 0.5, "box": box(0.3 * n, 0.3, 0.2, 0.3)} for n, name in enumerate(names)]
        pixels = shown(grey(tmp_path), Told(NAMED, rows))
        return [tuple(pixels[480, 100 + 300 * n].tolist()) for n in range(len(names))]

    dog, cat, kite = edges("dog", "cat", "kite")
    assert len({dog, cat, kite}) == 3
    assert edges("kite", "dog") == [kite, dog]


@pytest.mark.parametrize("size", [(1, 1), (1, 1900), (1900, 1), (40, 30)])
def test_tiny_pictures_and_strips_are_enlarged_or_left(tmp_path: Path, size: tuple[int, int]) -> None:
    found = [{"name": "dot", "confidence": 1.0, "box": box(0, 0, 1, 1)}]
    image = show(grey(tmp_path, *size), [Told(NAMED, found), "media"]).image
    assert max(image.size) >= 640
    assert max(image.size) < 2500


# --- beside it


def test_what_has_no_place_stands_in_the_panel(tmp_path: Path) -> None:
    schema = pa.schema([("dominant_colors", pa.list_(COLOUR)), ("brightness", pa.float32())])
    red = {"red": 200, "green": 10, "blue": 20, "share": 0.6}
    operator = Told(schema, [{"dominant_colors": [red], "brightness": 0.25}], "properties")
    pixels = shown(grey(tmp_path), operator)
    panel = pixels[:, 1000:]
    assert not touched(pixels[:, :1000]).any()
    patch = (panel == (200, 10, 20)).all(axis=2)
    assert patch.sum() > 60, "no swatch"

    many = [{"name": f"label {number}", "confidence": 0.5, "box": None} for number in range(500)]
    pixels = shown(grey(tmp_path), Told(NAMED, many))
    assert pixels.shape[0] == 800, "500 lines made the panel higher than the picture"
    assert (pixels[:, 1000:] < 60).all(axis=2).any(), "nothing is written"


def test_vectors_are_not_for_eyes(tmp_path: Path) -> None:
    row = {"subject": "image", "subject_id": "0" * 32, "vector": [0.123456] * 64}
    answer = show(grey(tmp_path), [Told(EMBEDDINGS, [row], "embeddings")])
    said = answer.as_dict()["tables"]["embeddings"]
    assert said == [{"subject": "image", "subject_id": "0" * 32}]
    assert [one.details for one in answer.findings] == ["subject image"]
    assert answer.tables["embeddings"].num_rows == 1


def test_an_operator_that_fails_costs_the_others_nothing(tmp_path: Path) -> None:
    (tmp_path / "sign.jpg").write_bytes(stop_sign())
    answer = show(tmp_path / "sign.jpg", [Broken(), "objects"])
    assert answer.errors == {"broken": "RuntimeError: no lens no light"}
    assert answer.tables["objects"].num_rows


# --- letters


def test_names_in_any_script_are_drawn_with_the_fonts_there_are(tmp_path: Path) -> None:
    names = [
        "Ωραίος καιρός",
        "Привет, мир",
        "naïve façade",
        "你好世界",
        "مرحبا",
        "नमस्ते",
        "🐕",
        "e\u0301",
        "a\x1b[31m\u202eb",
    ]
    rows = [
        {"name": name, "confidence": 0.5, "box": box(0.1, 0.1 + 0.1 * n, 0.3, 0.05)} for n, name in enumerate(names)
    ]
    drawn = touched(shown(grey(tmp_path), Told(NAMED, rows)))
    for number in range(len(names)):
        # Titles are written above their boxes.
        assert drawn[80 + 80 * number - 12, 100:125].all(), names[number]


# --- the command


def test_help_is_quick() -> None:
    script = """
import sys
from pinakes.jobs.cli import app
try:
    app(["show", "--help"], prog_name="pinakes")
except SystemExit:
    pass
heavy = {"ray", "pyarrow", "duckdb", "openvino", "cv2", "numpy", "deltalake", "PIL", "fsspec"} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--grid" in done.stdout


def test_the_command_writes_what_it_found_and_says_it(tmp_path: Path) -> None:
    photo = tmp_path / "a stop sign é.jpg"
    photo.write_bytes(stop_sign())
    there = tmp_path / "there"
    there.mkdir()
    for name, kind in (("out.png", "PNG"), ("out.JPG", "JPEG"), ("out.webp", "WEBP")):
        done = here("show", photo, "--operators", "media,objects", "--output", name, cwd=there)
        assert (done.returncode, done.stderr) == (0, "")
        assert "stop sign" in done.stdout
        assert name in done.stdout
        assert Image.open(there / name).format == kind
    done = pinakes("show", photo, "--operators", "objects", "--json", cwd=there)
    said = json.loads(done.stdout)
    assert said["tables"]["objects"][0]["name"] == "stop sign"
    assert said["tables"]["objects"][0]["box"].keys() == {"left", "top", "width", "height"}
    assert said["uri"] == f"file://{photo}"
    assert Image.open(there / said["output"]).size[1] == 480
    assert said["output"].endswith(".png")
    assert sorted(path.name for path in tmp_path.iterdir()) == [photo.name, "there"]


def test_what_cannot_be_shown_is_said_in_one_line(tmp_path: Path) -> None:
    photo = grey(tmp_path)
    before = photo.read_bytes()
    link = tmp_path / "link.png"
    link.symlink_to(photo)
    for output in (photo, link):
        assert "picture itself" in refused(2, "show", photo, "--operators", "media", "--output", output)
    assert photo.read_bytes() == before
    words = ("--operators", "media")
    assert "nowhere.jpg" in refused(1, "show", tmp_path / "nowhere.jpg", *words)
    (tmp_path / "torn.jpg").write_bytes(stop_sign()[:9000])
    assert "torn.jpg" in refused(1, "show", tmp_path / "torn.jpg", *words)
    (tmp_path / "note.txt").write_text("no picture")
    assert "not a picture" in refused(1, "show", tmp_path / "note.txt", *words)
    assert str(tmp_path) in refused(1, "show", tmp_path, *words)
    assert ".webp" in refused(2, "show", photo, *words, "--output", tmp_path / "out.gif")
    assert "no folder" in refused(2, "show", photo, *words, "--output", tmp_path / "no" / "out.png")
    assert "lables" in refused(2, "show", photo, "--operators", "lables")
    assert "--grid" in refused(2, "show", photo, "--where", "true")
    assert "--grid" in refused(2, "show")
    assert "--grid" in refused(2, "show", photo, "--grid", 3)
    assert "--operators" in refused(2, "show", "--grid", 3, *words)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["grey.png", "link.png", "note.txt", "torn.jpg"]


def test_an_operator_of_a_package_of_the_users_and_one_that_fails(tmp_path: Path) -> None:
    package = tmp_path / "site"
    installed = package / "corner-1.0.dist-info"
    installed.mkdir(parents=True)
    (package / "corner.py").write_text(
        "import pyarrow as pa\n"
        "from pinakes.operators.operator import BOX, PICTURE, Operator\n"
        "class Corner(Operator):\n"
        "    name = 'corner'\n"
        "    tables = {'corners': pa.schema([('kind', pa.string()), ('box', BOX)])}\n"
        "    def look(self, pictures):\n"
        "        box = dict(left=0.5, top=0.5, width=0.25, height=0.25)\n"
        "        rows = [dict(picture=0, kind='lower right', box=box)]\n"
        "        return {'corners': pa.Table.from_pylist(rows, schema=pa.schema([PICTURE, *self.tables['corners']]))}\n"
        "class Torn(Corner):\n"
        "    name = 'torn'\n"
        "    def look(self, pictures):\n"
        "        raise ValueError('torn apart')\n"
    )
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: corner\nVersion: 1.0\n")
    (installed / "entry_points.txt").write_text("[pinakes.operators]\ncorner = corner:Corner\ntorn = corner:Torn\n")
    out = tmp_path / "out.png"
    words = ("show", grey(tmp_path), "--operators", "torn,corner", "--output", out)
    done = pinakes(*words, PYTHONPATH=str(package))
    assert done.returncode == 3
    assert "torn apart" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert "lower right" in done.stdout
    drawn = touched(np.asarray(Image.open(out)))
    assert drawn[400, 500:750].all()
    assert drawn[400:600, 750].all()
    assert not drawn[410:590, 510:740].any()


# --- real photos


def test_all_orientations_of_a_photo_are_shown_alike() -> None:
    if not os.environ.get("PINAKES_EVAL"):
        pytest.skip("PINAKES_EVAL is not set")
    folder = Path(os.environ["PINAKES_EVAL"], "exif")
    people = []
    for orientation in range(1, 9):
        answer = show(folder / f"Portrait_{orientation}.jpg", ["objects"])
        assert answer.image.size == (1200, 1800)
        (person,) = [one for one in answer.findings if one.title == "person"]
        people.append(person.corners)
    assert np.array(people) == pytest.approx(np.broadcast_to(people[0], np.shape(people)), abs=0.02)
