"""Real weights against the transformers library's pipelines, for whatever of these models the hub's cache here holds.

`pinakes models pull ID` brings one. Where there is none, the small models of test_transformer.py stand for them.
"""

import pytest
import transformers
from huggingface_hub import snapshot_download
from huggingface_hub.errors import LocalEntryNotFoundError

from pinakes.operators.operator import create
from tests.tiny_models import LABELS

CLASSIFIERS = ("google/vit-base-patch16-224", "microsoft/swin-tiny-patch4-window7-224", "facebook/convnext-tiny-224")
IMAGE_TEXT = ("openai/clip-vit-large-patch14", "google/siglip-base-patch16-224")
DETECTORS = ("PekingU/rtdetr_r18vd", "hustvl/yolos-tiny")


def answer(name, model, picture, **settings):
    try:
        snapshot_download(model, local_files_only=True)
    except LocalEntryNotFoundError:
        pytest.skip(f"{model} is not in the hub's cache here: pinakes models pull {model}")
    operator = create(name, {"model": model, "min_confidence": 0.05, **settings})
    operator.resolve("cpu")
    operator.fetch("cpu")
    operator.load("cpu")
    return [(row["name"], row["confidence"]) for row in operator.look([picture])[name].to_pylist()]


def expected(task, model, image, **words):
    pipeline = transformers.pipeline(task, model, use_fast=False)
    return [(row["label"], row["score"]) for row in pipeline(image, **words) if row["score"] >= 0.05]


def same(ours, theirs):
    assert [name for name, _ in ours] == [name for name, _ in theirs]
    assert [score for _, score in ours] == pytest.approx([score for _, score in theirs], abs=1e-4)


@pytest.mark.parametrize("model", CLASSIFIERS)
def test_classifiers(model, scene, encoded, picture):
    ours = answer("labels", model, picture(encoded(scene, "PNG")))
    same(ours, expected("image-classification", model, scene))


@pytest.mark.parametrize("model", IMAGE_TEXT)
def test_image_text_models(model, scene, encoded, picture, tmp_path):
    (tmp_path / "words.txt").write_text("\n".join([*LABELS, "stop sign"]))
    ours = answer("labels", model, picture(encoded(scene, "PNG")), vocabulary=str(tmp_path / "words.txt"))
    words = [*LABELS, "stop sign"]
    same(ours, expected("zero-shot-image-classification", model, scene, candidate_labels=words))


@pytest.mark.parametrize("model", DETECTORS)
def test_detectors(model, scene, encoded, picture):
    ours = answer("objects", model, picture(encoded(scene, "PNG")))
    same(ours, sorted(expected("object-detection", model, scene, threshold=0.05), key=lambda row: -row[1]))
