"""The canonical picture as a model of the transformers library wants it: by the model's own image processor.

The processor's steps up to its last resizing or cropping are done here, on 8-bit samples; what is left, the scaling and
normalising, is done where the model runs, with a quarter of the bytes to carry there. Whether a processor can be cut
there is tried on a picture when it is opened; one that cannot is run whole.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pinakes.operators.errors import ModelError
from pinakes.operators.hub_files import one_line

if TYPE_CHECKING:
    import torch

#: Samples of a whole and of a cut processor may differ by this much, after normalising: float32's own rounding.
EQUAL = 1e-5

#: Of an input, in pixels: no model looks at more, and a file that asks for more asks for all of the memory.
LARGEST_SIDE = 4096

#: The canonical picture's sides that are sure where the original has them (see decode.py), in the shape of most photos.
SURE = (960, 720)


@contextmanager
def silent() -> Iterator[None]:
    """Without the transformers library's advice on what it was not asked, and without its bars."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


class Preprocessing:
    """A model's image processor, from its folder. Raises ModelError where it cannot be opened.

    `exact`: resizing by Pillow, to the bit what the library does without torchvision. Else by torch, five times quicker
    and what the library does with torchvision: one sample in ten to a thousand differs by one of 255.
    """

    def __init__(self, folder: Path, label: str, exact: bool) -> None:
        from transformers import AutoImageProcessor

        try:
            with silent():
                processor = AutoImageProcessor.from_pretrained(
                    folder, backend="pil", local_files_only=True, trust_remote_code=False
                )
        except Exception as error:  # its files are anyone's
            raise ModelError(f"model {label}: its image processor cannot be opened: {one_line(error)}") from None
        if getattr(processor, "backend", None) != "pil":
            raise ModelError(
                f"model {label}: its image processor ({type(processor).__name__}) has no form without torchvision, "
                "which is not used here"
            )
        self.processor: Any = processor
        for sizes in ("size", "crop_size", "pad_size"):
            if any(
                isinstance(side, int) and side > LARGEST_SIDE for side in dict(getattr(processor, sizes) or {}).values()
            ):
                raise ModelError(f"model {label}: its image processor asks for sides of over {LARGEST_SIDE:,} pixels")
        if not exact:
            self.processor.__class__ = _resizing_by_torch(type(processor))
        self._label = label
        self._cut = True
        self._cut = self._can_be_cut()

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """(channels, height, width): uint8, or float32 of a processor that was run whole. `pixels` as Picture's."""
        settings = {"do_rescale": False, "do_normalize": False} if self._cut else {}
        found = self._run(pixels, **settings)
        return np.ascontiguousarray(found)

    def _run(self, pixels: np.ndarray, **settings: bool) -> np.ndarray:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # Not as a Pillow image, which would be copied three times on its way.
            how = {"input_data_format": "channels_last", "return_tensors": "np"}
            found = self.processor(images=[pixels], **how, **settings)
        samples: np.ndarray = found["pixel_values"][0]
        return samples

    def finish(self, inputs: "torch.Tensor") -> "torch.Tensor":
        """The rest, where `inputs`, a batch of them, is: float32 as the model takes them."""
        import torch

        if not self._cut:
            return inputs.to(torch.float32)
        samples = inputs.to(torch.float32)
        if self.processor.do_rescale:
            samples = samples * float(self.processor.rescale_factor)
        if self.processor.do_normalize:
            mean, deviation = (
                torch.tensor(values, dtype=torch.float32, device=inputs.device).reshape(-1, 1, 1)
                for values in (self.processor.image_mean, self.processor.image_std)
            )
            samples = (samples - mean) / deviation
        return samples

    def _can_be_cut(self) -> bool:
        import torch

        probe = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
        try:
            whole = self._run(probe)
        except Exception as error:
            raise ModelError(f"model {self._label}: its image processor fails: {one_line(error)}") from None
        if whole.ndim != 3:
            raise ModelError(
                f"model {self._label}: its image processor makes {whole.ndim} dimensions of a picture instead of "
                "channels, height and width: such models are not run"
            )
        try:
            cut = self(probe)
            if cut.dtype != np.uint8 or cut.shape != whole.shape:
                return False
            return float(np.abs(self.finish(torch.from_numpy(cut[None])).numpy()[0] - whole).max()) <= EQUAL
        except Exception:  # it takes no such settings, or has not these attributes
            return False

    @cached_property
    def sure_shape(self) -> tuple[int, ...]:
        """The input's (channels, height, width) for a picture of SURE's size."""
        return self(np.zeros((SURE[1], SURE[0], 3), np.uint8)).shape

    @property
    def sure_bytes(self) -> int:
        """Bytes of that input."""
        return int(np.prod(self.sure_shape)) * (1 if self._cut else 4)

    @property
    def wants_more(self) -> bool:
        """Whether it enlarges a picture of that size: it would have used more pixels than are sure to be there."""
        _, height, width = self.sure_shape
        return height > SURE[1] or width > SURE[0]


def _resizing_by_torch(kind: type) -> type:
    """The processor's class with torch's resizing of 8-bit samples behind it, in place of Pillow's."""
    return type(kind.__name__, (kind, _torch_resizing()), {})


def _torch_resizing() -> type:
    import torch
    from transformers.image_processing_backends import PilBackend
    from transformers.image_transforms import get_resize_output_image_size, get_size_with_aspect_ratio

    class TorchResizing(PilBackend):
        """Sizes as in PilBackend.resize; what else that can do is left to it."""

        def resize(
            self, image: np.ndarray, size: Any, resample: Any = None, reducing_gap: int | None = None, **settings: Any
        ) -> np.ndarray:
            mode = {None: "bilinear", 2: "bilinear", 3: "bicubic"}.get(resample)
            edges = (size.shortest_edge, size.longest_edge)
            if (
                image.dtype != np.uint8
                or mode is None
                or reducing_gap
                or not (edges[0] or (size.height and size.width))
            ):
                return super().resize(image, size, resample, reducing_gap, **settings)
            height, width = image.shape[1:]
            if edges[0] and edges[1]:
                target = get_size_with_aspect_ratio((height, width), *edges)
            elif edges[0]:
                target = get_resize_output_image_size(
                    image, size=edges[0], default_to_square=False, input_data_format="channels_first"
                )
            else:
                target = (size.height, size.width)
            samples = torch.from_numpy(image)[None]
            resized = torch.nn.functional.interpolate(samples, size=tuple(target), mode=mode, antialias=True)[0]
            return np.asarray(resized)

    return TorchResizing
