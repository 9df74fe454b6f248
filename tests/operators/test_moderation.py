"""The operator `moderation` against the published preprocessing and graph, written out plainly, and on ordinary photos.

There are no explicit pictures here, so nothing says how many it finds.
"""

import io

import numpy as np
import openvino
import pytest
from PIL import Image

from pinakes.operators import models
from pinakes.operators.operator import create


@pytest.fixture(scope="module")
def made(local_models):
    """A function: the operator with those settings, loaded."""

    def make(**settings):
        operator = create("moderation", settings)
        operator.load()
        return operator

    return make


@pytest.fixture(scope="module")
def reference(local_models):
    """A function: pixels to the score, as published: 256 x 256, a JPEG, the middle, blue first, less the mean."""
    file = models.path("open-nsfw") / "open_nsfw.onnx"
    model = openvino.Core().compile_model(file, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def score(pixels):
        stored = io.BytesIO()
        Image.fromarray(pixels).resize((256, 256), Image.Resampling.BILINEAR).save(stored, format="JPEG")
        middle = np.asarray(Image.open(stored), np.float32)[16:240, 16:240, ::-1]
        return float(model([middle[None] - np.float32([104, 117, 123])])[0][0, 1])

    return score


def score(operator, picture):
    return operator.look([picture])["moderation"]["confidence"].to_pylist()[0]


def odds(score):
    """Scores of ordinary pictures are near 0 and alike; their logarithmic odds are not."""
    return np.log(score / (1 - score))


@pytest.fixture(scope="module")
def drawings(scene):
    return [
        scene,
        scene.crop((100, 20, 421, 480)),
        scene.resize((200, 150)),
        scene.resize((1300, 301)),
        scene.rotate(90),
    ]


def test_answers_are_those_of_the_published_code(made, reference, drawings, encoded, picture):
    exact, usual = made(min_confidence=0, precision="f32"), made(min_confidence=0)
    scores = []
    for image in drawings:
        seen = picture(encoded(image))
        scores.append(reference(seen.pixels))
        assert odds(score(exact, seen)) == pytest.approx(odds(scores[-1]), abs=0.002)
        assert odds(score(usual, seen)) == pytest.approx(odds(scores[-1]), abs=0.3)
    assert np.ptp(odds(np.array(scores))) > 1  # or the above says nothing


def test_a_large_picture_is_halved_before_it(made, reference, large_scene, encoded, picture):
    exact = made(min_confidence=0, precision="f32")
    seen = picture(encoded(large_scene))
    halved = np.asarray(Image.fromarray(seen.pixels).reduce(2))
    assert odds(score(exact, seen)) == pytest.approx(odds(reference(halved)), abs=0.002)
    odd = picture(encoded(large_scene.crop((0, 0, 1619, 1079))))
    assert odds(score(exact, odd)) == pytest.approx(odds(reference(halved)), abs=0.3)


def test_a_row_says_what_it_is(made, scene, encoded, picture):
    seen = picture(encoded(scene))
    rows = made(min_confidence=0).look([seen])["moderation"].drop(["confidence"]).to_pylist()
    assert rows == [{"picture": 0, "name": "Explicit", "parent": None, "taxonomy_level": 1, "box": None}]


def test_rows_begin_at_the_threshold(made, drawings, encoded, picture):
    seen = [picture(encoded(image)) for image in drawings]
    scores = made(min_confidence=0).look(seen)["moderation"]["confidence"].to_pylist()
    middle = sorted(scores)[2]
    rows = made(min_confidence=middle).look(seen)["moderation"]
    assert rows["picture"].to_pylist() == [place for place, score in enumerate(scores) if score >= middle]
    assert len(rows) == 3
    assert len(made().look(seen)["moderation"]) == 0


@pytest.mark.parametrize("size", [(1, 1), (1, 1900), (1900, 1), (641, 1901)])
def test_a_strip_is_no_trouble(made, scene, encoded, picture, size):
    assert 0 <= score(made(min_confidence=0), picture(encoded(scene.resize(size), "PNG"))) <= 1


def test_ordinary_photos(made, reference, evaluation, picture):
    usual, exact = made(min_confidence=0), made(min_confidence=0, precision="f32")
    files = sorted((evaluation / "coco").glob("*.jpg")) + sorted((evaluation / "imagenet").glob("*.JPEG"))
    seen = [picture(file) for file in files]
    published = np.array([reference(one.pixels) for one in seen])
    halved = np.array([min(one.pixels.shape[:2]) >= 640 for one in seen])
    apart = np.abs(exact.look(seen)["moderation"]["confidence"].to_numpy() - published)
    scores = usual.look(seen)["moderation"]["confidence"].to_numpy()
    print(
        f"moderation, {len(seen)} ordinary photos: {(scores >= 0.2).sum()} over 0.2, {(scores >= 0.8).sum()} over 0.8; "
        f"from the published code f32 {apart.max():.6f}, bf16 {np.abs(scores - published).max():.4f}"
    )
    assert apart[~halved].max() < 1e-4
    assert np.abs(scores - published).max() < 0.02
    assert published.max() > 0.2  # or the above says little
    assert (scores >= 0.2).mean() < 0.03
