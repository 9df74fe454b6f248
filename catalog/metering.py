"""What was used: the table `usage`, in which every commit says what its looks took and how many units they were.

A row is one operator's share of one commit. It comes in the same commit as the results, so that a unit is counted once,
however often a run is killed and begun again.
"""

import pyarrow as pa

from pinakes.catalog.schema import N, RUN_ID, TIMESTAMP, column

#: Rows of `usage` beside those of operators: fetching and decoding, and what a run takes besides.
DECODE, RUN = "decode", "run"

#: The units that looks are counted in.
IMAGES, VIDEO_MINUTES = "images", "video_minutes"

USAGE = pa.schema(
    [
        N,
        RUN_ID,
        column("job", pa.string(), "the job's name", nullable=False),
        column("recorded_at", TIMESTAMP, "when it was committed", nullable=False),
        column(
            "operator",
            pa.string(),
            "name of the operator; decode: fetching and decoding; run: starting workers, opening models, transport, "
            "and work that was lost",
            nullable=False,
        ),
        column("unit", pa.string(), "images or video_minutes; null of run", nullable=True),
        column(
            "amount",
            pa.float64(),
            "units that were looked at and ended ok: pictures, or minutes of video, exactly; of decode what was decoded",
            nullable=False,
        ),
        column(
            "rounded_amount",
            pa.int64(),
            "the same with each item's rounded up to whole units, as some services charge",
            nullable=False,
        ),
        column("cpu_s", pa.float64(), "CPU seconds", nullable=False),
        column(
            "gpu_s", pa.float64(), "seconds that a GPU was held, times the share of it that was held", nullable=False
        ),
        column("device", pa.string(), "name of that GPU; null where none was used"),
        column("bytes", pa.int64(), "bytes read from the source", nullable=False),
        column("requests", pa.int64(), "requests to an object store or server for them", nullable=False),
    ]
)
