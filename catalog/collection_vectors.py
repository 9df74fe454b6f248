"""The vectors of a catalogue's faces, as batches of any size: those of a collection, or all that were ever made."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from pinakes.catalog.face_collections import Collection
from pinakes.catalog.milvus import as_matrix
from pinakes.catalog.sql import connect, reading

if TYPE_CHECKING:
    from pinakes.catalog.catalog import Catalog

#: Faces that are read at a time: 26 MB at 128 dimensions.
BATCH = 50_000


def in_collection(catalog: "Catalog", there: Collection) -> Iterator[pa.RecordBatch]:
    """The faces that a collection has: face_id, vector. Raises CorruptCatalogError."""
    if "collection_faces" not in catalog.tables():
        return
    yield from _read(
        catalog,
        "WITH held AS (SELECT face_id FROM latest_collection_faces WHERE collection = $collection AND milvus_name = "
        "$milvus_name AND action = 'indexed') "
        "SELECT subject_id AS face_id, any_value(vector) AS vector FROM embeddings "
        "SEMI JOIN held ON held.face_id = subject_id WHERE subject = 'face' GROUP BY subject_id",
        {"collection": there.collection, "milvus_name": there.milvus_name},
    )


def like(catalog: "Catalog", model: str, queries: np.ndarray, threshold: float) -> set[str]:
    """The ids of all faces, also of superseded looks, whose cosine with one of (n, d) vectors is the threshold or more.

    Exact: every vector of that model is compared. Raises CorruptCatalogError.
    """
    found: set[str] = set()
    if "embeddings" not in catalog.tables():
        return found
    query = "SELECT subject_id AS face_id, vector FROM embeddings WHERE subject = 'face' AND model = $model"
    for batch in _read(catalog, query, {"model": model}):
        rows = pa.Table.from_batches([batch])
        near = (as_matrix(rows["vector"]) @ queries.T).max(axis=1) >= threshold
        found.update(rows["face_id"].filter(pa.array(near)).to_pylist())
    return found


def _read(catalog: "Catalog", query: str, parameters: dict[str, str]) -> Iterator[pa.RecordBatch]:
    with connect(catalog) as connection, reading(catalog.url):
        yield from connection.sql(query, params=parameters).to_arrow_reader(BATCH)
