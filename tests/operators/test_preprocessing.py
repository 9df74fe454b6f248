"""What a model is shown: its own image processor's input, whether of the file or of the canonical picture."""

import io
import json
import shutil

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from pinakes.operators.errors import ModelError
from pinakes.operators.operator import create
from pinakes.operators.preprocessing import Preprocessing
from tests import tiny_models


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A function: the folder of a small model of that kind."""
    made = {}

    def find(kind):
        if kind not in made:
            made[kind] = tiny_models.make(kind, tmp_path_factory.mktemp(kind) / kind)
        return made[kind]

    return find


def library_input(folder, image):
    processor = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil")
    return processor(images=[image], return_tensors="pt")["pixel_values"][0].numpy()


def ours(folder, pixels, exact=True):

    preparing = Preprocessing(folder, "a model", exact)
    return preparing.finish(torch.from_numpy(preparing(pixels)[None]))[0].numpy()


@pytest.mark.parametrize("kind", tiny_models.EVERY)
def test_of_a_picture_under_1920_pixels_a_model_sees_what_the_library_shows_it(kind, folder, scene, encoded, picture):
    file = encoded(scene.resize((1600, 1066)), "JPEG")
    expected = library_input(folder(kind), Image.open(io.BytesIO(file)).convert("RGB"))
    found = ours(folder(kind), picture(file).pixels)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < 1e-5
    assert expected.std() > 0.1


@pytest.mark.parametrize("kind", ["vit", "clip", "convnext", "rt_detr", "yolos"])
def test_of_a_larger_one_within_forty_decibels(kind, folder, scene, encoded, picture):
    """On 14 photos of 2 to 8 megapixels at 224 to 640 pixels: 42 dB at least, 52 to 57 in the middle."""

    file = encoded(scene.resize((4000, 2667), Image.Resampling.LANCZOS), "JPEG")
    full = np.asarray(Image.open(io.BytesIO(file)).convert("RGB"))
    reduced = picture(file).pixels
    assert reduced.shape[1] < full.shape[1] / 3
    preparing = Preprocessing(folder(kind), "a model", exact=True)
    difference = preparing(reduced).astype(float) - preparing(full)
    assert 10 * np.log10(255**2 / (difference**2).mean()) > 40


@pytest.mark.parametrize("kind", tiny_models.EVERY)
def test_torchs_resizing_is_pillows_but_for_rounding(kind, folder, scene, encoded, picture):
    for size in ((1600, 1066), (333, 500), (50, 40)):
        pixels = picture(encoded(scene.resize(size), "PNG")).pixels
        exact, quick = (Preprocessing(folder(kind), "a model", exact) for exact in (True, False))
        a, b = exact(pixels), quick(pixels)
        assert a.shape == b.shape
        assert a.dtype == b.dtype
        if a.dtype == np.uint8:
            difference = np.abs(a.astype(int) - b)
            assert difference.max() <= 2
            assert difference.mean() < 0.1


def test_what_travels_is_bytes_where_the_processor_can_be_cut(folder, scene, encoded, picture):
    pixels = picture(encoded(scene)).pixels
    for kind in tiny_models.EVERY:
        found = Preprocessing(folder(kind), "a model", exact=True)(pixels)
        assert found.dtype == (np.float32 if kind in ("efficientnet", "owlv2") else np.uint8), kind


def test_a_processor_that_cannot_be_used_is_refused_in_a_line(folder, tmp_path):
    for settings, said in (
        ({"image_processor_type": "NoSuchImageProcessor"}, "image processor cannot be opened"),
        ({"image_processor_type": "DINOv3ViTImageProcessor"}, "image processor"),
        ({"image_processor_type": "ViTImageProcessor", "size": {"height": "much", "width": 3}}, "image processor"),
    ):
        place = shutil.copytree(folder("vit"), tmp_path / settings["image_processor_type"], dirs_exist_ok=True)
        (place / "preprocessor_config.json").write_text(json.dumps(settings))
        operator = create("labels", {"model": str(place)})
        with pytest.raises(ModelError, match=said) as raised:
            operator.resolve("cpu")
        assert "\n" not in str(raised.value)
