"""`moderation`, `faces` and `text` on ONNX Runtime answer as they do on OpenVINO in float32.

Where there is no GPU, ONNX Runtime's CPU provider takes the place of its CUDA provider; all else is the same.
"""

import pickle
from dataclasses import replace
from functools import partial

import numpy as np
import onnxruntime
import pytest
from PIL import Image, ImageDraw, ImageFont

from pinakes.operators import onnx
from pinakes.operators.device import Origin
from pinakes.operators.face_detection import LONG_SIDE
from pinakes.operators.faces import Faces, FacesConfig
from pinakes.operators.graph import compile_graph
from pinakes.operators.moderation import Moderation, ModerationConfig
from pinakes.operators.operator import create
from pinakes.operators.text import Text, TextConfig

EVERYTHING = {"age": True, "gender": True, "emotions": True}


@pytest.fixture(scope="module", autouse=True)
def provider():
    with pytest.MonkeyPatch.context() as patch:
        if onnx.PROVIDER not in onnxruntime.get_available_providers():
            patch.setattr(onnx, "PROVIDER", "CPUExecutionProvider")
        yield


@pytest.fixture(scope="module")
def on_gpu(local_models):
    """A function: the operator of a name as a pool has it, resolved elsewhere, sent and loaded."""

    def make(name, **settings):
        operator = create(name, settings)
        operator.resolve("cuda")
        operator = pickle.loads(pickle.dumps(operator))
        operator.load("cuda", 0.5)
        return operator

    return make


@pytest.fixture(scope="module")
def faces(on_gpu):
    return on_gpu("faces", **EVERYTHING)


@pytest.fixture(scope="module")
def faces_on_a_square(local_models):
    """On OpenVINO, but on the one canvas that the graph has on a GPU."""
    operator = Faces(FacesConfig(precision="f32", **EVERYTHING))
    operator.open_models(partial(compile_graph, precision="f32"), [(LONG_SIDE, LONG_SIDE)])
    return operator


@pytest.fixture(scope="module")
def text(on_gpu):
    return on_gpu("text")


@pytest.fixture(scope="module")
def text_on_openvino(local_models):
    operator = Text(TextConfig(precision="f32"))
    operator.load()
    return operator


def through_a_pool(operator, seen):
    """The tables of pictures that are prepared in one process and looked at in another."""
    preparing = create(operator.name)
    preparing.resolve("cuda")
    preparing.load_preparing()
    return operator.infer([preparing.prepare(picture) for picture in seen], [Origin.of(picture) for picture in seen])


def in_pixels(rows, seen):
    """(n, corners, 2) of every box, landmark and polygon."""
    found = []
    for row in rows:
        box = row["box"]
        points = [(box["left"], box["top"]), (box["left"] + box["width"], box["top"] + box["height"])]
        points += [(point["x"], point["y"]) for point in row.get("polygon") or row["landmarks"].values()]
        height, width = seen[row["picture"]].pixels.shape[:2]
        found.append(np.array(points) * (width, height))
    return np.array(found).reshape(len(rows), -1, 2)


def far(found, expected, name):
    """The most by which a column of numbers differs."""
    return max((abs(one[name] - other[name]) for one, other in zip(found, expected, strict=True)), default=0)


def faces_agree(found, expected, seen):
    """As many as there are; found and expected are tables."""
    vectors, others = (np.array(one["embeddings"]["vector"].to_pylist()) for one in (found, expected))
    assert found["embeddings"]["subject_id"].to_pylist() == found["faces"]["face_id"].to_pylist()
    found, expected = found["faces"].to_pylist(), expected["faces"].to_pylist()
    assert [row["picture"] for row in found] == [row["picture"] for row in expected]
    assert len({row["face_id"] for row in found}) == len(found)
    assert np.abs(in_pixels(found, seen) - in_pixels(expected, seen)).max() < 1
    assert far(found, expected, "confidence") < 1e-3
    assert far(found, expected, "age") < 0.1
    assert [row["gender"] for row in found] == [row["gender"] for row in expected]
    for row, other in zip(found, expected, strict=True):
        scores, others_scores = ({one["name"]: one["confidence"] for one in r["emotions"]} for r in (row, other))
        assert scores == pytest.approx(others_scores, abs=0.01)
    assert (vectors * others).sum(axis=1).min() > 0.9999


def texts_agree(found, expected, seen):
    found, expected = (one["texts"].to_pylist() for one in (found, expected))
    same = ("picture", "text_id", "parent_id", "kind", "text")
    assert [[row[name] for name in same] for row in found] == [[row[name] for name in same] for row in expected]
    assert far(found, expected, "confidence") < 1e-3
    assert np.abs(in_pixels(found, seen) - in_pixels(expected, seen)).max() < 1


def scores_agree(found, expected):
    found, expected = found["moderation"], expected["moderation"]
    assert found.drop("confidence") == expected.drop("confidence")
    scores = expected["confidence"].to_numpy()
    assert found["confidence"].to_numpy() == pytest.approx(scores, abs=1e-3, rel=2e-3)
    return scores


