"""Searching a collection: who is nearest to a face; every search goes into the table `audit`."""

import platform
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from pinakes.catalog.errors import CollectionError
from pinakes.catalog.face_collections import Collection, Collections, append
from pinakes.catalog.face_tables import AUDIT
from pinakes.catalog.index_choice import choose
from pinakes.catalog.live import live, user_at_host
from pinakes.catalog.milvus import MOST_MATCHES, as_matrix, opened
from pinakes.catalog.people import Known, names
from pinakes.catalog.search_condition import milvus_filter

if TYPE_CHECKING:
    from pinakes.catalog.catalog import Catalog

#: Matches that are written to the audit for one search, the best.
AUDITED = 100


@dataclass(frozen=True)
class Query:
    """A face that is looked for: its id and vector, (d,) float32 of length 1."""

    face_id: str
    vector: np.ndarray


@dataclass(frozen=True)
class Match:
    """A face of the collection that is like the query. `similarity` is their cosine, 0 to 1; below 0 is said as 0."""

    rank: int
    similarity: float
    face_id: str
    uri: str
    frame_ms: int | None
    box: dict[str, float]
    person_id: str | None
    name: str | None
    captured_at: datetime | None
    source: str | None
    age: float | None
    gender: str | None


def face_query(catalog: "Catalog", collection: str, face_id: str) -> Query:
    """A face of the catalogue as a query: from Milvus, or from the tables if that does not have it.

    Raises CollectionError when neither has a vector of it.
    """
    _refuse_others(face_id)
    there = Collections(catalog).get(collection)
    if there.dimensions is not None:
        with opened(there.milvus_name, there.milvus) as vectors:
            found = vectors.get([face_id]) if vectors.exists else {}
        if face_id in found:
            return Query(face_id, found[face_id])
    return Query(face_id, _vector(catalog, there, face_id))


def _vector(catalog: "Catalog", there: Collection, face_id: str) -> np.ndarray:
    """From the table embeddings, all of which is looked through."""
    model = there.model.replace("'", "''")
    rows = catalog.sql(
        f"SELECT any_value(vector) AS vector FROM embeddings WHERE subject_id = '{face_id}' "
        f"AND subject = 'face' AND model = '{model}' HAVING count(*) > 0"
    )
    if not rows.num_rows:
        raise CollectionError(f"{catalog.url} has no vector by {there.model} of a face {face_id}")
    vector: np.ndarray = as_matrix(rows["vector"])[0]
    return vector


def search(
    catalog: "Catalog",
    collection: str,
    queries: Sequence[Query],
    *,
    asked: str,
    threshold: float,
    limit: int = 10,
    condition: str | None = None,
    report: Callable[[str], None] = lambda line: None,
) -> list[list[Match]]:
    """For each query the faces that are at least as like it as `threshold`, at most `limit`, the best first.

    `asked` is what the user asked with: a photo, or the id of a face. `condition` is SQL over the columns of
    search_condition.KINDS; Milvus sees to it while it searches. A face of the collection does not find itself. The
    search stands in `audit` before its answer is given.

    Raises CollectionError (no such collection, or Milvus does not have it), QueryError (the condition).
    """
    there = Collections(catalog).get(collection)
    if not 1 <= limit < MOST_MATCHES:
        raise CollectionError(f"--limit is from 1 to {MOST_MATCHES - 1:,}, not {limit}")
    # Until it is written down whom it has found nobody is forgotten.
    with live(catalog.storage, f"search-{uuid.uuid4().hex}"):
        found = _found(catalog, there, queries, asked, limit, condition, report)
        answers = [
            [hit for hit in hits if hit["similarity"] >= threshold and hit["face_id"] != query.face_id][:limit]
            for query, hits in zip(queries, found, strict=True)
        ]
        named = names(catalog, collection, sorted({hit["face_id"] for hits in answers for hit in hits}))
        matches = [[_match(rank, hit, named) for rank, hit in enumerate(hits, 1)] for hits in answers]
        _audit(catalog, collection, asked, queries, matches, threshold, condition)
    return matches


