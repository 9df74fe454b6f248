"""The operators `faces` and `text` where onnxruntime-gpu is installed: in a job that runs on GPUs, their models do too.

Each of their models looks at what the one before has found, so it is whole pictures that go to the GPU's process, and
each is looked at by itself. While one waits for the GPU, others are cut out, turned and spelled.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from pinakes.operators.decode import single_thread
from pinakes.operators.device import Origin
from pinakes.operators.face_detection import LONG_SIDE
from pinakes.operators.faces import Faces
from pinakes.operators.onnx import OnnxOperator
from pinakes.operators.operator import Device, Picture, Results
from pinakes.operators.text import Text

#: Pictures in hand at once. Not measured on a GPU; with graphs that do nothing but answer after 2 ms, `faces` looked at
#: 119 photos a second with one and 285 with four, `text` at 70 and 179.
THREADS = 4

#: Of a canonical picture, 1280 x 960.
PICTURE_BYTES = 1280 * 960 * 3


class PictureOperator(OnnxOperator):
    """One whose input is the whole picture."""

    input_bytes = PICTURE_BYTES

    def prepare(self, picture: Picture) -> np.ndarray:
        return picture.pixels

    def start(self) -> None:
        """Once its graphs are open on the GPU."""
        single_thread()
        self._threads = ThreadPoolExecutor(THREADS)


class CudaFaces(Faces, PictureOperator):
    """As OnnxOperator says. On a GPU every picture is searched on a square, the one size that the file has."""

    def load(self, device: Device = "cpu", share: float = 1) -> None:
        if device == "cpu":
            super().load()
            return
        self.open_models(self.graph, [(LONG_SIDE, LONG_SIDE)])
        self._detector.detect(np.zeros((LONG_SIDE, LONG_SIDE, 3), np.uint8))  # opens its graph, once for all threads
        self.start()

    def infer(self, inputs: Sequence[np.ndarray], origins: Sequence[Origin]) -> Results:
        seen = [(pixels, one.item_key, one.frame_ms) for pixels, one in zip(inputs, origins, strict=True)]
        return self.results(seen, self._threads.map)


class CudaText(Text, PictureOperator):
    """As OnnxOperator says."""

    def load(self, device: Device = "cpu", share: float = 1) -> None:
        if device == "cpu":
            super().load()
            return
        self.open_models(self.graph)
        self.start()

    def infer(self, inputs: Sequence[np.ndarray], origins: Sequence[Origin]) -> Results:
        return self.results(inputs, self._threads.map)
