"""The table `objects`, and from boxes to its rows."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from pinakes.operators.operator import BOX, PICTURE

SCHEMA = pa.schema(
    [
        pa.field(
            "name",
            pa.string(),
            metadata={
                "description": "kind of thing: of 80 names, or as a model of one's own spells it, or a word of a "
                "vocabulary"
            },
        ),
        pa.field("confidence", pa.float32(), metadata={"description": "score by the model, 0 to 1; not a probability"}),
        pa.field("box", BOX, metadata={"description": "ratios of the upright picture, 0 to 1, origin at the top left"}),
        pa.field(
            "ancestors",
            pa.list_(pa.string()),
            metadata={"description": "broader names, the nearest first; none where they are not known"},
        ),
    ],
    metadata={"description": "a boxed thing"},
)

CLASS_SCHEMA = pa.schema([SCHEMA.field(name) for name in ("name", "ancestors")])


def object_rows(found: Sequence[np.ndarray], classes: pa.Table, min_confidence: float, most: int = 100) -> pa.Table:
    """Of every picture the best boxes, the most confident first.

    `found` is, for each picture, (n, 6) float32: class, confidence, left, top, right, bottom, the last four as ratios,
    which are cut to 0..1; a box of no size is left out. `classes` has CLASS_SCHEMA's columns, a row a class.
    """
    best = [_best(rows, min_confidence, most) for rows in found]
    every = np.concatenate([np.zeros((0, 6), np.float32), *best])
    known = classes.take(pa.array(every[:, 0].astype(np.int32)))
    left, top, right, bottom = every[:, 2:].T
    sides = [pa.array(side) for side in (left, top, right - left, bottom - top)]
    columns = {
        "picture": pa.array(np.repeat(np.arange(len(best), dtype=np.int32), [len(rows) for rows in best])),
        "name": known["name"],
        "confidence": pa.array(every[:, 1]),
        "box": pa.StructArray.from_arrays(sides, fields=list(BOX)),
        "ancestors": known["ancestors"],
    }
    return pa.table(columns, schema=pa.schema([PICTURE, *SCHEMA]))


def _best(rows: np.ndarray, min_confidence: float, most: int) -> np.ndarray:
    rows = rows[rows[:, 1] >= min_confidence]
    rows[:, 2:] = np.clip(rows[:, 2:], 0, 1)
    rows = rows[(rows[:, 4] > rows[:, 2]) & (rows[:, 5] > rows[:, 3])]
    best: np.ndarray = rows[np.argsort(-rows[:, 1], kind="stable")][:most]
    return best
