"""The table `spans`: from the labels of a video's sampled frames to runs, as Rekognition's SEGMENTS aggregate has them.

A run is of sampled frames one after the other. A label that is missing from BRIDGED of them in between, and then there
again, is taken to have been there all along: scores near an operator's `min_confidence` flicker.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pinakes.operators.operator import WholeVideo, described

#: So many sampled frames in a row without the label do not end a run.
BRIDGED = 1


SPANS = pa.schema(
    [
        described("kind", pa.string(), "the operator whose rows, in the table of its name: labels or moderation"),
        described("name", pa.string(), "the label"),
        described("start_ms", pa.int64(), "time of the first sampled frame that has it, in milliseconds"),
        described(
            "end_ms",
            pa.int64(),
            "time of the first sampled frame after those that have it, or of the video's end: until then it held, as "
            "far as is known",
        ),
        described(
            "frames", pa.int32(), f"sampled frames that have it; {BRIDGED} without it in between does not end the span"
        ),
        described("max_confidence", pa.float32(), "the highest of its frames, 0 to 1, as in the table it is from"),
        described("mean_confidence", pa.float32(), "mean over the frames that have it"),
    ],
    metadata={"description": "a run of frames of a video that show a label"},
)


def spans(kind: str, video: WholeVideo) -> pa.Table:
    """The runs of names in the rows of the table `kind`, by start and name.

    Of several rows of a name in one frame the most confident counts. The same however the video was cut into windows.
    """
    rows = video.rows.get(kind)
    if rows is None or not len(rows):
        return SPANS.empty_table()
    names = pc.unique(rows["name"]).sort()
    name, frame, confidence = _each_once(
        pc.index_in(rows["name"], names).to_numpy(),
        np.searchsorted(video.frame_ms, rows["frame_ms"].to_numpy()),
        rows["confidence"].to_numpy().astype(np.float64),
    )
    begins = (np.diff(name, prepend=-1) != 0) | (np.diff(frame, prepend=0) > BRIDGED + 1)
    first = np.flatnonzero(begins)
    count = np.diff(first, append=len(frame))
    last_frame = frame[first + count - 1]
    last_ms = int(video.frame_ms[-1])
    until = np.append(video.frame_ms[1:], max(last_ms, video.facts.duration_ms or 0))
    found = pa.table(
        {
            "kind": pa.array([kind] * len(first), pa.string()),
            "name": names.take(pa.array(name[first])),
            "start_ms": pa.array(video.frame_ms[frame[first]]),
            "end_ms": pa.array(until[last_frame]),
            "frames": pa.array(count.astype(np.int32)),
            "max_confidence": pa.array(np.maximum.reduceat(confidence, first).astype(np.float32)),
            "mean_confidence": pa.array((np.add.reduceat(confidence, first) / count).astype(np.float32)),
        },
        schema=SPANS,
    )
    return found.sort_by([("start_ms", "ascending"), ("name", "ascending")])


def _each_once(
    name: np.ndarray, frame: np.ndarray, confidence: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of every name and frame the highest confidence, ordered by name and frame."""
    order = np.lexsort((-confidence, frame, name))
    name, frame, confidence = name[order], frame[order], confidence[order]
    once = (np.diff(name, prepend=-1) != 0) | (np.diff(frame, prepend=-1) != 0)
    return name[once], frame[once], confidence[once]
