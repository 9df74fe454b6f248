"""The eight EXIF orientations of one picture: one canonical picture, and the same answers with upright boxes."""

import numpy as np
import pytest
from PIL import Image

from pinakes.operators.decode import decode
from pinakes.operators.operator import create
from tests.drawings import STORED

#: Those that are held to it, and the table that each is judged by.
OPERATORS = {"media": "media", "labels": "labels", "objects": "objects", "faces": "faces", "text": "texts"}

#: Columns that differ by right, or follow the box and are not exact: ids are made from it.
LOOSE = ("orientation", "size", "polygon", "face_id", "landmarks", "pose", "quality")

ORIENTATION = 0x0112


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP", "AVIF"])
@pytest.mark.parametrize("orientation", STORED)
def test_every_orientation_is_turned_upright(scene, encoded, kind, orientation):
    image, exif = scene, Image.Exif()
    for turn in STORED[orientation]:
        image = image.transpose(turn)
    exif[ORIENTATION] = orientation
    pixels, facts = decode(encoded(image, kind, exif=exif))
    assert (facts.width, facts.height, facts.orientation) == (*scene.size, orientation)
    assert pixels.shape == (480, 720, 3)
    assert np.abs(pixels.astype(int) - np.asarray(scene)).mean() < 4


@pytest.fixture(scope="module")
def looked(local_models):
    """A function: an operator's name and pictures, to the rows of each."""
    operators = {name: create(name) for name in OPERATORS}
    for operator in operators.values():
        operator.load()

    def look(name, pictures):
        return [operators[name].look([one])[OPERATORS[name]].drop_columns("picture").to_pylist() for one in pictures]

    return look


def overlap(one, other):
    """Intersection over union of two boxes."""
    across, down = (
        min(one[start] + one[length], other[start] + other[length]) - max(one[start], other[start])
        for start, length in (("left", "width"), ("top", "height"))
    )
    shared = max(across, 0) * max(down, 0)
    return shared / (one["width"] * one["height"] + other["width"] * other["height"] - shared)


def same(row, other, exactly):
    """Whether two rows say the same: names alike, confidence nearly, boxes on one another."""
    for column, value in row.items():
        if column == "box":
            if overlap(value, other["box"]) < 0.9:
                return False
        elif column == "confidence":
            if exactly and abs(value - other[column]) > 0.05:
                return False
        elif column not in LOOSE and value != other[column]:
            return False
    return True


@pytest.fixture(scope="module")
def eight(scene, portrait, encoded, picture):
    """By format: a drawn sign, and beside it a face, stored under every orientation; turning itself loses nothing."""
    drawn = scene.copy()
    drawn.paste(portrait((120, 160), [(60, 60, 0.4)]), (600, 100))  # not in the middle, which `labels` sees

    def stored(kind, orientation):
        image, exif = drawn, Image.Exif()
        for turn in STORED[orientation]:
            image = image.transpose(turn)
        exif[ORIENTATION] = orientation
        return picture(encoded(image, kind, exif=exif, **({"subsampling": 0} if kind == "JPEG" else {})))

    return {kind: [stored(kind, orientation) for orientation in STORED] for kind in ("JPEG", "PNG")}


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("name", OPERATORS)
def test_a_drawn_picture_gets_the_same_answers(eight, looked, name, kind):
    assert [one.facts.orientation for one in eight[kind]] == list(STORED)
    upright, *others = looked(name, eight[kind])
    assert upright
    for rows in others:
        assert len(rows) == len(upright)
        assert all(same(row, other, exactly=True) for row, other in zip(upright, rows, strict=True))


@pytest.mark.parametrize("shape", ["Landscape", "Portrait"])
@pytest.mark.parametrize(
    "name", ["media", "labels", "objects"]
)  # there are no faces in them, and the text is the number
def test_the_example_photos_get_the_same_answers(evaluation, picture, looked, name, shape):
    """Each has its own number drawn into it, large, so only what is surest is compared, and not how sure."""
    pictures = [picture(evaluation / "exif" / f"{shape}_{number}.jpg") for number in STORED]
    differences = [np.abs(one.pixels.astype(int) - pictures[0].pixels).mean() for one in pictures]
    assert max(differences) < 12
    upright, *others = looked(name, pictures)
    if name == "labels" and upright[0]["confidence"] < 0.2:
        return  # sure of nothing: any label may be first
    for rows in others:
        assert any(same(upright[0], row, exactly=False) for row in rows[:1])
