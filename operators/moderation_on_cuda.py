"""The operator `moderation` where onnxruntime-gpu is installed: in a job that runs on GPUs, the model does too."""

from collections.abc import Sequence

import numpy as np

from pinakes.operators import models, onnx
from pinakes.operators.device import Batches, Origin, best_batch
from pinakes.operators.moderation import CROP, MEAN, MODEL, Moderation, crop
from pinakes.operators.operator import Device, Picture, Results


class CudaModeration(Moderation, onnx.OnnxOperator):
    """As OnnxOperator says; pictures go to the GPU in batches."""

    _batches: Batches | None = None

    @property
    def input_bytes(self) -> int:
        return CROP * CROP * 3

    def load(self, device: Device = "cpu", share: float = 1) -> None:
        if device == "cpu":
            super().load()
            return
        self._session = onnx.opened(models.path(MODEL) / "open_nsfw.onnx", self.memory_bytes)
        self._batches = Batches(best_batch(lambda size: self._run(np.zeros((size, CROP, CROP, 3), np.uint8))))

    def prepare(self, picture: Picture) -> np.ndarray:
        return crop(picture.pixels)

    def infer(self, inputs: Sequence[np.ndarray], origins: Sequence[Origin]) -> Results:
        return self.results(inputs)

    def _scores(self, crops: Sequence[np.ndarray]) -> np.ndarray:
        if self._batches is None:
            return super()._scores(crops)
        return np.array(self._batches.run(self._run, crops), np.float32)

    def _run(self, crops: np.ndarray) -> list[float]:
        blue_first = crops[..., ::-1] - np.array(MEAN, np.float32)
        scores: list[float] = self._session.run(None, {"input_0": blue_first})[0][:, 1].tolist()
        return scores
