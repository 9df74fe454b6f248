"""Vectors of words: where there is no GPU for them, for many words, and by models that compare in other ways."""

import json
import shutil

import numpy as np
import pytest

from pinakes.operators import models
from pinakes.operators.errors import ModelError
from pinakes.operators.operator import create
from tests import tiny_models


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return tiny_models.make("clip", tmp_path_factory.mktemp("clip") / "clip")


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("PINAKES_CACHE", str(tmp_path / "cache"))


def operator(clip, words, device="cpu"):
    made = create("labels", {"model": str(clip), "vocabulary": str(words)})
    made.resolve(device)
    made.fetch(device)
    return made


def test_a_driver_without_a_gpu_works_them_out_for_nodes_with_one(clip, tmp_path):
    (tmp_path / "words.txt").write_text("fox\nbarn\n")
    vectors, scale, bias = operator(clip, tmp_path / "words.txt", "cuda").vectors.load()
    assert vectors.shape == (2, 24)
    assert np.abs(np.linalg.norm(vectors, axis=1) - 1).max() < 1e-5
    assert scale == pytest.approx(1 / 0.07, rel=0.01)
    assert bias is None


def test_thousands_of_words_are_one_file_and_each_has_its_own_vector(clip, tmp_path, scene, encoded, picture):
    (tmp_path / "words.txt").write_text("\n".join(f"word {number}" for number in range(3000)))
    made = operator(clip, tmp_path / "words.txt")
    vectors = made.vectors.load()[0]
    assert vectors.shape == (3000, 24)
    assert len(np.unique(vectors.round(5), axis=0)) > 2900
    assert [file.name for file in (models.cache_folder() / "vectors").rglob("*") if file.is_file()].count(
        "vectors.safetensors"
    ) == 1
    made.load()
    assert len(made.look([picture(encoded(scene))])["labels"]) <= 10


def test_a_tokenizer_that_is_not_there_is_said_in_a_line(clip, tmp_path):
    place = shutil.copytree(clip, tmp_path / "mute")
    for file in ("tokenizer.json", "tokenizer_config.json"):
        (place / file).unlink()
    (tmp_path / "words.txt").write_text("fox\n")
    with pytest.raises(ModelError, match="has no tokenizer") as raised:
        operator(place, tmp_path / "words.txt")
    assert "\n" not in str(raised.value)
    assert not list((models.cache_folder() / "vectors").rglob("*.safetensors"))


def test_a_model_that_compares_in_its_own_way_is_refused(clip, tmp_path, monkeypatch):
    from transformers import CLIPModel

    forward = CLIPModel.forward

    def otherwise(self, *arguments, **words):
        found = forward(self, *arguments, **words)
        found.logits_per_image = found.logits_per_image * 2 + 1
        return found

    monkeypatch.setattr(CLIPModel, "forward", otherwise)
    (tmp_path / "words.txt").write_text("fox\n")
    with pytest.raises(ModelError, match="in a way of its own"):
        operator(clip, tmp_path / "words.txt")
    assert json.loads((clip / "config.json").read_text())["model_type"] == "clip"
