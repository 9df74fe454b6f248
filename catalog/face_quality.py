"""Which faces are too poor to be compared, and why: small, blurred, dark, bright, extreme_pose, low_confidence.

A poor face is not only missed: poor faces look like one another. Of 1,514 pairs of strangers whose faces were under 20
pixels in photos of COCO 9 % were above OpenCV's .363, one at .67; of 11,000 pairs within these limits .1 %, one at .49.

Measured with tests/benchmarks/face_accuracy.py --quality on 35 faces of 25 people, each made poorer step by step and
compared with the same person's other photos (42 pairs): the share of those below .5, none at the start (median .72).

    pixels      40: 0     32: .02   28: .05   24: .12   20: .57   16: .90
    sharpness   .19, .12, .08, .05: 0         .04: .26  .03: .52  .02: .86
    brightness  .15, .10: 0         .08: .12  .05: .36  .03: .80
                .68: .02  .78: .17  .85: .36
    tilted by   15: 0     30: .11   45: .55   60 to 90 degrees: .97

Where they fail, two strangers made poorer in the same way come near each other: .50 at 12 pixels, .52 at sharpness .02,
.48 at brightness .05, .44 at .85, .68 when turned by 90 degrees.

What these limits do not see: a hand or a mask before the face (a hand in a film: down to .30), heavy JPEG (quality 10:
.10 below .5; 5: .57), and many heads that lie on their side. The detector draws their landmarks towards the upright, so
that roll reads 23 for heads tilted by 45 and 8 for 90. It is the confidence that shows them: the limits leave out half
of those tilted by 45, two of three by 60, nine of ten by 75 and all but one of 39 by 90; and 3 % of upright faces of
28 pixels and more have less confidence than that.
"""

from collections.abc import Mapping
from typing import Any

import duckdb
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

#: The looks are at pictures that were made 2, 4, 8, ... times smaller while their long side is at least twice this
#: (operators/decode.py): a face is as small as it was there, whatever the camera's pixels.
LONG_SIDE = 960

#: What pitch reads, in degrees, for a face that looks straight ahead: the median of 91 faces in photos.
LEVEL_PITCH = -10


class QualityLimits(BaseModel):
    """What a face must be to be indexed. None or 0 switches a limit off, and what is not known of a face passes."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    min_pixels: int | None = Field(
        default=28, ge=0, le=1920, description="short side of the face's box, in the picture as it was looked at"
    )
    min_sharpness: float | None = Field(default=0.05, ge=0, le=1, description="as in faces.quality")
    min_brightness: float | None = Field(default=0.08, ge=0, le=1, description="as in faces.quality")
    max_brightness: float | None = Field(default=0.8, ge=0, le=1, description="as in faces.quality")
    #: Of strangers in profile (yaw over 60) 2.6 % of 153 pairs were above .363, of others .1 %; the faces of a film of
    #: people walking by, yaw 50 to 80, came as near as .50 to strangers, and one person's fell to .2.
    max_yaw: float | None = Field(default=50, ge=0, le=180, description="degrees to either side, as in faces.pose")
    #: No face that was fit for comparison lay outside -26 to 6.
    max_pitch: float | None = Field(
        default=35, ge=0, le=180, description=f"degrees up or down from {LEVEL_PITCH}, which reads for level"
    )
    #: Of 186 faces in photos 1 % read more than 20.
    max_roll: float | None = Field(default=25, ge=0, le=180, description="degrees to either side, as in faces.pose")
    min_confidence: float | None = Field(default=0.85, ge=0, le=1, description="as in faces.confidence")


def reasons(limits: QualityLimits) -> str:
    """A DuckDB expression of a list of strings: why a face is left out, in the order above; empty for a good one.

    It asks of a row for `box` (left, top, width, height as ratios), `media_width` and `media_height` (of the original,
    in pixels), `quality` (brightness, sharpness), `pose` (roll, yaw, pitch) and `confidence`; each may be null. Only
    numbers that pydantic has checked are put into it.
    """
    smaller = f"pow(2, floor(log2(greatest(media_width, media_height, {LONG_SIDE}) / {LONG_SIDE}.0)))"
    pixels = f"least(box.width * media_width, box.height * media_height) / {smaller}"
    tests = [
        ("small", f"{pixels} <", limits.min_pixels),
        ("blurred", "quality.sharpness <", limits.min_sharpness),
        ("dark", "quality.brightness <", limits.min_brightness),
        ("bright", "quality.brightness >", limits.max_brightness),
        ("extreme_pose", "abs(pose.yaw) >", limits.max_yaw),
        ("extreme_pose", f"abs(pose.pitch - ({LEVEL_PITCH})) >", limits.max_pitch),
        ("extreme_pose", "abs(pose.roll) >", limits.max_roll),
        ("low_confidence", "confidence <", limits.min_confidence),
    ]
    by_reason: dict[str, list[str]] = {}
    for reason, comparison, limit in tests:
        if limit:
            by_reason.setdefault(reason, []).append(f"{comparison} {limit}")
    cases = [f"CASE WHEN {' OR '.join(found)} THEN '{reason}' END" for reason, found in by_reason.items()]
    return f"list_filter([{', '.join(cases)}]::VARCHAR[], lambda reason: reason IS NOT NULL)"


def reasons_of(limits: QualityLimits, face: Mapping[str, Any]) -> list[str]:
    """Why a face, a mapping with what `reasons` asks for, would be left out."""
    with duckdb.connect() as connection:
        connection.register("face", pa.Table.from_pylist([dict(face)]))
        found: list[str] = connection.execute(f"SELECT {reasons(limits)} FROM face").fetchall()[0][0]
    return found
