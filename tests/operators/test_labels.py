"""The operator `labels` against PP-LCNetV2's own preprocessing, written out, and against photos with answers."""

import cv2
import numpy as np
import openvino
import pytest
from PIL import Image

from pinakes.operators import models
from pinakes.operators.operator import create
from pinakes.operators.wordnet import vocabulary


@pytest.fixture(scope="module")
def labels(local_models):
    operator = create("labels", {"min_confidence": 0.01})
    operator.load()
    return operator


@pytest.fixture(scope="module")
def exact(local_models):
    """In float32, as the reference computes."""
    operator = create("labels", {"min_confidence": 0.01, "precision": "f32"})
    operator.load()
    return operator


@pytest.fixture(scope="module")
def reference(local_models):
    """A function: RGB pixels to 1000 probabilities, as the model's own code does it (model.py in its wheel)."""
    file = models.path("pp-lcnetv2-base") / "inference.pdmodel"
    model = openvino.Core().compile_model(file, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def probabilities(pixels):
        height, width = pixels.shape[:2]
        percent = 256 / min(width, height)
        small = cv2.resize(pixels, (round(width * percent), round(height * percent)))
        top, left = (small.shape[0] - 224) // 2, (small.shape[1] - 224) // 2
        middle = small[top : top + 224, left : left + 224].astype(np.float32) * np.float32(0.00392157)
        middle = (middle - np.float32([0.485, 0.456, 0.406])) / np.float32([0.229, 0.224, 0.225])
        return model(middle.transpose(2, 0, 1)[None].copy())[0][0]

    return probabilities


def found(labels, picture):
    table = labels.look([picture])["labels"]
    return dict(zip(table["name"].to_pylist(), table["confidence"].to_pylist(), strict=True))


def expected(reference, pixels):
    scores = reference(pixels)
    names = vocabulary("imagenet")["name"].to_pylist()
    return {names[at]: scores[at] for at in np.argsort(-scores)[:10] if scores[at] >= 0.01}


def test_answers_are_those_of_the_models_own_preprocessing(exact, reference, scene, encoded, picture):
    for image in (scene, scene.crop((120, 30, 480, 420)), scene.resize((300, 200))):
        seen = picture(encoded(image))
        answer = found(exact, seen)
        assert answer == pytest.approx(expected(reference, seen.pixels), abs=1e-4)
        assert answer


def test_a_large_picture_is_averaged_before_it(exact, reference, large_scene, encoded, picture):
    seen = picture(encoded(large_scene))
    averaged = cv2.resize(seen.pixels, (405, 270), interpolation=cv2.INTER_AREA)
    assert found(exact, seen) == pytest.approx(expected(reference, averaged), abs=1e-4)


def test_half_precision_changes_no_answer_that_counts(labels, exact, scene, large_scene, encoded, picture):
    """On 100 ImageNet photos: the same first label for all, the same labels from 0.1 on for 99."""
    for image in (scene, large_scene, scene.crop((120, 30, 480, 420))):
        answer, other = found(labels, picture(encoded(image))), found(exact, picture(encoded(image)))
        assert next(iter(answer)) == next(iter(other))
        for name in answer.keys() | other.keys():
            assert answer.get(name, 0) == pytest.approx(other.get(name, 0), abs=0.07)


def test_a_sign_is_a_sign_whatever_its_orientation_in_the_file(labels, scene, encoded, picture):
    upright = found(labels, picture(encoded(scene)))
    assert next(iter(upright)) == "street sign"
    exif = Image.Exif()  # not that of the scene, which others look at too
    for orientation, turn in ((8, -90), (3, 180), (6, 90)):
        exif[0x0112] = orientation
        turned = found(labels, picture(encoded(scene.rotate(turn, expand=True), exif=exif)))
        for name in upright.keys() | turned.keys():  # the JPEG's own blocks differ a little
            assert turned.get(name, 0) == pytest.approx(upright.get(name, 0), abs=0.05)


def test_a_label_comes_with_what_it_means(labels, scene, encoded, picture):
    first = labels.look([picture(encoded(scene))])["labels"].to_pylist()[0]
    assert first["ancestors"][:1] == ["sign"]
    assert "Transport and Logistics" in first["categories"]


@pytest.mark.parametrize("size", [(1, 1), (1, 1900), (1900, 1), (3, 700)])
def test_a_strip_is_no_trouble(labels, scene, encoded, picture, size):
    assert found(labels, picture(encoded(scene.resize(size), "PNG")))


def test_photos_on_their_side_get_the_answers_of_upright_ones(labels, evaluation, picture):
    for shape in ("Landscape", "Portrait"):
        answers = [found(labels, picture(evaluation / "exif" / f"{shape}_{turned}.jpg")) for turned in range(1, 9)]
        for answer in answers[1:]:
            assert next(iter(answer)) == next(iter(answers[0]))
            for name in answer.keys() | answers[0].keys():  # each file has its own number drawn in
                assert answer.get(name, 0) == pytest.approx(answers[0].get(name, 0), abs=0.3)


def test_photos_with_answers(labels, evaluation, picture):
    name_of = dict(zip(*(vocabulary("imagenet")[column].to_pylist() for column in ("wnid", "name")), strict=True))
    photos = sorted((evaluation / "imagenet").glob("*.JPEG"))
    first = first_five = 0
    for photo in photos:
        names = list(found(labels, picture(photo)))[:5]
        first += names[0] == name_of[photo.name.split("_")[0]]
        first_five += name_of[photo.name.split("_")[0]] in names
    print(f"labels on {len(photos)} photos: top-1 {first / len(photos):.3f}, top-5 {first_five / len(photos):.3f}")
    assert first / len(photos) >= 0.8
    assert first_five / len(photos) >= 0.95
