"""ONNX Runtime beside OpenVINO: which operator a job gets, with which fingerprint, and what goes wrong in one line."""

import numpy as np
import pytest

from pinakes.operators import models, onnx
from pinakes.operators.device import is_lost, is_out_of_memory
from pinakes.operators.errors import ModelError
from pinakes.operators.faces import Faces
from pinakes.operators.moderation import Moderation
from pinakes.operators.onnx import OnnxOperator
from pinakes.operators.operator import create
from pinakes.operators.text import Text

OPERATORS = {"faces": Faces, "moderation": Moderation, "text": Text}


@pytest.fixture
def installed(monkeypatch):
    monkeypatch.setattr(onnx, "PROVIDER", "CPUExecutionProvider")


@pytest.mark.parametrize("name", OPERATORS)
def test_without_the_provider_it_is_the_operator_that_it_was(monkeypatch, name):
    monkeypatch.setattr(onnx, "PROVIDER", "NoExecutionProvider")
    assert type(create(name)) is OPERATORS[name]


@pytest.mark.parametrize("name", OPERATORS)
def test_a_job_without_a_gpu_has_the_fingerprint_that_it_had(installed, name):
    for settings in ({}, {"precision": "f32"}, {"min_confidence": 0.5}):
        operator = create(name, settings)
        assert isinstance(operator, OnnxOperator)
        operator.resolve("cpu")
        usual = OPERATORS[name](OPERATORS[name].Config(**settings))
        assert (operator.fingerprint, operator.settings()) == (usual.fingerprint, usual.settings())
        assert operator.model == usual.model


@pytest.mark.parametrize("name", OPERATORS)
def test_the_runtime_is_part_of_the_fingerprint_and_the_precision_is_one(installed, name):
    found = {}
    for settings in ({}, {"precision": "bf16"}, {"precision": "f32"}, {"min_confidence": 0.5}):
        for device in ("cpu", "cuda"):
            operator = create(name, settings)
            operator.resolve(device)
            found[str(settings), device] = operator.fingerprint
    gpus = [fingerprint for (_, device), fingerprint in found.items() if device == "cuda"]
    assert gpus[0] == gpus[1] == gpus[2] != gpus[3]
    assert len(set(found.values())) == 5


def test_the_weights_and_some_room_are_what_it_needs(installed):
    operator = create("moderation")
    assert operator.memory_bytes == models.entry("open-nsfw").bytes + onnx.ROOM_BYTES
    assert create("text", {"detector": "small"}).memory_bytes > create("text").memory_bytes > onnx.ROOM_BYTES


def test_the_lack_of_the_runtime_is_one_line(monkeypatch, local_models):
    monkeypatch.setattr(onnx, "PROVIDER", "NoExecutionProvider")
    with pytest.raises(ModelError, match=r"^onnxruntime with NoExecutionProvider is not on this node: .*cuda"):
        onnx.opened(models.path("open-nsfw") / "open_nsfw.onnx", 2**30)


def test_a_provider_that_cannot_be_loaded_is_one_line(monkeypatch, local_models):
    """ONNX Runtime only warns, and goes on on the CPU."""
    monkeypatch.setattr(onnx, "PROVIDER", "CoreMLExecutionProvider")  # it knows the name, and has it on a Mac
    monkeypatch.setattr(onnx, "is_installed", lambda: True)
    with (
        pytest.warns(UserWarning, match="not in available provider names"),
        pytest.raises(ModelError, match=r"^CoreMLExecutionProvider of onnxruntime \S+ could not be loaded: are CUDA"),
    ):
        onnx.opened(models.path("open-nsfw") / "open_nsfw.onnx", 2**30)


def test_a_file_that_is_no_graph_is_one_line(installed, tmp_path):
    (tmp_path / "broken.onnx").write_bytes(b"not a graph")
    with pytest.raises(ModelError, match=r"^broken.onnx on CPUExecutionProvider: [^\n]*$"):
        onnx.opened(tmp_path / "broken.onnx", 2**30)


def test_its_errors_are_told_apart():
    failed = "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Non-zero status code returned while running Conv node. "
    arena = "bfc_arena.cc:358 void* onnxruntime::BFCArena::AllocateRawInternal(size_t, bool, onnxruntime::Stream*) "
    for words in (
        f"{failed}{arena}Failed to allocate memory for requested buffer of size 939524096",
        f"{failed}{arena}Available memory of 2097152 is smaller than requested bytes of 4194304",
        f"{failed}CUDA failure 2: out of memory ; GPU=0 ; hostname=node ; expr=cudaMalloc(&p, size)",
    ):
        assert is_out_of_memory(RuntimeError(words))
        assert not is_lost(RuntimeError(words))
    illegal = RuntimeError(f"{failed}CUDA failure 700: an illegal memory access was encountered ; GPU=0")
    assert is_lost(illegal)
    assert not is_out_of_memory(illegal)


def test_no_room_for_one_picture_is_a_lack_of_memory(installed, local_models, monkeypatch):
    graph = create("moderation").graph(
        models.path("dlib-gender-v1") / "gender-v1.onnx",
        image_input="images",
        shape=(1, 32, 32, 3),
        mean=(0, 0, 0),
        deviation=(1, 1, 1),
    )

    class Full:
        def run(self, names, inputs):
            raise RuntimeError("onnxruntime::BFCArena::AllocateRawInternal Failed to allocate memory")

    monkeypatch.setattr(graph, "_session", Full())
    with pytest.raises(MemoryError, match="no room for this picture"):
        graph.infer({"images": np.zeros((1, 32, 32, 3), np.uint8)})
