"""Who a face is: the table `people`, with the groups that were found in a collection, and the names that were given.

A person has an id, and a name once some faces, of the archive or of photos, were said to be theirs: the references. A
face of the collection that is near enough to one of these, and to none of another person's nearer, is `matched`. The
others are `grouped` by how near they are to each other. A face may have several rows: of which
`latest_people` has the one that counts (sql.py).

All rows of a collection are written anew at once, in one commit; what dies before it has changed nothing. Of what
stands in the table no more than the collection's name gets into the Delta log.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import uuid4

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from pinakes.catalog.erasing import sweep, trim_log
from pinakes.catalog.errors import CollectionError, UnknownError
from pinakes.catalog.face_tables import PEOPLE
from pinakes.catalog.grouping import group as grouped
from pinakes.catalog.live import alone
from pinakes.catalog.milvus import as_matrix
from pinakes.catalog.people_rows import (
    Faces,
    LookUp,
    Owners,
    References,
    append,
    made,
    one_row_a_face,
    read_rows,
    reference_rows,
    rewrite,
    rows_of,
    tables_of,
    with_names,
    without_doubles,
)
from pinakes.catalog.schema import TIMESTAMP

if TYPE_CHECKING:
    from pinakes.catalog.catalog import Catalog

_PERSON = pa.schema(
    [
        ("person_id", pa.string()),
        ("name", pa.string()),
        ("faces", pa.int64()),
        ("pictures", pa.int64()),
        ("first", TIMESTAMP),
        ("last", TIMESTAMP),
        ("face_id", pa.string()),
    ]
)


@dataclass(frozen=True)
class GroupingResult:
    """What grouping found."""

    faces: int  # that were grouped
    people: int  # with two faces or more, those with a name among them
    alone: int  # people with one face
    named: int  # faces that have a name now


@dataclass(frozen=True)
class Naming:
    """What naming found."""

    person_id: str
    references: int  # of that person, all that were ever given
    matched: int  # faces of the collection that are like one of them
    faces: int  # that have the name now, the grouped ones among them


@dataclass(frozen=True)
class Known:
    """Who a face is."""

    person_id: str
    name: str | None
    how: str


def group(catalog: "Catalog", collection: str, faces: pa.Table, threshold: float) -> GroupingResult:
    """Put the faces of a collection into groups, and write whose they are, in place of what was grouped before.

    `faces` has face_id, and vector (of length 1). Faces of one picture may come into one group: that they are other
    people's bettered the precision of 10,000 drawn faces by no more than .0001, and mirrors cost .01 to .12 of recall.

    A person that was grouped before keeps the id: it goes to the group with most of their faces. A group with a
    reference in it, or of which a quarter is matched, is that person; where there are several such persons, each face
    goes to the one with the face nearest to it. Raises StorageError, CorruptCatalogError.
    """
    vectors = as_matrix(faces["vector"])
    groups = grouped(vectors, threshold)
    ids = faces["face_id"].combine_chunks()
    counts = np.bincount(groups)
    similar = _similar_to_mean(vectors, groups, len(counts))
    result = GroupingResult(0, 0, 0, 0)

    def regroup(before: pa.Table) -> pa.Table:
        nonlocal result
        owners = Owners(before, ids, vectors, groups, counts)
        person_ids = pa.array(owners.person_ids, pa.string())
        names = pa.array(owners.names, pa.string())
        columns = {"person_id": person_ids, "name": names, "face_id": ids, "similarity": similar}
        rows = made(collection, "grouped", columns, len(ids)).filter(pa.array(~owners.has_name))
        sizes = pc.value_counts(person_ids).field("counts").to_numpy()
        result = GroupingResult(
            faces=len(ids),
            people=int((sizes > 1).sum()),
            alone=int((sizes == 1).sum()),
            named=len(names) - names.null_count,
        )
        return pa.concat_tables([before.filter(pc.not_equal(before["how"], "grouped")), rows])

    rewrite(catalog, collection, regroup)
    return result


def name(
    catalog: "Catalog",
    collection: str,
    person: str,
    faces: Faces,
    threshold: float,
    *,
    face_ids: Sequence[str] = (),
    photos: np.ndarray | None = None,
    look_up: LookUp | None = None,
) -> Naming:
    """Say that faces of the archive, and (n, d) vectors of faces in photos, are that person's; find more of theirs.

    `faces` are all those of the collection. Every match in it is found anew, with this threshold, for a face goes to
    the person with the nearest reference. A person whom grouping has found and who has one of those faces gets the
    name. Without `look_up` vectors are read from the catalogue. Raises UnknownError (no such face), CollectionError (a
    face that is somebody else's reference), StorageError, CorruptCatalogError.
    """
    look_up = look_up or (lambda ids: vectors_of(catalog, ids))
    lacking = set(face_ids) - set(look_up(face_ids)) if face_ids else set()
    if lacking:
        raise UnknownError(f"{catalog.url} has no vector of the face {min(lacking)}")
    result = Naming("", 0, 0, 0)

    def find(before: pa.Table) -> pa.Table:
        nonlocal result
        references = before.filter(pc.equal(before["how"], "reference"))
        person_id = _id_of(person, before, references, face_ids)
        added = reference_rows(collection, (person_id, person), face_ids, photos)
        references = without_doubles(pa.concat_tables([references, added]))
        matched = References(references, look_up).matches(collection, tables_of(faces), threshold)
        others = with_names(before.filter(pc.equal(before["how"], "grouped")), references)
        every = pa.concat_tables([references, matched, others])
        counts = [
            int(pc.sum(pc.equal(rows["person_id"], person_id)).as_py() or 0)
            for rows in (references, matched, one_row_a_face(every))
        ]
        result = Naming(person_id, *counts)
        return every

    rewrite(catalog, collection, find)
    return result


def match_new(
    catalog: "Catalog", collection: str, faces: Faces, threshold: float, *, look_up: LookUp | None = None
) -> int:
    """Name the faces that have come to a collection and are like a reference. Returns how many.

    Those that have a name already keep it, so it may be called again with the same faces. Raises StorageError,
    CorruptCatalogError.
    """
    if not read_rows(catalog, collection, pc.field("how") == "reference").num_rows:
        return 0
    vectors_by_id = look_up or (lambda ids: vectors_of(catalog, ids))
    known: References | None = None
    count = 0
    for batch in tables_of(faces):

        def new(table: DeltaTable, batch: pa.Table = batch) -> pa.Table:
            nonlocal known
            references = rows_of(table, collection, pc.field("how") == "reference")
            if known is None or not known.rows.equals(references):
                known = References(references, vectors_by_id)
            matched = pc.field("face_id").isin(pc.unique(batch["face_id"])) & (pc.field("how") == "matched")
            there = pc.unique(rows_of(table, collection, matched)["face_id"])
            fresh = batch.filter(pc.invert(pc.is_in(batch["face_id"], there)))
            return known.matches(collection, [fresh], threshold)

        count += append(catalog, new)
    return count


def names(catalog: "Catalog", collection: str, face_ids: Sequence[str]) -> dict[str, Known]:
    """Who those faces of a collection are, as far as that is known."""
    rows = read_rows(catalog, collection, pc.field("face_id").isin(pa.array(face_ids, pa.string())))
    return {
        row["face_id"]: Known(row["person_id"], row["name"], row["how"]) for row in one_row_a_face(rows).to_pylist()
    }


def people_of(catalog: "Catalog", collection: str) -> pa.Table:
    """Per person of a collection: person_id, name, faces, pictures, first, last (captured_at), and face_id, the face
    that stands for them: a reference, or the one nearest the mean of its group. Those with most faces come first.

    Faces that do not count any more in the catalogue are left out. Raises CorruptCatalogError.
    """
    tables = catalog.tables()
    if "people" not in tables or "faces" not in tables:
        return _PERSON.empty_table()
    media = "(SELECT uri, min(captured_at) AS captured_at FROM latest_media GROUP BY uri)"
    if "media" not in tables:
        media = "(SELECT NULL::VARCHAR AS uri, NULL::TIMESTAMPTZ AS captured_at)"
    return catalog.sql(f"""
        SELECT person_id, any_value(who.name) AS name, count(*) AS faces, count(DISTINCT who.uri) AS pictures,
               min(captured_at) AS first, max(captured_at) AS last,
               arg_max(who.face_id, (who.how = 'reference', similarity, who.face_id)) AS face_id
        FROM latest_people AS who LEFT JOIN {media} AS media ON media.uri = who.uri
        WHERE collection = '{collection.replace("'", "''")}'
        GROUP BY person_id ORDER BY faces DESC, person_id
    """).cast(_PERSON)


def forget_names(catalog: "Catalog", collection: str) -> int:
    """Forget who is who in a collection whose vectors are others now. Returns how many people had names.

    Of replaced files as `unname`.
    """
    rows = read_rows(catalog, collection)
    if rows.num_rows:
        rewrite(catalog, collection, lambda before: before.slice(0, 0))
        _remove_replaced(catalog)
    return len(set(rows["name"].to_pylist()) - {None})


def unname(catalog: "Catalog", collection: str, person: str) -> bool:
    """Take a name back, with its references and what was like them; a group stays one, without a name.

    Returns whether the replaced files, in which the name still stands, are gone too. While another process is at work
    in the catalogue they stay: it may be about to add files, and be reading these. The next forgetting removes them.
    """

    def without(before: pa.Table) -> pa.Table:
        is_that = pc.fill_null(pc.equal(before["name"], person), False)
        if not pc.any(is_that).as_py():
            raise UnknownError(f"nobody in {collection} is called {person}")
        column = pc.if_else(is_that, pa.scalar(None, pa.string()), before["name"])
        rows = before.set_column(before.column_names.index("name"), PEOPLE.field("name"), column)
        return rows.filter(pc.invert(pc.and_(is_that, pc.not_equal(rows["how"], "grouped"))))

    rewrite(catalog, collection, without)
    return _remove_replaced(catalog)


def _remove_replaced(catalog: "Catalog") -> bool:
    """Remove the files that the table does not name any more. False when another process is at work."""
    with alone(catalog.storage, f"name-{uuid4().hex}") as is_alone:
        if is_alone:
            sweep(catalog, "people")
            trim_log(catalog, "people")
    return is_alone


def vectors_of(catalog: "Catalog", face_ids: Sequence[str]) -> dict[str, np.ndarray]:
    """Vectors of faces, from the table embeddings: all of it is read."""
    if not face_ids or "embeddings" not in catalog.storage.entries():
        return {}
    wanted = pc.field("subject_id").isin(pa.array(face_ids, pa.string())) & (pc.field("subject") == "face")
    with catalog.storage.reporting("reading table embeddings"):
        rows = catalog.table("embeddings").to_pyarrow_dataset().to_table(["subject_id", "vector"], filter=wanted)
    return dict(zip(rows["subject_id"].to_pylist(), as_matrix(rows["vector"]), strict=True))


def _id_of(person: str, before: pa.Table, references: pa.Table, face_ids: Sequence[str]) -> str:
    """The person's id; of a new one that of the person without a name who has most of those faces, if there is one."""
    by_name = dict(zip(references["name"].to_pylist(), references["person_id"].to_pylist(), strict=True))
    whose = dict(zip(references["face_id"].to_pylist(), references["name"].to_pylist(), strict=True))
    for face_id in face_ids:
        if whose.get(face_id, person) != person:
            raise CollectionError(f"the face {face_id} is a reference of {whose[face_id]}: it cannot be {person}'s too")
    if person in by_name:
        return str(by_name[person])
    is_one = pc.and_(pc.is_in(before["face_id"], pa.array(face_ids, pa.string())), pc.equal(before["how"], "grouped"))
    unnamed = pc.invert(pc.is_in(before["person_id"], pa.array(list(by_name.values()), pa.string())))
    counts = pc.value_counts(before.filter(pc.and_(is_one, unnamed))["person_id"]).to_pylist()
    return str(max(counts, key=lambda one: (one["counts"], one["values"]))["values"]) if counts else uuid4().hex


def _similar_to_mean(vectors: np.ndarray, groups: np.ndarray, count: int) -> pa.Array:
    """Of each face the cosine with the mean of its group, 0 to 1."""
    if not count:
        return pa.array([], pa.float32())
    order = np.argsort(groups, kind="stable")
    starts = np.searchsorted(groups[order], np.arange(count))
    means = np.add.reduceat(vectors[order], starts)
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    return pa.array(np.einsum("ij,ij->i", vectors, means[groups]).clip(0, 1), pa.float32())
