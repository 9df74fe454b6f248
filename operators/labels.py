"""The operator `labels`: what a picture shows, as names of ImageNet-1k, by PP-LCNetV2.

With a `model` of one's own it is transformer_labels.py that looks.

Preprocessing is the authors' own (short side to 256, bilinear; the middle 224 x 224), behind the averaging of
`graph.resize`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import cv2
import numpy as np
import pyarrow as pa
from pydantic import Field

from pinakes.operators import models
from pinakes.operators.graph import Precision, compile_graph, resize
from pinakes.operators.label_rows import CLASS_SCHEMA, SCHEMA, label_rows
from pinakes.operators.operator import Operator, OperatorConfig, Picture, Results, WholeVideo
from pinakes.operators.spans import SPANS, spans
from pinakes.operators.wordnet import ancestors, categories, vocabulary

MODEL = "pp-lcnetv2-base"
SHORT_SIDE = 256
CROP = 224

#: The model sees the middle square only. A longer picture is first cut to this many times its short side, so that a
#: strip of 1 x 1900 pixels is not enlarged to 256 x 486 400.
LONGEST = 4


class LabelsConfig(OperatorConfig):
    """Settings of `labels`.

    At 0.1, on 100 ImageNet photos, a photo had 1.3 labels and the true one was among them for 97 of 100; at 0.3 for 88,
    and 6 photos had no label at all; at 0.05 for 98, with a third of all labels wrong.
    """

    min_confidence: float = Field(default=0.1, ge=0, le=1)
    max_labels: int = Field(default=10, ge=1, le=1000)
    precision: Precision = "bf16"


class Labels(Operator):
    """Fills `labels`: up to `max_labels` names a picture, the most confident first; and of a video `spans`."""

    name = "labels"
    tables: ClassVar = {"labels": SCHEMA}
    video_tables: ClassVar = {"spans": SPANS}
    Config = LabelsConfig
    config: LabelsConfig

    @classmethod
    def for_settings(cls, settings: Mapping[str, Any]) -> type[Operator]:
        if "model" not in settings and "vocabulary" not in settings:
            return cls
        from pinakes.operators.transformer_labels import ClassifierLabels, ZeroShotLabels

        return ZeroShotLabels if "vocabulary" in settings else ClassifierLabels

    def model_names(self) -> tuple[str, ...]:
        return (MODEL,)

    def load(self) -> None:
        """Raises ModelError when the model is not on this machine."""
        file = models.path(MODEL) / "inference.pdmodel"
        self._graph = compile_graph(file, self.config.precision, "x", (1, CROP, CROP, 3))
        names = vocabulary("imagenet")["name"].to_pylist()
        columns = [names, [ancestors(name) for name in names], [categories(name) for name in names]]
        self._classes = pa.table(columns, schema=CLASS_SCHEMA)

    def look(self, pictures: Sequence[Picture]) -> Results:
        scores = np.zeros((len(pictures), len(self._classes)), np.float32)
        for row, picture in enumerate(pictures):
            scores[row] = self._graph.infer({"x": crop(picture.pixels)[None]}, share_inputs=True)[0][0]
        return {"labels": label_rows(scores, self._classes, self.config.min_confidence, self.config.max_labels)}

    def finish(self, video: WholeVideo) -> Mapping[str, pa.Table]:
        return {"spans": spans(self.name, video)}


def crop(pixels: np.ndarray) -> np.ndarray:
    """The model's view, (224, 224, 3) uint8: short side to 256, then the middle."""
    height, width = pixels.shape[:2]
    short = min(height, width)
    if max(height, width) > LONGEST * short:
        top, left = max(0, height - LONGEST * short) // 2, max(0, width - LONGEST * short) // 2
        pixels = pixels[top : top + LONGEST * short, left : left + LONGEST * short]
        height, width = pixels.shape[:2]
    scale = SHORT_SIDE / short
    pixels = resize(pixels, round(width * scale), round(height * scale), cv2.INTER_LINEAR)
    top, left = (pixels.shape[0] - CROP) // 2, (pixels.shape[1] - CROP) // 2
    return np.ascontiguousarray(pixels[top : top + CROP, left : left + CROP])
