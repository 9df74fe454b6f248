"""Who is known by a face that is to be forgotten: references from photos, which are templates of it, and names.

A reference from a photo is a vector in `people` without a face of the archive. It is a template of a chosen face, and
goes with it, when it is of a person whose the face is (by a reference, a match or a group, in any collection) and their
cosine is that from which a name is given unseen; all of that person's where no such threshold was measured for the
model. Asked with a photo, what is as like it as the faces that go is a template as well, whoever's it is said to be.

Who has a name and no reference left loses the name, also on what was matched with it or grouped: nothing says any more
whose it is.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pinakes.catalog.erasing import erase, erase_rows, read
from pinakes.catalog.face_collections import Collections
from pinakes.catalog.thresholds import BY_MODEL

if TYPE_CHECKING:
    from pinakes.catalog.catalog import Catalog

PEOPLE = "people"
#: Below every cosine.
_ANY = -2.0


@dataclass(frozen=True)
class Likeness:
    """(n, d) float32 vectors of length 1 by a model; like one of them is what has that cosine with it, or more."""

    model: str
    vectors: np.ndarray
    threshold: float


@dataclass(frozen=True)
class Names:
    """What becomes of the names."""

    lost: list[str]  # by somebody
    gone: list[str]  # of these, those that nobody has any more
    person_ids: pa.Array  # of those who are left without a reference, and lose the name


def templates(catalog: "Catalog", face_ids: pa.Array, likenesses: Sequence[Likeness] = ()) -> set[str]:
    """The digests of the references from photos that are templates of those faces, or like those. Reads only."""
    photos = pc.field("face_id").is_null() & pc.field("vector").is_valid()
    rows = read(catalog, PEOPLE, ["collection", "person_id", "vector"], photos)
    if not rows.num_rows:
        return set()
    whose = read(catalog, PEOPLE, ["person_id"], pc.field("face_id").isin(face_ids))["person_id"]
    whose = set(whose.to_pylist()).intersection(rows["person_id"].to_pylist())
    chosen = _vectors(catalog, face_ids) if whose else []
    models = _models(catalog, set(rows["collection"].to_pylist()))
    found = set()
    for row in rows.to_pylist():
        vector = np.asarray(row["vector"], np.float32)
        model = models.get(row["collection"])
        for one in (*likenesses, *(chosen if row["person_id"] in whose else [])):
            fits = model in (None, one.model) and one.vectors.shape[1] == len(vector)
            if fits and (one.vectors @ vector).max(initial=_ANY) >= one.threshold:
                found.add(digest(vector))
    return found


def digest(vector: Sequence[float] | np.ndarray) -> str:
    """32 hex digits by which a vector is known again, and from which it cannot be made."""
    return blake2b(np.asarray(vector, np.float32).tobytes(), digest_size=16).hexdigest()


def names_without(catalog: "Catalog", ids: pa.Array, person_ids: pa.Array, templates: set[str]) -> Names:
    """Who loses the name when those faces, persons and references from photos go. Reads only."""
    named = read(catalog, PEOPLE, ["person_id", "name"], pc.field("name").is_valid())
    named = named.group_by(["person_id", "name"]).aggregate([])
    columns = ["person_id", "face_id", "vector"]
    references = read(catalog, PEOPLE, columns, pc.field("how") == "reference") if named.num_rows else named
    if references.num_rows:
        references = references.filter(pc.invert(_hit(references, ids, person_ids, templates)))
    stay = pc.is_in(named["person_id"], pc.unique(references["person_id"]))
    left = named.filter(pc.invert(stay))
    held = set(named["name"].filter(stay).to_pylist())
    lost = sorted(set(left["name"].to_pylist()))
    return Names(lost, [one for one in lost if one not in held], pc.unique(left["person_id"]))


def erase_people(catalog: "Catalog", ids: pa.Array, person_ids: pa.Array, templates: set[str], names: Names) -> int:
    """Delete from `people` those faces, persons and references from photos, and take names away as `names` says.

    Returns how many rows were deleted. Raises StorageError.
    """

    def hit(rows: pa.RecordBatch) -> pa.Array:
        nameless = pc.and_(pc.is_in(rows["person_id"], names.person_ids), pc.not_equal(rows["how"], "grouped"))
        return pc.or_(_hit(rows, ids, person_ids, templates), nameless)

    deleted = erase_rows(catalog, PEOPLE, ["face_id", "person_id", "how", "vector"], hit)
    erase(catalog, PEOPLE, "person_id", names.person_ids, ["name"])
    return deleted


def _hit(rows: pa.Table | pa.RecordBatch, ids: pa.Array, person_ids: pa.Array, templates: set[str]) -> pa.Array:
    hit = pc.or_(pc.is_in(rows["face_id"], ids), pc.is_in(rows["person_id"], person_ids))
    photo = np.zeros(rows.num_rows, bool)
    if templates:
        there = np.flatnonzero(pc.is_valid(rows["vector"]).to_numpy(zero_copy_only=False))
        vectors = rows["vector"].take(pa.array(there)).to_pylist()
        photo[there] = [digest(vector) in templates for vector in vectors]
    return pc.or_(hit, pa.array(photo))


def _models(catalog: "Catalog", names: Iterable[str]) -> dict[str, str]:
    """By collection the model of its vectors, also of those that were dropped."""
    there = Collections(catalog)
    return {name: one.model for name in names for one in there.rows(name) if one.action not in ("begun", "removed")}


def _vectors(catalog: "Catalog", face_ids: pa.Array) -> list[Likeness]:
    """Those of the faces, by model and length."""
    wanted = pc.field("subject_id").isin(face_ids) & (pc.field("subject") == "face")
    rows = read(catalog, "embeddings", ["model", "vector"], wanted)
    found: dict[tuple[str, int], list[list[float]]] = {}
    for row in rows.to_pylist():
        found.setdefault((row["model"], len(row["vector"])), []).append(row["vector"])
    return [
        Likeness(model, np.asarray(vectors, np.float32), BY_MODEL[model].naming if model in BY_MODEL else _ANY)
        for (model, _), vectors in found.items()
    ]
