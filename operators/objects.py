"""The operator `objects`: things in a picture with their boxes, of the 80 kinds of COCO, by PicoDet.

With a `model` of one's own it is transformer_objects.py that looks.

Preprocessing is the authors' own (416 x 416 whatever the shape, bicubic), behind the averaging of `graph.resize`; their
suppression of overlapping boxes (0.5) is part of the graph.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import cv2
import numpy as np
import pyarrow as pa
from pydantic import Field

from pinakes.operators import models
from pinakes.operators.graph import Precision, compile_graph, resize
from pinakes.operators.object_rows import CLASS_SCHEMA, SCHEMA, object_rows
from pinakes.operators.operator import Operator, OperatorConfig, Picture, Results
from pinakes.operators.wordnet import ancestors, vocabulary

MODEL = "picodet-416"
SIDE = 416


class ObjectsConfig(OperatorConfig):
    """Settings of `objects`.

    0.4 had the best balance (F1) on 43 COCO photos with 399 things: 70 % of the boxes right and 45 % of the things
    found; at 0.3 51 and 54, at 0.5 81 and 36.
    """

    min_confidence: float = Field(default=0.4, ge=0, le=1)
    precision: Precision = "bf16"


class Objects(Operator):
    """Fills `objects`: at most 100 boxes a picture (the graph's limit), the most confident first."""

    name = "objects"
    tables: ClassVar = {"objects": SCHEMA}
    Config = ObjectsConfig
    config: ObjectsConfig

    @classmethod
    def for_settings(cls, settings: Mapping[str, Any]) -> type[Operator]:
        if "model" not in settings and "vocabulary" not in settings:
            return cls
        from pinakes.operators.transformer_objects import DetectorObjects, ZeroShotObjects

        return ZeroShotObjects if "vocabulary" in settings else DetectorObjects

    def model_names(self) -> tuple[str, ...]:
        return (MODEL,)

    def load(self) -> None:
        """Raises ModelError when the model is not on this machine."""
        file = models.path(MODEL) / "model.pdmodel"
        self._graph = compile_graph(file, self.config.precision, "image", (1, SIDE, SIDE, 3))
        names = vocabulary("coco")["name"].to_pylist()
        columns = [names, [ancestors(name) for name in names]]
        self._classes = pa.table(columns, schema=CLASS_SCHEMA)

    def look(self, pictures: Sequence[Picture]) -> Results:
        rows = [self._detect(picture.pixels) for picture in pictures]
        return {"objects": object_rows(rows, self._classes, self.config.min_confidence)}

    def _detect(self, pixels: np.ndarray) -> np.ndarray:
        """(n, 6) float32: class, confidence, left, top, right, bottom; the last four as ratios."""
        height, width = pixels.shape[:2]
        inputs = {
            "image": resize(pixels, SIDE, SIDE, cv2.INTER_CUBIC)[None],
            "scale_factor": np.array([[SIDE / height, SIDE / width]], np.float32),
        }
        rows: np.ndarray = self._graph.infer(inputs, share_inputs=True)[
            0
        ]  # class, score, and corners in pixels of the picture
        rows = rows[rows[:, 0] >= 0]
        rows[:, 2:] /= np.array([width, height, width, height], np.float32)
        return rows
