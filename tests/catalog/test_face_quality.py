"""The limits of a face's quality: each reason by itself, what is not known, what is switched off; and real faces."""

import os
from io import BytesIO
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest
from PIL import Image, ImageFilter
from pydantic import ValidationError

from pinakes.catalog.face_quality import QualityLimits, reasons
from pinakes.operators.decode import decode
from pinakes.operators.faces import SCHEMA
from pinakes.operators.operator import Picture
from tests.drawings import drawn_faces
from tests.jobs.small_run import loaded

GOOD = {
    "box": {"left": 0.4, "top": 0.3, "width": 0.1, "height": 0.15},
    "media_width": 1000,
    "media_height": 800,
    "quality": {"brightness": 0.5, "sharpness": 0.6},
    "pose": {"roll": 3.0, "yaw": 10.0, "pitch": -12.0},
    "confidence": 0.93,
}
OFF = dict.fromkeys(QualityLimits.model_fields)


def left_out(*rows, limits=None):
    """The reasons for each row; a row says where it differs from a good one."""
    sizes = [pa.field(name, pa.int32()) for name in ("media_width", "media_height")]
    columns = [*sizes, *(SCHEMA.field(name) for name in ("box", "quality", "pose", "confidence"))]
    faces = pa.Table.from_pylist([{**GOOD, **row} for row in rows], schema=pa.schema(columns))
    with duckdb.connect() as connection:
        connection.register("faces", faces)
        found = connection.execute(f"SELECT {reasons(limits or QualityLimits())} AS reasons FROM faces")
        assert str(found.description[0][1]) == "VARCHAR[]"
        return [row for (row,) in found.fetchall()]


def pose(**angles):
    return {"pose": {**GOOD["pose"], **angles}}


def quality(**read):
    return {"quality": {**GOOD["quality"], **read}}


def box(width, height):
    return {"box": {"left": 0.1, "top": 0.1, "width": width, "height": height}}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (box(0.027, 0.2), "small"),
        (box(0.2, 0.034), "small"),
        (quality(sharpness=0.04), "blurred"),
        (quality(brightness=0.07), "dark"),
        (quality(brightness=0.85), "bright"),
        (pose(yaw=-51.0), "extreme_pose"),
        (pose(yaw=51.0), "extreme_pose"),
        (pose(pitch=-46.0), "extreme_pose"),
        (pose(pitch=26.0), "extreme_pose"),
        (pose(roll=26.0), "extreme_pose"),
        (pose(roll=-170.0), "extreme_pose"),
        ({"confidence": 0.8}, "low_confidence"),
    ],
)
def test_each_limit_gives_its_reason_and_no_other(row, reason):
    assert left_out(row) == [[reason]]


def test_a_good_face_has_no_reason_and_a_poor_one_has_them_all():
    poor = {**box(0.01, 0.01), **quality(sharpness=0.01, brightness=0.01), **pose(yaw=80.0, roll=50.0)}
    everything = ["small", "blurred", "dark", "extreme_pose", "low_confidence"]
    assert left_out({}, {**poor, "confidence": 0.7}) == [[], everything]


def test_a_face_at_the_limit_passes():
    at_limit = {**box(0.028, 0.2), **pose(yaw=50.0, pitch=-45.0, roll=25.0), "confidence": 0.85}
    assert left_out(at_limit, pose(pitch=25.0)) == [[], []]


def test_what_is_not_known_rejects_nobody():
    unknown = [{name: None} for name in GOOD]
    assert left_out(*unknown, dict.fromkeys(GOOD)) == [[]] * (len(GOOD) + 1)


def test_a_limit_that_is_switched_off_rejects_nobody():
    poor = {**box(0.001, 0.001), **quality(sharpness=0.0, brightness=0.0), **pose(yaw=89.0, pitch=99.0, roll=90.0)}
    poor["confidence"] = 0.0
    assert left_out(poor, quality(brightness=1.0), limits=QualityLimits(**OFF)) == [[], []]
    assert left_out(poor, limits=QualityLimits(**dict.fromkeys(OFF, 0))) == [[]]
    for name, reason in (("min_pixels", "small"), ("min_sharpness", "blurred"), ("min_confidence", "low_confidence")):
        assert reason not in left_out(poor, limits=QualityLimits(**{name: None}))[0]
        assert left_out(poor, limits=QualityLimits(**{**OFF, name: 1})) == [[reason]]


def test_pixels_are_those_of_the_picture_that_was_looked_at():
    """Of 6000 x 4000 a quarter was looked at, 1500 x 1000: a face of 100 pixels had 25 there."""
    camera = {"media_width": 6000, "media_height": 4000}
    sizes = [{**camera, **box(100 / 6000, 100 / 4000)}, {**camera, **box(116 / 6000, 116 / 4000)}]
    upright = {"media_width": 1919, "media_height": 1000, **box(29 / 1919, 29 / 1000)}
    halved = {"media_width": 1000, "media_height": 1920, **box(29 / 1000, 29 / 1920)}
    assert left_out(*sizes, upright, halved) == [["small"], [], [], ["small"]]


@pytest.mark.parametrize(
    "wrong",
    [
        {"min_pixels": -1},
        {"min_sharpness": 1.5},
        {"max_yaw": float("nan")},
        {"min_confidence": "0 OR true"},
        {"sharp": 1},
    ],
)
def test_limits_are_numbers_within_their_ranges(wrong):
    with pytest.raises(ValidationError):
        QualityLimits(**wrong)


def seen(image):
    """The rows that a job would have of the largest face in an image."""
    file = BytesIO()
    image.save(file, "JPEG", quality=90)
    pixels, facts = decode(file.getvalue())
    row = loaded("faces")["faces"].look([Picture(pixels, facts)])["faces"].to_pylist()[0]
    return {name: row[name] for name in GOOD if name in row} | {
        "media_width": facts.width,
        "media_height": facts.height,
    }


def test_a_drawn_face_is_good_enough():
    assert left_out(seen(drawn_faces((720, 480), [(250, 190, 1)]))) == [[]]


def test_a_photo_is_left_out_for_what_was_done_to_it():
    if not os.environ.get("PINAKES_EVAL"):
        pytest.skip("PINAKES_EVAL is not set")
    with Image.open(Path(os.environ["PINAKES_EVAL"]) / "faces" / "obama.jpg") as file:
        photo = file.convert("RGB")
    photo = photo.resize((photo.width // 2, photo.height // 2))  # a face of 120 pixels
    made = {
        "small": photo.resize((photo.width // 6, photo.height // 6)),
        "blurred": photo.filter(ImageFilter.GaussianBlur(5)),
        "dark": photo.point(lambda value: value // 12),
        "bright": photo.point(lambda value: min(255, value * 3)),
    }
    found = dict(zip(["photo", *made], left_out(seen(photo), *map(seen, made.values())), strict=True))
    assert found["photo"] == []
    for reason in made:
        assert reason in found[reason], found
