"""The operator `frames`: which frames of a video were looked at. It has no model and is always part of a job."""

from collections.abc import Sequence
from typing import ClassVar

import pyarrow as pa

from pinakes.operators.operator import PICTURE, Operator, Picture, Results

SCHEMA = pa.schema(
    [
        pa.field("sampling", pa.string(), metadata={"description": "what it was chosen by: 1fps, keyframes, ..."}),
        pa.field("keyframe", pa.bool_(), metadata={"description": "whether it can be decoded without any other frame"}),
    ],
    metadata={"description": "a sampled frame of a video"},
)


class Frames(Operator):
    """Fills `frames`, a row a sampled frame: what is not in another table was not seen in it."""

    name = "frames"
    tables: ClassVar = {"frames": SCHEMA}
    media_types = ("video",)

    def look(self, pictures: Sequence[Picture]) -> Results:
        columns = {
            "picture": range(len(pictures)),
            "sampling": [picture.sampling for picture in pictures],
            "keyframe": [picture.keyframe for picture in pictures],
        }
        return {"frames": pa.table(columns, schema=pa.schema([PICTURE, *SCHEMA]))}
