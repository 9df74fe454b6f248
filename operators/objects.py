"""The operator `objects`: things in a picture with their boxes, of the 80 kinds of COCO, by PicoDet.

Preprocessing is the authors' own (416 x 416 whatever the shape, bicubic), behind the averaging of `graph.resize`; their
suppression of overlapping boxes (0.5) is part of the graph.
"""

from collections.abc import Sequence
from typing import ClassVar

import cv2
import numpy as np
import pyarrow as pa
from pydantic import Field

from pinakes.operators import models
from pinakes.operators.graph import Precision, compile_graph, resize
from pinakes.operators.operator import BOX, PICTURE, Operator, OperatorConfig, Picture, Results
from pinakes.operators.wordnet import ancestors, vocabulary

MODEL = "picodet-416"
SIDE = 416

SCHEMA = pa.schema(
    [
        pa.field("name", pa.string(), metadata={"description": "kind of thing, one of 80 names"}),
        pa.field("confidence", pa.float32(), metadata={"description": "score by the model, 0 to 1; not a probability"}),
        pa.field("box", BOX, metadata={"description": "ratios of the upright picture, 0 to 1, origin at the top left"}),
        pa.field("ancestors", pa.list_(pa.string()), metadata={"description": "broader names, the nearest first"}),
    ]
)


CLASS_COLUMNS = ("name", "ancestors")


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

    def model_names(self) -> tuple[str, ...]:
        return (MODEL,)

    def load(self) -> None:
        """Raises ModelError when the model is not on this machine."""
        file = models.path(MODEL) / "model.pdmodel"
        self._graph = compile_graph(file, self.config.precision, "image", (1, SIDE, SIDE, 3))
        names = vocabulary("coco")["name"].to_pylist()
        columns = [names, [ancestors(name) for name in names]]
        self._classes = pa.table(columns, schema=pa.schema([SCHEMA.field(name) for name in CLASS_COLUMNS]))

    def look(self, pictures: Sequence[Picture]) -> Results:
        rows = [self._detect(picture.pixels) for picture in pictures]
        found = np.concatenate([np.zeros((0, 6), np.float32), *rows])
        classes = self._classes.take(pa.array(found[:, 0].astype(np.int32)))
        left, top, right, bottom = found[:, 2:].T
        sides = [pa.array(side) for side in (left, top, right - left, bottom - top)]
        columns = {
            "picture": pa.array(np.repeat(np.arange(len(rows), dtype=np.int32), [len(row) for row in rows])),
            "name": classes["name"],
            "confidence": pa.array(found[:, 1]),
            "box": pa.StructArray.from_arrays(sides, fields=list(BOX)),
            "ancestors": classes["ancestors"],
        }
        return {"objects": pa.table(columns, schema=pa.schema([PICTURE, *SCHEMA]))}

    def _detect(self, pixels: np.ndarray) -> np.ndarray:
        """(n, 6) float32: class, confidence, left, top, right, bottom; the last four as ratios within 0..1."""
        height, width = pixels.shape[:2]
        inputs = {
            "image": resize(pixels, SIDE, SIDE, cv2.INTER_CUBIC)[None],
            "scale_factor": np.array([[SIDE / height, SIDE / width]], np.float32),
        }
        rows: np.ndarray = self._graph.infer(inputs, share_inputs=True)[
            0
        ]  # class, score, and corners in pixels of the picture
        rows = rows[(rows[:, 0] >= 0) & (rows[:, 1] >= self.config.min_confidence)]
        rows[:, 2:] = np.clip(rows[:, 2:] / np.array([width, height, width, height], np.float32), 0, 1)
        rows = rows[(rows[:, 4] > rows[:, 2]) & (rows[:, 5] > rows[:, 3])]
        order = np.argsort(-rows[:, 1], kind="stable")
        return rows[order]
