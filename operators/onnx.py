"""ONNX graphs on the CUDA provider of ONNX Runtime, for operators whose weights are an ONNX file, where there is a GPU.

onnxruntime-gpu is the extra `cuda`; without it such operators run on OpenVINO's CPU plugin, as they do without a GPU.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from pinakes.operators.errors import ModelError

if TYPE_CHECKING:
    import onnxruntime

#: What runs the graphs, by ONNX Runtime's name. Where there is no GPU, tests put the CPU's in its place.
PROVIDER = "CUDAExecutionProvider"

#: How an operator's settings call it: answers differ from OpenVINO's in the last digits.
RUNTIME = "onnxruntime-cuda"

_OPTIONS = {
    # Left alone, convolutions are computed in TF32, whose answers are off in the third digit.
    "use_tf32": "0",
    # Left alone, every algorithm is tried for each new size of batch, and another may win on another day.
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