def _found(
    catalog: "Catalog",
    there: Collection,
    queries: Sequence[Query],
    asked: str,
    limit: int,
    condition: str | None,
    report: Callable[[str], None],
) -> list[list[dict[str, Any]]]:
    """What Milvus finds for each query."""
    if not queries or there.dimensions is None:
        if condition is not None:
            milvus_filter(condition)  # what is wrong with it is wrong where nothing is searched too
        return [[] for _ in queries]
    _refuse_dimensions(there, queries, asked)
    name = there.collection
    with opened(there.milvus_name, there.milvus, report) as vectors:
        if not vectors.exists:
            raise CollectionError(
                f"{there.milvus or f'Milvus Lite on {platform.node()}'} does not have the collection {name}"
                f"{f' (it was loaded on {there.host})' if there.is_lite else ''}: `pinakes faces index "
                f"{name}` loads it from the catalogue"
            )
        for query in queries:
            # It may have been forgotten since its vector was read.
            if query.face_id == asked and not vectors.get([asked]):
                _vector(catalog, there, asked)
        return vectors.search(
            np.stack([query.vector for query in queries]),
            limit + 1,
            parameters=_parameters(there),
            condition="" if condition is None else milvus_filter(condition, anywhere=vectors.finds_anywhere),
        )


def _parameters(there: Collection) -> Mapping[str, Any]:
    """How a search goes through the index: by the size that the collection has now, if its index is the usual one."""
    made = there.index_chosen
    usual = choose(there.faces, there.dimensions or 0, there.is_lite, there.index_asked or None)
    return {} if made is None else (usual if usual.type == made.type else made).search


def _refuse_dimensions(there: Collection, queries: Sequence[Query], asked: str) -> None:
    for query in queries:
        if query.vector.shape != (there.dimensions,):
            raise CollectionError(
                f"the vectors of {there.collection} have {there.dimensions} numbers, that of {asked} has "
                f"{query.vector.size}: they are of different models"
            )


def _match(rank: int, hit: Mapping[str, Any], named: Mapping[str, Known]) -> Match:
    who = named.get(hit["face_id"])
    taken = hit["captured_at"]
    return Match(
        rank=rank,
        similarity=hit["similarity"],
        face_id=hit["face_id"],
        uri=hit["uri"],
        frame_ms=hit["frame_ms"],
        box={side: hit[side] for side in ("left", "top", "width", "height")},
        person_id=who.person_id if who else None,
        name=who.name if who else None,
        captured_at=None if taken is None else datetime.fromtimestamp(taken / 1000, UTC),
        source=hit["source"],
        age=hit["age"],
        gender=hit["gender"],
    )


def _audit(
    catalog: "Catalog",
    collection: str,
    asked: str,
    queries: Sequence[Query],
    matches: Sequence[Sequence[Match]],
    threshold: float,
    condition: str | None,
) -> None:
    search = {
        "searched_at": datetime.now(UTC),
        "searched_by": user_at_host(),
        "collection": collection,
        "query": asked,
        "threshold": threshold,
        "condition": condition,
    }
    # A photo without a face was asked with as well.
    rows: list[dict[str, Any]] = [] if queries else [{"search_id": uuid.uuid4().hex, **search}]
    for query, found in zip(queries, matches, strict=True):
        about = {"search_id": uuid.uuid4().hex, **search, "query_face_id": query.face_id}
        best = [
            {"rank": one.rank, "face_id": one.face_id, "similarity": one.similarity} for one in found[:AUDITED]
        ] or [{}]
        rows += [{**about, **one} for one in best]
    append(catalog, "audit", pa.Table.from_pylist(rows, schema=AUDIT))


def _refuse_others(face_id: str) -> None:
    if not is_face_id(face_id):
        raise CollectionError(f"{face_id!r} is not the id of a face: that has 32 hex digits")


def is_face_id(text: str) -> bool:
    """Whether that is spelled like the id of a face: 32 hex digits."""
    return len(text) == 32 and set(text) <= set("0123456789abcdef")
