"""ONNX graphs on the CUDA provider of ONNX Runtime, for operators whose weights are an ONNX file, where there is a GPU.

onnxruntime-gpu is the extra `cuda`; without it such operators run on OpenVINO's CPU plugin, as they do without a GPU.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from pinakes.operators import models
from pinakes.operators.device import DeviceOperator, is_out_of_memory, release
from pinakes.operators.errors import ModelError
from pinakes.operators.operator import Device

if TYPE_CHECKING:
    import onnxruntime

#: What runs the graphs, by ONNX Runtime's name. Where there is no GPU, tests put the CPU's in its place.
PROVIDER = "CUDAExecutionProvider"

#: How an operator's settings call it: answers differ from OpenVINO's in the last digits.
RUNTIME = "onnxruntime-cuda"

#: On the GPU, beside the weights of an operator: for what its graphs make on their way. Measured on a CPU, that was
#: 0.5 GB for 64 pictures in `moderation`, and in `text` 0.7 GB for four pictures of 1280 x 1280 at once.
ROOM_BYTES = 2 * 2**30

_OPTIONS = {
    # Left alone, convolutions are computed in TF32, of 10 bits.
    "use_tf32": "0",
    # Left alone, every algorithm is tried for each new size of input, and another may win another day.
    "cudnn_conv_algo_search": "HEURISTIC",
    # Left alone, what is asked of the GPU is rounded up to a power of two.
    "arena_extend_strategy": "kSameAsRequested",
}


def is_installed() -> bool:
    """Whether this machine has an ONNX Runtime with the provider; that the provider works is for `opened` to see."""
    try:
        import onnxruntime
    except ImportError:
        return False
    return PROVIDER in onnxruntime.get_available_providers()


def opened(file: Path, memory_bytes: int) -> "onnxruntime.InferenceSession":
    """A graph in float32 on the GPU, of whose memory it takes no more than that. Raises ModelError."""
    if not is_installed():
        raise ModelError(f"onnxruntime with {PROVIDER} is not on this node: pip install 'pinakes[cuda]' there too")
    import onnxruntime

    onnxruntime.preload_dlls()  # of CUDA and cuDNN, from the wheels that come with torch
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1  # parallelism is over processes
    settings.log_severity_level = 3  # errors
    provider = (PROVIDER, {**_OPTIONS, "gpu_mem_limit": str(memory_bytes)})
    try:
        # It must not go on on the CPU after an error of the GPU.
        session = onnxruntime.InferenceSession(file, settings, providers=[provider], enable_fallback=0)
    except Exception as error:  # it has no class of its own for errors
        raise ModelError(f"{file.name} on {PROVIDER}: {' '.join(str(error).split())[:300]}") from None
    if session.get_providers()[0] != PROVIDER:
        raise ModelError(
            f"{PROVIDER} of onnxruntime {onnxruntime.__version__} could not be loaded: are CUDA and cuDNN here, of the "
            "major versions that it was built for? Without onnxruntime-gpu the model runs on the CPU"
        )
    return session


class Graph:
    """A graph of pictures, called as those that `graph.compile_graph` makes."""

    def __init__(
        self,
        file: Path,
        memory_bytes: int,
        image_input: str,
        shape: tuple[int, int, int, int],
        mean: tuple[float, ...],
        deviation: tuple[float, ...],
        bgr: bool = False,
    ) -> None:
        """As `compile_graph`, but that the sizes are those of the file, and all of `deviation` is the same."""
        self._session = opened(file, memory_bytes)
        self._names = [one.name for one in self._session.get_outputs()]
        self._planes = partial(cv2.dnn.blobFromImages, scalefactor=1 / deviation[0], mean=mean, swapRB=bgr)
        self._image_input = image_input

    def infer(self, inputs: Mapping[str, np.ndarray], **_: bool) -> dict[int | str, np.ndarray]:
        """Outputs by position and by name. What OpenVINO is told of sharing means nothing here. Raises MemoryError."""
        planes = {self._image_input: self._planes(list(inputs[self._image_input]))}
        try:
            found = self._session.run(None, planes)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            release()  # torch, in the same process, may keep what it does not need
            try:
                found = self._session.run(None, planes)
            except Exception as again:
                if is_out_of_memory(again):
                    raise MemoryError("the GPU has no room for this picture") from None
                raise
        return {**dict(enumerate(found)), **dict(zip(self._names, found, strict=True))}


class OnnxOperator(DeviceOperator):
    """In a job that runs on GPUs its graphs do too, in float32 whatever `precision` it is given.

    In any other job it is the operator that it derives from as well, with that one's fingerprint.
    """

    _device: Device = "cpu"

    def resolve(self, device: Device, report: models.Report = lambda line: None) -> None:
        self._device = device
        if device == "cuda":
            self.config = self.config.model_copy(update={"precision": "f32"})

    def settings(self) -> dict[str, Any]:
        own = super().settings()
        return own if self._device == "cpu" else {**own, "runtime": RUNTIME}

    @property
    def memory_bytes(self) -> int:
        return sum(models.entry(name).bytes for name in self.model_names()) + ROOM_BYTES

    def load_preparing(self) -> None:
        """There is nothing to open."""

    def graph(self, file: Path, **how: Any) -> Graph:
        """A `graph.Opener`. The room is not shared out among an operator's graphs: one of them takes nearly all."""
        return Graph(file, self.memory_bytes, **how)
