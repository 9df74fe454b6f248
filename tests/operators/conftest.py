"""What the tests of the operators share: the models, a drawn scene, and the evaluation data where there is any."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from pinakes.operators import models
from pinakes.operators.decode import decode, single_thread
from pinakes.operators.operator import Picture
from tests.drawings import drawn_faces


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    single_thread()


@pytest.fixture(scope="session")
def local_models():
    """Every model on record, fetched if it is not on this machine yet."""
    models.pull_all(entry.name for entry in models.entries())


@pytest.fixture(scope="session")
def evaluation():
    """The folder of evaluation data."""
    if not os.environ.get("PINAKES_EVAL"):
        pytest.skip("PINAKES_EVAL is not set")
    return Path(os.environ["PINAKES_EVAL"])


@pytest.fixture(scope="session")
def scene():
    """A stop sign before a blue sky, drawn: 720 x 480, nothing symmetrical."""
    image = Image.new("RGB", (720, 480))
    sky = np.linspace((90, 150, 230), (210, 225, 240), 480)[:, None, :]
    image.paste(Image.fromarray(np.broadcast_to(sky, (480, 720, 3)).astype(np.uint8)))
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 400, 720, 480), fill=(95, 100, 70))
    draw.rectangle((242, 180, 258, 450), fill=(120, 120, 120))
    draw.regular_polygon((250, 170, 128), 8, rotation=22.5, fill="white")
    draw.regular_polygon((250, 170, 118), 8, rotation=22.5, fill=(190, 20, 30))
    draw.text((250, 170), "STOP", fill="white", anchor="mm", font=ImageFont.load_default(76))
    return image


@pytest.fixture(scope="session")
def large_scene(scene):
    """The same at 1620 x 1080, noisy as a camera's."""
    pixels = np.asarray(scene.resize((1620, 1080)), np.float32)
    noise = np.random.default_rng(3).normal(0, 20, pixels.shape)
    return Image.fromarray((pixels + noise).clip(0, 255).astype(np.uint8))


@pytest.fixture(scope="session")
def portrait():
    """tests/drawings.py's faces."""
    return drawn_faces


@pytest.fixture(scope="session")
def encoded():
    """A function: an image as the bytes of a file."""

    def encode(image, kind="JPEG", **settings):
        out = io.BytesIO()
        if kind in ("JPEG", "WEBP"):
            settings.setdefault("quality", 95)
        image.save(out, kind, **settings)
        return out.getvalue()

    return encode


@pytest.fixture(scope="session")
def picture():
    """A function: bytes, or a file's path, as the canonical picture."""

    def read(source):
        pixels, facts = decode(source if isinstance(source, bytes) else source.read_bytes())
        return Picture(pixels, facts)

    return read
