"""The operator `moderation` on ONNX Runtime: it answers as on OpenVINO in float32, and leaves jobs without a GPU alone.

Where there is no GPU, ONNX Runtime's CPU provider takes the place of its CUDA provider; all else is the same.
"""

import pickle

import numpy as np
import onnxruntime
import pytest

from pinakes.operators import models, onnx
from pinakes.operators.device import is_lost, is_out_of_memory
from pinakes.operators.errors import ModelError
from pinakes.operators.moderation import Moderation, ModerationConfig
from pinakes.operators.moderation_on_cuda import CudaModeration
from pinakes.operators.operator import create


@pytest.fixture
def provider(monkeypatch):
    if onnx.PROVIDER not in onnxruntime.get_available_providers():
        monkeypatch.setattr(onnx, "PROVIDER", "CPUExecutionProvider")


@pytest.fixture
def on_gpu(provider, local_models):
    """A function: the operator with those settings as a pool has it, resolved elsewhere, sent and loaded."""

    def make(**settings):
        operator = create("moderation", settings)
        operator.resolve("cuda")
        operator = pickle.loads(pickle.dumps(operator))
        operator.load("cuda", 0.5)
        return operator

    return make


@pytest.fixture(scope="module")
def exact(local_models):
    operator = Moderation(ModerationConfig(min_confidence=0, precision="f32"))
    operator.load()
    return operator


def answers(operator, seen):
    """Prepared in one process and inferred in another."""
    preparing = pickle.loads(pickle.dumps(create("moderation", {"min_confidence": 0})))
    preparing.load_preparing()
    inputs = [preparing.prepare(picture) for picture in seen]
    assert {one.nbytes for one in inputs} == {operator.input_bytes}
    found = operator.infer(inputs, [picture.item_key for picture in seen])
    assert found["moderation"].schema == operator.look(seen)["moderation"].schema
    return found["moderation"]


def test_answers_are_those_of_openvino(on_gpu, exact, scene, encoded, picture):
    drawings = [scene, scene.crop((100, 20, 421, 480)), scene.resize((200, 150)), scene.rotate(90)]
    seen = [picture(encoded(image)) for image in drawings]
    expected = exact.look(seen)["moderation"]
    found = answers(on_gpu(min_confidence=0), seen)
    assert found.drop("confidence") == expected.drop("confidence")
    scores = expected["confidence"].to_numpy()
    assert found["confidence"].to_numpy() == pytest.approx(scores, rel=2e-3, abs=1e-3)
    assert np.ptp(np.log(scores)) > 1  # or the above says little


def test_answers_are_those_of_openvino_on_photos(on_gpu, exact, evaluation, picture):
    seen = [picture(file) for file in sorted((evaluation / "imagenet").glob("*.JPEG"))[:40]]
    scores = exact.look(seen)["moderation"]["confidence"].to_numpy()
    apart = np.abs(answers(on_gpu(min_confidence=0), seen)["confidence"].to_numpy() - scores)
    print(f"moderation, {len(seen)} photos: ONNX Runtime is within {apart.max():.7f} of OpenVINO")
    assert apart.max() < 1e-3
    assert scores.max() > 0.02


def test_rows_begin_at_the_threshold_and_no_pictures_are_no_rows(on_gpu, exact, scene, encoded, picture):
    seen = [picture(encoded(image)) for image in (scene, scene.resize((200, 150)), scene.rotate(90))]
    scores = exact.look(seen)["moderation"]["confidence"].to_pylist()
    best = int(np.argmax(scores))
    operator = on_gpu(min_confidence=scores[best] * 0.99)
    assert operator.look(seen)["moderation"]["picture"].to_pylist() == [best]
    assert len(operator.infer([], [])["moderation"]) == 0


def test_without_the_provider_it_is_the_operator_that_it_was(monkeypatch):
    monkeypatch.setattr(onnx, "PROVIDER", "NoExecutionProvider")
    assert type(create("moderation")) is Moderation


def test_a_job_without_a_gpu_has_the_answers_that_it_had(provider, local_models, scene, encoded, picture):
    own, usual = create("moderation", {"min_confidence": 0}), Moderation(ModerationConfig(min_confidence=0))
    assert type(own) is CudaModeration
    for operator in (own, usual):
        operator.resolve("cpu")
        operator.load()
    assert own.fingerprint == usual.fingerprint
    seen = [picture(encoded(scene))]
    assert own.look(seen) == usual.look(seen)


def test_the_runtime_is_part_of_the_fingerprint_and_the_precision_is_one(provider):
    found = {}
    for name, settings in {"usual": {}, "bf16": {"precision": "bf16"}, "f32": {"precision": "f32"}}.items():
        for device in ("cpu", "cuda"):
            operator = create("moderation", settings)
            operator.resolve(device)
            found[name, device] = operator.fingerprint
    assert found["usual", "cuda"] == found["bf16", "cuda"] == found["f32", "cuda"]
    assert len(set(found.values())) == 3


def test_the_lack_of_the_runtime_is_one_line(monkeypatch, local_models):
    monkeypatch.setattr(onnx, "PROVIDER", "NoExecutionProvider")
    with pytest.raises(ModelError, match=r"^onnxruntime with NoExecutionProvider is not on this node: .*cuda"):
        onnx.opened(models.path("open-nsfw") / "open_nsfw.onnx", 2**30)


def test_a_provider_that_cannot_be_loaded_is_one_line(monkeypatch, local_models):
    """ONNX Runtime only warns, and goes on on the CPU."""
    monkeypatch.setattr(onnx, "PROVIDER", "CoreMLExecutionProvider")  # it knows the name, and is not on a Mac
    monkeypatch.setattr(onnx, "is_installed", lambda: True)
    with (
        pytest.warns(UserWarning, match="not in available provider names"),
        pytest.raises(ModelError, match=r"^CoreMLExecutionProvider of onnxruntime \S+ could not be loaded: are CUDA"),
    ):
        onnx.opened(models.path("open-nsfw") / "open_nsfw.onnx", 2**30)


def test_a_file_that_is_no_graph_is_one_line(provider, tmp_path):
    (tmp_path / "broken.onnx").write_bytes(b"not a graph")
    with pytest.raises(ModelError, match=r"^broken.onnx on \w+ExecutionProvider: [^\n]*$"):
        onnx.opened(tmp_path / "broken.onnx", 2**30)


def test_its_errors_are_told_apart():
    arena = "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Non-zero status code returned while running Conv node. "
    full = "bfc_arena.cc:358 void* onnxruntime::BFCArena::AllocateRawInternal(size_t, bool, onnxruntime::Stream*) "
    words = [
        f"{arena}{full}Failed to allocate memory for requested buffer of size 939524096",
        f"{arena}{full}Available memory of 2097152 is smaller than requested bytes of 4194304",
        "[ONNXRuntimeError] : 1 : FAIL : CUDA failure 2: out of memory ; GPU=0 ; hostname=node ; expr=cudaMalloc",
    ]
    for word in words:
        assert is_out_of_memory(RuntimeError(word))
        assert not is_lost(RuntimeError(word))
    illegal = RuntimeError("CUDA failure 700: an illegal memory access was encountered ; GPU=0 ; hostname=node")
    assert is_lost(illegal)
    assert not is_out_of_memory(illegal)
