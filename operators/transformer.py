"""Operators whose model is one of the transformers library: from the Hugging Face hub, a folder, or an fsspec URL.

What they have in common: finding the model and telling whether it is of the right kind, opening it in the precision
asked for on the device asked for, and running it over batches. torch and transformers are imported when needed.
"""

import math
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import cv2
import numpy as np
from pydantic import Field

from pinakes.operators import hub, models
from pinakes.operators.device import Batches, DeviceOperator, best_batch, full_precision
from pinakes.operators.errors import ConfigError, ModelError
from pinakes.operators.hub_files import CONFIG, read_json
from pinakes.operators.operator import Device, OperatorConfig, Picture
from pinakes.operators.packed_linear import pack
from pinakes.operators.preprocessing import SURE, Preprocessing, silent
from pinakes.operators.words import of_model

if TYPE_CHECKING:
    import torch

#: Of a GPU's memory, what a process takes before its first tensor.
CONTEXT_BYTES = 600_000_000

#: On a GPU, beside the weights: what a batch takes while it runs. Not measured: the batch is found by trying.
ROOM_BYTES = 2 * 2**30

#: A batch on a CPU, where larger ones gained nothing: what comes at once.
CPU_BATCH = 8

#: A longer picture is made broader until its long side is this many times its short one: 1 x 1900 pixels, brought to a
#: short side of 224, would be 286 MB, and some image processors come to a side of no pixels.
LONGEST = 8


class TransformerConfig(OperatorConfig):
    """Settings of every operator that runs a model of the transformers library.

    Where the model lies is no part of the fingerprint: its files' hashes are. `precision` is, when not given, bf16 on a
    GPU (but for detectors) and f32 on a CPU; name it to have one fingerprint on both. In f32 pictures are resized by
    Pillow and answers are the library's own to 1e-4 of a logit; in bf16 by torch, quicker.
    """

    model: str = Field(min_length=1, description="id on the Hugging Face hub, folder, or fsspec URL of one")
    revision: str | None = Field(default=None, description="of a hub id: branch, tag or commit")
    precision: Literal["f32", "bf16"] | None = None


