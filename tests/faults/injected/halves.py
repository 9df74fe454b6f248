"""An operator as a user would bring one: cheap, as slow as one likes, and it cannot take a square picture."""

import time
from collections.abc import Sequence
from typing import ClassVar

import pyarrow as pa
from pydantic import Field

from pinakes.operators.operator import PICTURE, Operator, OperatorConfig, Picture, Results

SCHEMA = pa.schema([pa.field("side", pa.string()), pa.field("brightness", pa.float32())])


class HalvesConfig(OperatorConfig):
    """`seconds` that it takes over a picture."""

    seconds: float = Field(default=0, ge=0)


class Halves(Operator):
    """Fills `halves`: two rows a picture, with the mean brightness (0..255) of its left and of its right half."""

    name = "halves"
    tables: ClassVar = {"halves": SCHEMA}
    Config = HalvesConfig
    config: HalvesConfig

    def look(self, pictures: Sequence[Picture]) -> Results:
        rows = []
        for number, picture in enumerate(pictures):
            time.sleep(self.config.seconds)
            height, width = picture.pixels.shape[:2]
            if height == width:
                raise ValueError("a square has no longer side")
            rows += [
                {"picture": number, "side": "left", "brightness": picture.pixels[:, : width // 2].mean()},
                {"picture": number, "side": "right", "brightness": picture.pixels[:, width // 2 :].mean()},
            ]
        return {"halves": pa.Table.from_pylist(rows, schema=pa.schema([PICTURE, *SCHEMA]))}
