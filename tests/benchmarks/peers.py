"""What the peers' pipelines have in common: one of our operators over decoded images, its rows as one nested column."""

from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import Any

import numpy as np
import pyarrow as pa

from pinakes.operators.decode import single_thread
from pinakes.operators.operator import MediaFacts, Picture, create


class Look:
    """An operator with its models open, as a class that both Ray Data and Daft keep alive in a process."""

    def __init__(self, name: str, settings: Mapping[str, Any]) -> None:
        single_thread()
        self.operator = create(name, settings)
        self.operator.load()

    def rows(self, images: Iterable[np.ndarray], paths: Iterable[str]) -> pa.StructArray:
        """For each image (height, width, 3) uint8 RGB, per table of the operator, the list of its rows."""
        pictures = [
            Picture(
                pixels,
                MediaFacts("image", "jpeg", pixels.shape[1], pixels.shape[0], 1, 0),
                item_key=blake2b(path.encode(), digest_size=16).hexdigest(),
            )
            for pixels, path in zip(images, paths, strict=True)
        ]
        found = self.operator.look(pictures)
        kind = row_type(self.operator.tables)
        lists = []
        for field in kind:
            rows = found[field.name]
            of = rows["picture"].to_numpy()
            rows = rows.drop("picture").cast(pa.schema(list(field.type.value_type))).take(np.argsort(of, kind="stable"))
            values = pa.StructArray.from_arrays(
                [column.combine_chunks() for column in rows.columns], fields=list(field.type.value_type)
            )
            ends = np.cumsum(np.bincount(of, minlength=len(pictures)))
            lists.append(pa.ListArray.from_arrays(np.concatenate([[0], ends]).astype(np.int32), values, field.type))
        return pa.StructArray.from_arrays(lists, fields=list(kind))


def row_type(tables: Mapping[str, pa.Schema]) -> pa.StructType:
    """The type of that column."""
    return pa.struct([pa.field(name, pa.list_(pa.struct(list(columns)))) for name, columns in tables.items()])
