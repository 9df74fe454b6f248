"""Operators whose model may run on another device than the one that decodes: a CPU prepares, a GPU infers.

`prepare` makes the model's input of a canonical picture, small enough to travel between processes; `infer` runs the
model over many of them. On a CPU both happen in one process, and `look` is the one after the other.
"""

import time
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from pinakes.operators.operator import Device, Operator, Picture, Results

Output = TypeVar("Output")

#: No larger batch is tried: beyond it no model that was measured gained.
LARGEST_BATCH = 256
#: What a doubled batch must gain in inputs a second to be worth its memory.
WORTH = 1.05
#: Runs of which the quickest counts when a batch is timed.
TIMED_RUNS = 3

#: Where there is no class of errors for it: how torch's allocator on a CPU says that there is no room, ONNX Runtime's
#: arena on any device, and CUDA through ONNX Runtime; and how torch and ONNX Runtime begin CUDA's own errors.
NO_ROOM = (
    *("DefaultCPUAllocator", "BFCArena", "CUDA failure 2:", "CUDA error: out of memory"),
    *("CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED"),
)
LOST = ("CUDA error", "CUDA failure")


@dataclass(frozen=True, slots=True)
class Origin:
    """The picture that an input was made of; its size is the canonical picture's, in pixels."""

    item_key: str
    frame_ms: int | None
    width: int
    height: int

    @classmethod
    def of(cls, picture: Picture) -> "Origin":
        height, width = picture.pixels.shape[:2]
        return cls(picture.item_key, picture.frame_ms, width, height)


class DeviceOperator(Operator):
    """An operator in two steps. A subclass writes `load_preparing`, `load`, `prepare`, `infer` and the two sizes."""

    @property
    @abstractmethod
    def memory_bytes(self) -> int:
        """GPU memory that it takes: the weights at its precision, and room for a batch. Known once resolved."""

    @property
    @abstractmethod
    def input_bytes(self) -> int:
        """Bytes of one input, about. Known once resolved."""

    @abstractmethod
    def load_preparing(self) -> None:
        """Open what `prepare` needs, without the model's weights. Raises ModelError."""

    @abstractmethod
    def load(self, device: Device = "cpu", share: float = 1) -> None:
        """Open what `infer` needs, and what `prepare` needs; of a GPU take no more than that share of its memory.

        Raises ModelError.
        """

    @abstractmethod
    def prepare(self, picture: Picture) -> np.ndarray:
        """The model's input, any shape and type; of that picture and the settings alone. It may be read-only."""

    @abstractmethod
    def infer(self, inputs: Sequence[np.ndarray], origins: Sequence[Origin]) -> Results:
        """Results for a batch of inputs, and what each was made of; `picture` of a row is the input's position.

        Raises MemoryError when the device has no room for even one; see `is_lost` for what ends the process.
        """

    def look(self, pictures: Sequence[Picture]) -> Results:
        return self.infer([self.prepare(one) for one in pictures], [Origin.of(one) for one in pictures])


def best_batch(run: Callable[[int], object], largest: int = LARGEST_BATCH) -> int:
    """The size of batch that gives most a second, found by doubling from one; `run` is given a size and runs it once.

    It ends where doubling gains less than WORTH or where the memory ends. Raises MemoryError when there is no room for
    a batch of one.
    """
    best, best_per_s, size = 0, 0.0, 1
    while size <= largest:
        try:
            run(size)  # the first run of a size pays for its kernels and memory
            per_s = size / min(_seconds(run, size) for _ in range(TIMED_RUNS))
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            per_s = 0.0
        if per_s <= best_per_s * WORTH:
            break
        best, best_per_s, size = size, per_s, size * 2
    release()
    if not best:
        raise MemoryError("the device has no room for a batch of one")
    return best


def _seconds(run: Callable[[int], object], size: int) -> float:
    began = time.perf_counter()
    run(size)
    return time.perf_counter() - began


class Batches:
    """Runs inputs through a model in batches of a size that the device has room for."""

    def __init__(self, size: int) -> None:
        self.size = size

    def run(self, model: Callable[[np.ndarray], Sequence[Output]], inputs: Sequence[np.ndarray]) -> list[Output]:
        """An output for each input, in their order. `model` is given a stack of inputs of one shape, padded never.

        Out of memory, the size is halved for good, and the batch tried again. Raises MemoryError at a size of one.
        """
        found: dict[int, Output] = {}
        for positions in self._groups(inputs):
            while positions:
                some = positions[: self.size]
                try:
                    outputs = model(np.stack([inputs[position] for position in some]))
                except Exception as error:
                    if not is_out_of_memory(error):
                        raise
                    if len(some) == 1:
                        raise MemoryError("the device has no room for this one input") from None
                    outputs = []
                if not outputs:
                    self.size = len(some) // 2
                    release()  # not in the handler, whose traceback holds what the model had made by then
                    continue
                found.update(zip(some, outputs, strict=True))
                positions = positions[len(some) :]
        return [found[position] for position in range(len(inputs))]

    @staticmethod
    def _groups(inputs: Sequence[np.ndarray]) -> Iterator[list[int]]:
        groups: dict[tuple[int, ...], list[int]] = {}
        for position, one in enumerate(inputs):
            groups.setdefault(one.shape, []).append(position)
        yield from groups.values()


@contextmanager
def full_precision() -> Iterator[None]:
    """Float32 with all its bits on a GPU: left alone, convolutions are computed in TF32, of 10 bits."""
    import torch

    kept = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = kept


def release() -> None:
    """Give back to the device what torch keeps of it for later."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device, or this machine, says that there is no room."""
    import torch

    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or any(word in str(error) for word in NO_ROOM)


def is_lost(error: BaseException) -> bool:
    """Whether the device's state is lost with the error, so that only a new process can use it again.

    After an illegal access or a failed assertion in a kernel CUDA answers every further call with the same error.
    """
    import torch

    if is_out_of_memory(error):
        return False
    lost: type[BaseException] | None = getattr(torch, "AcceleratorError", None)
    return (lost is not None and isinstance(error, lost)) or any(word in str(error) for word in LOST)
