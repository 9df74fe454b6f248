"""The operator `text`: lines and words with their polygons, by PP-OCRv6.

Text is searched twice at most. The first look is at 640 pixels, by the tiny detector: where it finds nothing, there is
no second. Otherwise a larger picture is searched again, at up to `side` pixels. Each line is read once.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from pinakes.operators import models, onnx
from pinakes.operators.graph import Each, Opener, Precision, compile_graph
from pinakes.operators.operator import BOX, PICTURE, POINT, Operator, OperatorConfig, Picture, Results
from pinakes.operators.reading import Finder, Line, Reader, Word

FINDERS = {"tiny": "ppocrv6-tiny-det", "small": "ppocrv6-small-det"}
READER = "ppocrv6-small-rec"
TURNER = "ppocr-mobile-cls"

#: The long side of the first look, in pixels.
FIRST_SIDE = 640

SCHEMA = pa.schema(
    [
        pa.field("text_id", pa.int32(), metadata={"description": "number within the picture, in reading order"}),
        pa.field("parent_id", pa.int32(), metadata={"description": "text_id of the line of a word; null for a line"}),
        pa.field("kind", pa.string(), metadata={"description": "line or word"}),
        pa.field("text", pa.string(), metadata={"description": "what it says; a word of Chinese is one sign"}),
        pa.field("confidence", pa.float32(), metadata={"description": "mean over its characters, 0 to 1"}),
        pa.field("box", BOX, metadata={"description": "ratios of the upright picture, 0 to 1, origin at the top left"}),
        pa.field(
            "polygon",
            pa.list_(POINT),
            metadata={"description": "four corners as ratios, clockwise from where the text begins"},
        ),
    ],
    metadata={"description": "a line or a word that can be read"},
)


class TextConfig(OperatorConfig):
    """Settings of `text`.

    The measurements are in the model registry, under ppocrv6-tiny-det. Of lines with a confidence under 0.7 most were
    wrong; of those over 0.9 few.
    """

    min_confidence: float = Field(default=0.7, ge=0, le=1)
    detector: Literal["tiny", "small"] = "tiny"
    side: int = Field(default=1280, ge=FIRST_SIDE, le=1920)
    words: bool = True
    precision: Precision = "bf16"


class Text(Operator):
    """Fills `texts`: the lines of a picture in reading order, each before its words."""

    name = "text"
    tables: ClassVar = {"texts": SCHEMA}
    Config = TextConfig
    config: TextConfig

    @classmethod
    def for_settings(cls, settings: Mapping[str, Any]) -> type[Operator]:
        if not onnx.is_installed():
            return cls
        from pinakes.operators.pictures_on_cuda import CudaText

        return CudaText

    def model_names(self) -> tuple[str, ...]:
        finders = dict.fromkeys([FINDERS["tiny"], FINDERS[self.config.detector]])
        return (*finders, READER, TURNER)

    def load(self) -> None:
        """Raises ModelError when a model is not on this machine."""
        self.open_models(partial(compile_graph, precision=self.config.precision))

    def open_models(self, open_graph: Opener) -> None:
        """`load` on a runtime."""
        finders = {
            name: Finder(next(models.path(model).glob("*.onnx")), open_graph)
            for name, model in FINDERS.items()
            if model in self.model_names()
        }
        self._first, self._second = finders["tiny"], finders[self.config.detector]
        self._reader = Reader(READER, TURNER, open_graph)

    def look(self, pictures: Sequence[Picture]) -> Results:
        return self.results([picture.pixels for picture in pictures])

    def results(self, pictures: Sequence[np.ndarray], each: Each = map) -> Results:
        """What `look` gives, of the pixels of pictures."""
        rows: list[dict[str, Any]] = []
        for index, (pixels, lines) in enumerate(zip(pictures, each(self.read, pictures), strict=True)):
            rows += self._rows(index, pixels, lines)
        return {"texts": pa.Table.from_pylist(rows, schema=pa.schema([PICTURE, *SCHEMA]))}

    def read(self, pixels: np.ndarray) -> list[Line]:
        """The lines of a picture, (height, width, 3) uint8 RGB, in reading order."""
        boxes = self._first.find(pixels, FIRST_SIDE)
        enough = max(pixels.shape[:2]) <= FIRST_SIDE and self._second is self._first
        if len(boxes) and not enough:
            boxes = self._second.find(pixels, self.config.side)
        return self._reader.read(pixels, boxes, self.config.min_confidence)

    def _rows(self, index: int, pixels: np.ndarray, lines: list[Line]) -> list[dict[str, Any]]:
        size = np.array([pixels.shape[1], pixels.shape[0]], np.float32)
        rows: list[dict[str, Any]] = []
        for line in lines:
            parent = len(rows)
            parts: list[tuple[str, Line | Word]] = [("line", line)]
            if self.config.words:
                parts += [("word", word) for word in line.words]
            for kind, one in parts:
                corners = (one.corners / size).clip(0, 1)
                left, top = corners.min(axis=0)
                right, bottom = corners.max(axis=0)
                rows.append(
                    {
                        "picture": index,
                        "text_id": len(rows),
                        "parent_id": None if kind == "line" else parent,
                        "kind": kind,
                        "text": one.text,
                        "confidence": one.confidence,
                        "box": {"left": left, "top": top, "width": right - left, "height": bottom - top},
                        "polygon": [{"x": x, "y": y} for x, y in corners],
                    }
                )
        return rows
