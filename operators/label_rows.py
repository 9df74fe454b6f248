"""The table `labels`, and from scores to its rows."""

import numpy as np
import pyarrow as pa

from pinakes.operators.operator import PICTURE

SCHEMA = pa.schema(
    [
        pa.field(
            "name",
            pa.string(),
            metadata={
                "description": "label: of 1000 names, or as a model of one's own spells it, or a word of a vocabulary"
            },
        ),
        pa.field(
            "confidence",
            pa.float32(),
            metadata={
                "description": "probability by the model, 0 to 1; those of a picture add up to at most 1, but where "
                "the model judges each label by itself (SigLIP, several labels a picture)"
            },
        ),
        pa.field(
            "ancestors",
            pa.list_(pa.string()),
            metadata={"description": "broader names, the nearest first; none where they are not known"},
        ),
        pa.field("categories", pa.list_(pa.string()), metadata={"description": "categories of the label, may be none"}),
    ],
    metadata={"description": "a label of a picture or frame"},
)

CLASS_SCHEMA = pa.schema([SCHEMA.field(name) for name in ("name", "ancestors", "categories")])


def label_rows(scores: np.ndarray, classes: pa.Table, min_confidence: float, most: int) -> pa.Table:
    """Of every picture the best labels, the most confident first; of equals the one that comes first in `classes`.

    `scores` is (pictures, classes) float32, `classes` has CLASS_SCHEMA's columns, a row a class.
    """
    picture, label = np.nonzero(scores >= min_confidence)
    order = np.lexsort((label, -scores[picture, label], picture))
    picture, label = picture[order], label[order]
    rank = np.arange(len(picture)) - np.searchsorted(picture, picture)
    picture, label = picture[rank < most], label[rank < most]
    found = classes.take(pa.array(label))
    columns = {
        "picture": pa.array(picture.astype(np.int32)),
        "name": found["name"],
        "confidence": pa.array(scores[picture, label]),
        "ancestors": found["ancestors"],
        "categories": found["categories"],
    }
    return pa.table(columns, schema=pa.schema([PICTURE, *SCHEMA]))
