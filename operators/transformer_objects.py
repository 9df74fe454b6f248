"""`objects` by a model of one's own: a detector (RT-DETR, DETR, YOLOS, ...), or one that is told in words what to look
for (OWL-ViT, OWLv2).

They look in f32 on GPUs too unless told otherwise: a box's edge in bf16 is a multiple of 1/256 of the picture's side.
"""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field

from pinakes.operators.device import Origin
from pinakes.operators.object_rows import SCHEMA, object_rows
from pinakes.operators.operator import Results
from pinakes.operators.transformer import LabelledOperator, TransformerConfig, class_names
from pinakes.operators.words import of_model
from pinakes.operators.zero_shot import VocabularyConfig, ZeroShotOperator

if TYPE_CHECKING:
    import torch


class DetectorConfig(TransformerConfig):
    """Settings of `objects` with a `model`."""

    min_confidence: float = Field(default=0.4, ge=0, le=1)
    max_objects: int = Field(default=100, ge=1, le=1000)


class ZeroShotDetectorConfig(DetectorConfig, VocabularyConfig):
    """Settings of `objects` with a `model` and a `vocabulary`; the defaults are those of the library's pipeline."""

    min_confidence: float = Field(default=0.1, ge=0, le=1)


class DetectorObjects(LabelledOperator):
    """Fills `objects` with the model's own kinds of things."""

    name = "objects"
    tables: ClassVar = {"objects": SCHEMA}
    Config = DetectorConfig
    config: DetectorConfig
    half_on_gpus = False
    kind = "a detector"

    @classmethod
    def architectures(cls) -> frozenset[str]:
        from transformers.models.auto import modeling_auto

        return class_names(modeling_auto.MODEL_FOR_OBJECT_DETECTION_MAPPING_NAMES)

    def _open(self) -> Any:
        from transformers import AutoModelForObjectDetection

        self._classes = of_model(self.labels).table().select(["name", "ancestors"])
        return self.opened(AutoModelForObjectDetection)[0]

    def _forward(self, pixel_values: "torch.Tensor") -> tuple["torch.Tensor", ...]:
        found = self._network(pixel_values=pixel_values)
        return found.logits, found.pred_boxes

    def infer(self, inputs: Sequence[np.ndarray], origins: Sequence[Origin]) -> Results:
        rows = [self._rows(*one) for one in self.outputs(inputs)]
        return {"objects": object_rows(rows, self._classes, self.config.min_confidence, self.config.max_objects)}

    def _rows(self, logits: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        """(n, 6) float32 of one picture, by the reading of the model's own processor."""
        import torch

        answer = SimpleNamespace(logits=torch.from_numpy(logits[None]), pred_boxes=torch.from_numpy(boxes[None]))
        # Its own threshold would leave out what is equal to it.
        read = self._prepared.processor.post_process_object_detection(answer, threshold=-1.0)[0]
        columns = [read["labels"][:, None].float(), read["scores"][:, None], read["boxes"]]
        rows: np.ndarray = torch.cat(columns, dim=1).numpy()
        return rows


class ZeroShotObjects(ZeroShotOperator):
    """Fills `objects` with the words of a vocabulary; a box that two words fit is there twice."""

    name = "objects"
    tables: ClassVar = {"objects": SCHEMA}
    Config = ZeroShotDetectorConfig
    config: ZeroShotDetectorConfig
    half_on_gpus = False
    kind = "a detector that a vocabulary is for (OWL-ViT or OWLv2)"

    @classmethod
    def architectures(cls) -> frozenset[str]:
        # Of the others the words are part of every look, so that their vectors cannot be worked out once.
        return frozenset({"OwlViTForObjectDetection", "Owlv2ForObjectDetection"})

    def _open(self) -> Any:
        import torch
        from transformers import AutoModelForZeroShotObjectDetection

        self._classes = self.words.table().select(["name", "ancestors"])
        network, _ = self.opened(AutoModelForZeroShotObjectDetection)
        # OWLv2 pads a picture to a square, below or at its right, and its boxes are ratios of that.
        self._is_padded = type(network).__name__.startswith("Owlv2")
        self._queries = torch.from_numpy(self.vectors.load()[0]).to(self._device, network.dtype)[None]
        return network

    def _forward(self, pixel_values: "torch.Tensor") -> tuple["torch.Tensor", ...]:
        grid = self._network.image_embedder(pixel_values=pixel_values)[0]
        seen = grid.flatten(1, 2)
        logits, _ = self._network.class_predictor(seen, self._queries.expand(len(seen), -1, -1))
        return logits.float().sigmoid(), self._network.box_predictor(seen, grid)

    def infer(self, inputs: Sequence[np.ndarray], origins: Sequence[Origin]) -> Results:
        seen = zip(self.outputs(inputs), origins, strict=True)
        rows = [self._rows(scores, boxes, origin) for (scores, boxes), origin in seen]
        return {"objects": object_rows(rows, self._classes, self.config.min_confidence, self.config.max_objects)}

    def _rows(self, scores: np.ndarray, boxes: np.ndarray, origin: Origin) -> np.ndarray:
        """(n, 6) float32 of one picture: every word of every box that is likely enough."""
        box, word = np.nonzero(scores >= self.config.min_confidence)
        x, y, width, height = boxes[box].T
        edges = np.stack([x - width / 2, y - height / 2, x + width / 2, y + height / 2], axis=1)
        if self._is_padded:
            longest = max(origin.width, origin.height)
            edges *= [longest / origin.width, longest / origin.height] * 2
        return np.column_stack([word, scores[box, word], edges]).astype(np.float32)