@pytest.fixture(scope="module")
def moderation_on_openvino(local_models):
    operator = Moderation(ModerationConfig(min_confidence=0, precision="f32"))
    operator.load()
    return operator


def test_moderation_of_drawings(on_gpu, moderation_on_openvino, scene, encoded, picture):
    drawings = [scene, scene.crop((100, 20, 421, 480)), scene.resize((200, 150)), scene.rotate(90)]
    seen = [picture(encoded(image)) for image in drawings]
    operator = on_gpu("moderation", min_confidence=0)
    scores = scores_agree(through_a_pool(operator, seen), moderation_on_openvino.look(seen))
    assert np.ptp(np.log(scores)) > 1  # or the above says little
    assert operator.prepare(seen[0]).nbytes == operator.input_bytes
    assert operator.look(seen) == through_a_pool(operator, seen)
    assert len(operator.infer([], [])["moderation"]) == 0


def test_moderation_of_photos(on_gpu, moderation_on_openvino, evaluation, picture):
    seen = [picture(file) for file in sorted((evaluation / "imagenet").glob("*.JPEG"))[:40]]
    found = through_a_pool(on_gpu("moderation", min_confidence=0), seen)
    assert scores_agree(found, moderation_on_openvino.look(seen)).max() > 0.02


def test_faces_of_drawings(faces, faces_on_a_square, portrait, scene, encoded, picture):
    images = [portrait((720, 480), [(180, 190, 1), (500, 240, 0.7)]), scene, portrait((300, 620), [(150, 250, 0.8)])]
    images.append(portrait((1620, 1080), [(560, 430, 2.25), (1300, 500, 0.6)]))
    seen = [replace(picture(encoded(image)), item_key=f"{n:032x}") for n, image in enumerate(images)]
    found = through_a_pool(faces, seen)
    assert found["faces"]["picture"].to_pylist() == [0, 0, 2, 3, 3]
    faces_agree(found, faces_on_a_square.look(seen), seen)
    assert through_a_pool(faces, seen) == found
    assert [len(table) for table in faces.infer([], []).values()] == [0, 0]


def test_a_face_has_an_id_of_its_item(faces, portrait, encoded, picture):
    seen = picture(encoded(portrait((720, 480), [(180, 190, 1)])))
    origins = [replace(Origin.of(seen), item_key=key * 32) for key in "aba"]
    ids = [faces.infer([seen.pixels], [origin])["faces"]["face_id"][0].as_py() for origin in origins]
    assert ids[0] == ids[2] != ids[1]
    assert ids[0] == faces.look([replace(seen, item_key="a" * 32)])["faces"]["face_id"][0].as_py()


def test_faces_of_photos(faces, faces_on_a_square, evaluation, picture):
    files = sorted((evaluation / "faces").rglob("*.[jp][pn]g"))[:10] + sorted((evaluation / "coco").glob("*.jpg"))[:10]
    seen = [replace(picture(file), item_key=f"{n:032x}") for n, file in enumerate(files)]
    found = through_a_pool(faces, seen)
    assert len(found["faces"]) > 20
    faces_agree(found, faces_on_a_square.look(seen), seen)


def test_text_of_drawings(text, text_on_openvino, scene, encoded, picture):
    page = Image.new("RGB", (1500, 900), (236, 232, 220))
    for row, line in enumerate(["Callimachus of Cyrene", "wrote 120 scrolls", "ROOM 7"]):
        ImageDraw.Draw(page).text((60, 60 + 200 * row), line, (30, 30, 60), ImageFont.load_default(60))
    seen = [picture(encoded(image, "PNG")) for image in (page, Image.new("RGB", (64, 48)), scene, page.rotate(180))]
    found = through_a_pool(text, seen)
    assert {"Callimachus of Cyrene", "STOP"} <= set(found["texts"]["text"].to_pylist())
    texts_agree(found, text_on_openvino.look(seen), seen)


def test_text_of_photos(text, text_on_openvino, evaluation, picture):
    files = sorted((evaluation / "ocr").glob("*.*p*g"))[:10] + sorted((evaluation / "coco").glob("*.jpg"))[:10]
    seen = [picture(file) for file in files]
    found = through_a_pool(text, seen)
    assert len(found["texts"]) > 50
    texts_agree(found, text_on_openvino.look(seen), seen)


@pytest.mark.parametrize("name", ["faces", "moderation", "text"])
def test_a_job_without_a_gpu_has_the_answers_that_it_had(name, local_models, portrait, scene, encoded, picture):
    usual = {"faces": Faces, "moderation": Moderation, "text": Text}[name]
    settings = {"min_confidence": 0} if name == "moderation" else {}
    own, other = create(name, settings), usual(usual.Config(**settings))
    assert type(own) is not usual
    for operator in (own, other):
        operator.resolve("cpu")
        operator.load()
    seen = [picture(encoded(image)) for image in (portrait((720, 480), [(180, 190, 1)]), scene)]
    assert own.look(seen) == other.look(seen)
    assert sum(map(len, own.look(seen).values())) >= 2
