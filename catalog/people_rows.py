"""Rows of the table `people`: read and written anew, what is like a reference, and whose a group is."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeAlias
from uuid import uuid4

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from deltalake import CommitProperties, DeltaTable, Transaction, WriterProperties, write_deltalake

from pinakes.catalog.commits import as_in, retry_conflicts
from pinakes.catalog.face_tables import PEOPLE
from pinakes.catalog.milvus import as_matrix

if TYPE_CHECKING:
    from pinakes.catalog.catalog import Catalog

#: A group with no reference in it is a named person's if that share of its faces is like one.
SHARE = 0.25
_HOW = ("reference", "matched", "grouped")
#: Faces that are compared with references at a time.
_BLOCK = 20_000
#: Every change of the table has the next number of it, so that of two at once one is refused, and decides anew.
_APPLICATION = "pinakes people"
_ROW_GROUP = 20_000

#: All faces of a collection, or what gives them; columns face_id and vector.
Faces: TypeAlias = "pa.Table | Callable[[], Iterable[pa.RecordBatch]]"
#: Gives vectors by face id: of those faces that are there.
LookUp: TypeAlias = Callable[[Sequence[str]], Mapping[str, np.ndarray]]


# --- the table


def rows_of(table: DeltaTable, collection: str, condition: ds.Expression | None = None) -> pa.Table:
    """The rows of a collection."""
    wanted = pc.field("collection") == collection
    rows: pa.Table = table.to_pyarrow_dataset().to_table(
        PEOPLE.names, filter=wanted if condition is None else wanted & condition
    )
    return rows.cast(PEOPLE)


def read_rows(catalog: "Catalog", collection: str, condition: ds.Expression | None = None) -> pa.Table:
    """The same; none when there is no such table yet. Raises CorruptCatalogError."""
    if "people" not in catalog.storage.entries():
        return PEOPLE.empty_table()
    with catalog.storage.reporting("reading table people"):
        return rows_of(catalog.table("people"), collection, condition)


@retry_conflicts
def rewrite(catalog: "Catalog", collection: str, change: Callable[[pa.Table], pa.Table]) -> None:
    """Put what `change` makes of a collection's rows in their place, in one commit.

    It is called again when another process was first. Raises StorageError, CorruptCatalogError.
    """
    table = catalog.table("people", PEOPLE)
    with catalog.storage.reporting("reading table people"):
        before = rows_of(table, collection)
    after = change(before)
    # The predicate stands in the Delta log: so it names the collection, and nobody in it.
    spelled = collection.replace("'", "''")
    with catalog.storage.reporting("writing to people"):
        write_deltalake(
            table,
            # In order of faces and in small row groups, so that who asks for a few faces reads little.
            as_in(table, after.sort_by("face_id")),
            mode="overwrite",
            predicate=f"collection = '{spelled}'",
            writer_properties=WriterProperties(max_row_group_size=_ROW_GROUP),
            commit_properties=_next(table),
        )


@retry_conflicts
def append(catalog: "Catalog", rows: Callable[[DeltaTable], pa.Table]) -> int:
    """Add the rows that are made of the table as it is. Returns how many. Raises StorageError, CorruptCatalogError."""
    table = catalog.table("people", PEOPLE)
    with catalog.storage.reporting("writing to people"):
        more = rows(table)
        if more.num_rows:
            write_deltalake(table, as_in(table, more), mode="append", commit_properties=_next(table))
    return int(more.num_rows)


def _next(table: DeltaTable) -> CommitProperties:
    number = (table.transaction_version(_APPLICATION) or 0) + 1
    return CommitProperties(app_transactions=[Transaction(_APPLICATION, number)], max_commit_retries=5)


def made(collection: str, how: str, columns: Mapping[str, Any], count: int) -> pa.Table:
    """Rows of which some columns are given; the others are null."""
    given = {"collection": pa.repeat(collection, count), "how": pa.repeat(how, count)} | dict(columns)
    given["recorded_at"] = pa.repeat(pa.scalar(datetime.now(UTC), PEOPLE.field("recorded_at").type), count)
    arrays = [given[field.name] if field.name in given else pa.nulls(count, field.type) for field in PEOPLE]
    return pa.table([pa.array(array) if isinstance(array, list) else array for array in arrays], PEOPLE.names).cast(
        PEOPLE
    )


def one_row_a_face(rows: pa.Table) -> pa.Table:
    """Of the rows of a collection, for each face the one that counts: as `latest_people` does."""
    rows = rows.filter(pc.is_valid(rows["face_id"]))
    if not rows.num_rows:
        return rows
    # Sorted so that it comes first; a similarity that is not there comes last.
    keys = pa.table(
        {
            "face_id": rows["face_id"],
            "how": pc.index_in(rows["how"], pa.array(_HOW)),
            "at": rows["recorded_at"],
            "similarity": pc.fill_null(rows["similarity"], -1),
            "person_id": rows["person_id"],
        }
    )
    order = pc.sort_indices(
        keys,
        [
            ("face_id", "ascending"),
            ("how", "ascending"),
            ("at", "descending"),
            ("similarity", "descending"),
            ("person_id", "ascending"),
        ],
    )
    rows = rows.take(order)
    ids = rows["face_id"].combine_chunks()
    first = np.append(True, pc.not_equal(ids[1:], ids[:-1]).to_numpy(zero_copy_only=False))
    return rows.filter(pa.array(first))


# --- references


class References:
    """The vectors of the references of a collection, by person."""

    def __init__(self, rows: pa.Table, look_up: LookUp) -> None:
        """`rows` are references. Those whose vectors are gone find nothing any more."""
        self.rows = rows
        wanted = rows["face_id"].drop_null().to_pylist()
        there = look_up(wanted) if wanted else {}
        found = []
        for row in rows.select(["person_id", "name", "face_id", "vector"]).to_pylist():
            vector = there.get(row["face_id"]) if row["vector"] is None else row["vector"]
            if vector is not None:
                found.append((row["person_id"], row["name"], np.asarray(vector, np.float32)))
        self._found = sorted(found, key=lambda one: one[0])

    def matches(self, collection: str, faces: Iterable[pa.Table], threshold: float) -> pa.Table:
        """Rows for the faces that are like a reference: of the person with the one that is nearest."""
        own = pc.unique(self.rows["face_id"])
        found = [PEOPLE.empty_table()]
        for batch in faces:
            for start in range(0, batch.num_rows, _BLOCK):
                block = batch.slice(start, _BLOCK)
                vectors = as_matrix(block["vector"])
                # A photo may have been looked at with the model that the collection was of before.
                fitting = [one for one in self._found if len(one[2]) == vectors.shape[1]]
                if not fitting:
                    continue
                first = np.flatnonzero([at == 0 or fitting[at - 1][0] != one[0] for at, one in enumerate(fitting)])
                similar = vectors @ np.stack([vector for _, _, vector in fitting]).T
                nearest = np.maximum.reduceat(similar, first, axis=1)
                who, best = first[nearest.argmax(axis=1)], nearest.max(axis=1)
                like = (best >= threshold) & ~pc.is_in(block["face_id"], own).to_numpy()
                people = [fitting[at] for at in who[like].tolist()]
                columns = {
                    "face_id": block["face_id"].filter(pa.array(like)),
                    "person_id": pa.array([person_id for person_id, _, _ in people], pa.string()),
                    "name": pa.array([name for _, name, _ in people], pa.string()),
                    "similarity": pa.array(best[like].clip(0, 1), pa.float32()),
                }
                found.append(made(collection, "matched", columns, len(people)))
        return pa.concat_tables(found)


def tables_of(faces: Faces) -> Iterator[pa.Table]:
    """Tables of face_id and vector."""
    if isinstance(faces, pa.Table):
        yield faces.select(["face_id", "vector"])
    else:
        for batch in faces():
            yield pa.Table.from_batches([batch]).select(["face_id", "vector"])


def reference_rows(
    collection: str, person: tuple[str, str], face_ids: Sequence[str], photos: np.ndarray | None
) -> pa.Table:
    """A row for each face of the archive and for each of (n, d) vectors from photos. `person`: id and name."""
    vectors = [] if photos is None else [vector.astype(np.float32).tolist() for vector in photos]
    columns = {
        "person_id": pa.repeat(person[0], len(face_ids) + len(vectors)),
        "name": pa.repeat(person[1], len(face_ids) + len(vectors)),
        "face_id": pa.array([*face_ids, *(None for _ in vectors)], pa.string()),
        "vector": pa.array([*(None for _ in face_ids), *vectors], PEOPLE.field("vector").type),
        "similarity": pa.array(np.ones(len(face_ids) + len(vectors)), pa.float32()),
    }
    return made(collection, "reference", columns, len(face_ids) + len(vectors))


def without_doubles(references: pa.Table) -> pa.Table:
    """Each face, and each vector, of a person once."""
    seen: dict[tuple[Any, ...], int] = {}
    for at, row in enumerate(references.select(["person_id", "face_id", "vector"]).to_pylist()):
        seen.setdefault((row["person_id"], row["face_id"], tuple(row["vector"] or ())), at)
    return references.take(list(seen.values()))


def with_names(rows: pa.Table, references: pa.Table) -> pa.Table:
    """The rows with the names that their persons have by the references; null for those that have none."""
    people = dict(zip(references["person_id"].to_pylist(), references["name"].to_pylist(), strict=True))
    place = pc.index_in(rows["person_id"], pa.array(list(people), pa.string()))
    column = pa.array(list(people.values()), pa.string()).take(place.combine_chunks())
    return rows.set_column(rows.column_names.index("name"), PEOPLE.field("name"), column)


# --- groups


class Owners:
    """Whose each face is, by its group and by the rows that were there before."""

    def __init__(
        self, before: pa.Table, ids: pa.Array, vectors: np.ndarray, groups: np.ndarray, counts: np.ndarray
    ) -> None:
        """`ids`, `vectors` and `groups` are of the faces; `counts` of the groups: how many faces."""
        references = before.filter(pc.equal(before["how"], "reference"))
        self._names = dict(zip(references["person_id"].to_pylist(), references["name"].to_pylist(), strict=True))
        counting = one_row_a_face(before)
        counting = counting.append_column("face", pc.index_in(counting["face_id"], ids))
        counting = counting.filter(pc.is_valid(counting["face"]))
        by_group = pc.equal(counting["how"], "grouped")
        named = counting.filter(pc.invert(by_group))
        #: Whether a face has a row by its name, which stays.
        self.has_name = np.zeros(len(ids), bool)
        self.has_name[named["face"].to_numpy()] = True
        owner = np.full(len(counts), None, object)
        disputed = self._claim(named, groups, counts, owner)
        self._keep(counting.filter(by_group), groups, owner)
        for at, person_id in enumerate(owner):
            owner[at] = person_id or uuid4().hex
        person_ids = owner[groups]
        if named.num_rows:
            self._share_out(named, disputed, vectors, groups, person_ids)
            person_ids[named["face"].to_numpy()] = named["person_id"].to_numpy(zero_copy_only=False)
        self.person_ids: list[str] = person_ids.tolist()
        self.names: list[str | None] = [self._names.get(person_id) for person_id in self.person_ids]

    def _claim(
        self, named: pa.Table, groups: np.ndarray, counts: np.ndarray, owner: np.ndarray
    ) -> dict[int, list[str]]:
        """Give groups to named persons; those to which several have a claim, with these persons, are returned."""
        claims: dict[int, list[str]] = {}
        at = pa.array(groups[named["face"].to_numpy()])
        held = pa.table({"group": at, "person_id": named["person_id"], "how": named["how"]})
        said = pc.cast(pc.equal(held["how"], "reference"), pa.int64())
        held = held.append_column("said", said).group_by(["group", "person_id"])
        for row in held.aggregate([("said", "sum"), ("said", "count")]).sort_by("person_id").to_pylist():
            if row["said_sum"] or row["said_count"] >= SHARE * counts[row["group"]]:
                claims.setdefault(row["group"], []).append(row["person_id"])
        for group, people in claims.items():
            owner[group] = people[0]
        return {group: people for group, people in claims.items() if len(people) > 1}

    def _keep(self, before: pa.Table, groups: np.ndarray, owner: np.ndarray) -> None:
        """Let persons without a name go on as the groups in which most of their faces are, each as one group."""
        held = pa.table(
            {"group": pa.array(groups[before["face"].to_numpy()]), "person_id": before["person_id"]}
        ).group_by(["group", "person_id"])
        order = [("count_all", "descending"), ("person_id", "ascending"), ("group", "ascending")]
        gone: set[str] = set(self._names)
        for row in held.aggregate([([], "count_all")]).sort_by(order).to_pylist():
            if owner[row["group"]] is None and row["person_id"] not in gone:
                owner[row["group"]] = row["person_id"]
                gone.add(row["person_id"])

    def _share_out(
        self,
        named: pa.Table,
        disputed: Mapping[int, list[str]],
        vectors: np.ndarray,
        groups: np.ndarray,
        person_ids: np.ndarray,
    ) -> None:
        """In a group of several named persons, give each face to the one with the face that is nearest to it."""
        faces, people = named["face"].to_numpy(), named["person_id"].to_numpy(zero_copy_only=False)
        for group, claiming in disputed.items():
            known = (groups[faces] == group) & np.isin(people.astype(str), claiming)
            members = np.flatnonzero(groups == group)
            nearest = (vectors[members] @ vectors[faces[known]].T).argmax(axis=1)
            person_ids[members] = people[known][nearest]
