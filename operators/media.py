"""The operator `media`: what the container says of an item. It has no model and always runs."""

from collections.abc import Sequence
from typing import ClassVar

import pyarrow as pa

from pinakes.operators.operator import PICTURE, Operator, Picture, Results

SCHEMA = pa.schema(
    [
        pa.field("media_type", pa.string(), metadata={"description": "image or video"}),
        pa.field(
            "format", pa.string(), metadata={"description": "format by content, not by name: jpeg, png, webp, ..."}
        ),
        pa.field("width", pa.int32(), metadata={"description": "pixels, of the original turned upright"}),
        pa.field("height", pa.int32(), metadata={"description": "pixels, of the original turned upright"}),
        pa.field("orientation", pa.int8(), metadata={"description": "EXIF orientation, 1 to 8; 1 is upright"}),
        pa.field("size", pa.int64(), metadata={"description": "bytes of the stored item"}),
        pa.field(
            "etag", pa.string(), metadata={"description": "the store's tag of this version; null where it has none"}
        ),
        pa.field("mtime", pa.timestamp("us", "UTC"), metadata={"description": "last modification by the store, UTC"}),
        pa.field("duration_ms", pa.int64(), metadata={"description": "milliseconds; null for an image"}),
        pa.field("fps", pa.float64(), metadata={"description": "mean frames per second; null for an image"}),
        pa.field("codec", pa.string(), metadata={"description": "video codec; null for an image"}),
        pa.field(
            "captured_at",
            # With a zone: one without would be a feature of Delta that not every engine reads.
            pa.timestamp("us", "UTC"),
            metadata={
                "description": "when it was taken, by the camera's clock, which is taken for UTC unless the file says "
                "its offset; null where not said"
            },
        ),
    ],
    metadata={"description": "an item as read"},
)


class Media(Operator):
    """Fills `media` from the facts that decoding found."""

    name = "media"
    tables: ClassVar = {"media": SCHEMA}
    sees = "container"

    def look(self, pictures: Sequence[Picture]) -> Results:
        facts = [picture.facts for picture in pictures]
        columns = {
            "picture": range(len(pictures)),
            "media_type": [fact.media_type for fact in facts],
            "format": [fact.format for fact in facts],
            "width": [fact.width for fact in facts],
            "height": [fact.height for fact in facts],
            "orientation": [fact.orientation for fact in facts],
            "size": [fact.size for fact in facts],
            "etag": [picture.etag for picture in pictures],
            "mtime": [picture.mtime for picture in pictures],
            "duration_ms": [fact.duration_ms for fact in facts],
            "fps": [fact.fps for fact in facts],
            "codec": [fact.codec for fact in facts],
            "captured_at": [fact.captured_at for fact in facts],
        }
        return {"media": pa.table(columns, schema=pa.schema([PICTURE, *SCHEMA]))}