class TransformerOperator(DeviceOperator):
    """A subclass names the `architectures` that it runs and writes `_open`, `_forward` and `infer`."""

    Config: ClassVar[type[OperatorConfig]] = TransformerConfig
    config: TransformerConfig

    #: What the model is called in messages: "an image classifier".
    kind: ClassVar[str]
    #: Whether bf16 is the default on GPUs.
    half_on_gpus: ClassVar[bool] = True
    #: The model as it was found, and what its files say; set by `resolve`.
    hub_model: hub.HubModel
    _input_bytes: int = 0
    _parameters: int = 0
    _wants_more: tuple[int, int] | None = None

    @classmethod
    @abstractmethod
    def architectures(cls) -> frozenset[str]:
        """The model classes of the library that it runs."""

    @property
    def model(self) -> str:
        return self.hub_model.label

    def digests(self) -> list[str]:
        return [self.hub_model.digest]

    def settings(self) -> dict[str, Any]:
        return self.config.model_dump(mode="json", exclude={"model", "revision"})

    def resolve(self, device: Device, report: models.Report = lambda line: None) -> None:
        _needs_torch(self.name)
        if self.config.precision is None:
            precision = "bf16" if device == "cuda" and self.half_on_gpus else "f32"
            self.config = self.config.model_copy(update={"precision": precision})
        self.hub_model = hub.find(self.config.model, self.config.revision, report)
        folder = self.hub_model.folder()
        named = read_json(self.hub_model.name, folder / CONFIG).get("architectures")
        architecture = str(named[0]) if isinstance(named, list) and named else "model of no known class"
        if architecture not in self.architectures():
            raise ConfigError(f"operator {self.name}: model {self.model} is a {architecture}, which is not {self.kind}")
        preparing = self._preprocessing()
        self._input_bytes = preparing.sure_bytes
        self._wants_more = preparing.sure_shape[1:] if preparing.wants_more else None  # type: ignore[assignment]
        self._parameters = _parameters(folder / file.name for file in self.hub_model.files)

    def folders(self) -> Mapping[str, Mapping[str, Path]]:
        folder = self.hub_model.folder()
        return {f"hub/{self.hub_model.digest}": {file.name: folder / file.name for file in self.hub_model.files}}

    def remarks(self) -> list[str]:
        if self._wants_more is None:
            return []
        height, width = self._wants_more
        return [
            f"{self.name}: {self.model} looks at up to {width} x {height} pixels; of a larger picture "
            f"{SURE[0]} of the long side are sure to be kept, and such pictures are enlarged for it"
        ]

    @property
    def memory_bytes(self) -> int:
        return self._parameters * (2 if self.config.precision == "bf16" else 4) + ROOM_BYTES

    @property
    def input_bytes(self) -> int:
        return self._input_bytes

    def _preprocessing(self) -> Preprocessing:
        return Preprocessing(self.hub_model.folder(), self.model, exact=self.config.precision == "f32")

    def load_preparing(self) -> None:
        _one_thread()
        self._prepared = self._preprocessing()

    def load(self, device: Device = "cpu", share: float = 1) -> None:
        import torch

        if device == "cuda":
            if not torch.cuda.is_available():
                raise ModelError(f"operator {self.name}: torch cannot use the GPU of this node: is it a CUDA build?")
            # What CUDA itself takes of a share is not counted by torch.
            context = CONTEXT_BYTES / torch.cuda.get_device_properties(0).total_memory
            torch.cuda.set_per_process_memory_fraction(max(context, share - context))
        self.load_preparing()
        self._device = torch.device(device)
        with torch.inference_mode(), silent():
            self._network: Any = self._open()
        shape = self._prepared.sure_shape
        kind = np.uint8 if self._prepared.sure_bytes == math.prod(shape) else np.float32
        if device == "cuda":
            self._batches = Batches(best_batch(lambda size: self._run(np.zeros((size, *shape), kind))))
            return
        self._batches = Batches(CPU_BATCH)
        if self.config.precision == "f32":
            noise = np.random.default_rng(0).integers(0, 256, (1, *shape), np.uint8).astype(kind)
            pack(self._network, lambda: self._run(noise)[0])

    def prepare(self, picture: Picture) -> np.ndarray:
        pixels = picture.pixels
        height, width = pixels.shape[:2]
        least = -(-max(height, width) // LONGEST)
        if min(height, width) < least:
            pixels = cv2.resize(pixels, (max(width, least), max(height, least)), interpolation=cv2.INTER_LINEAR)
        return self._prepared(pixels)

    def outputs(self, inputs: Sequence[np.ndarray]) -> list[tuple[np.ndarray, ...]]:
        """What `_forward` makes of each input."""
        return self._batches.run(self._run, inputs)

    def _run(self, inputs: np.ndarray) -> list[tuple[np.ndarray, ...]]:
        import torch

        with torch.inference_mode(), full_precision():
            pixel_values = self._prepared.finish(torch.from_numpy(inputs).to(self._device))
            found = [one.float().cpu().numpy() for one in self._forward(pixel_values.to(self._network.dtype))]
        return list(zip(*found, strict=True))

    @abstractmethod
    def _open(self) -> Any:
        """The network, by `opened`."""

    @abstractmethod
    def _forward(self, pixel_values: "torch.Tensor") -> tuple["torch.Tensor", ...]:
        """What counts of the network's answer, each part with a row for each input of the batch."""

    def opened(self, auto_class: Any, may_lack: str = "") -> tuple[Any, set[str]]:
        """The network in its precision on its device, and the weights that its file lacks, whose names begin so.

        Raises ModelError where the file lacks others: they would be random.
        """
        import torch

        dtype = torch.bfloat16 if self.config.precision == "bf16" else torch.float32
        try:
            network, said = auto_class.from_pretrained(
                self.hub_model.folder(),
                dtype=dtype,
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
            )
        except Exception as error:  # its files are anyone's
            raise ModelError(f"model {self.model} cannot be opened: {' '.join(str(error).split())[:300]}") from None
        missing = set(said["missing_keys"])
        if others := sorted(name for name in missing if not may_lack or not name.startswith(may_lack)):
            raise ModelError(
                f"model {self.model} is not {self.kind}: its file has no weights for {others[0]} and "
                f"{len(others) - 1} more"
            )
        return network.eval().to(self._device), missing


class LabelledOperator(TransformerOperator):
    """One whose model has labels of its own."""

    def digests(self) -> list[str]:
        # What the labels mean may change with Pinakes' own vocabularies.
        return [*super().digests(), of_model(self.labels).digest]

    @cached_property
    def labels(self) -> list[str]:
        """The model's own labels, in the order of its outputs. Raises ModelError."""
        config = read_json(self.hub_model.name, self.hub_model.folder() / CONFIG)
        by_number = config.get("id2label") or {str(number): f"LABEL_{number}" for number in range(2)}
        try:
            return [str(by_number[str(number)]) for number in range(len(by_number))]
        except (AttributeError, KeyError, TypeError):
            raise ModelError(f"model {self.model}: its config.json does not number its labels from 0 on") from None


def class_names(mapping: Mapping[str, str | Sequence[str]]) -> frozenset[str]:
    """The model classes of one of the library's tables of them, by family."""
    return frozenset(name for value in mapping.values() for name in ([value] if isinstance(value, str) else value))


def _needs_torch(name: str) -> None:
    try:
        import torch  # noqa: F401
        import transformers  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            f"operator {name}: a `model` of one's own needs torch and transformers ({error.name} is missing): "
            "pip install 'pinakes[torch]'"
        ) from None


def _one_thread() -> None:
    """Parallelism is over processes."""
    import torch

    torch.set_num_threads(1)


def _parameters(files: Iterable[Path]) -> int:
    """Numbers in the weights among those files. Raises ModelError."""
    from safetensors import SafetensorError, safe_open

    total = 0
    for file in files:
        if file.suffix != ".safetensors":
            continue
        try:
            with safe_open(file, "np") as weights:
                total += sum(math.prod(weights.get_slice(name).get_shape()) for name in weights.keys())  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise ModelError(f"{file} is not a safetensors file: {error}") from None
    return total
