"""Which rows of which tables are of a face, and in which order they go."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pinakes.catalog.erasing import erase, read
from pinakes.catalog.person_templates import PEOPLE, Names, erase_people
from pinakes.catalog.schema import OWN_TABLES

if TYPE_CHECKING:
    from pinakes.catalog.catalog import Catalog

#: By the column with which they name a face. `faces` is the last but one: see forgetting.py.
FACES = "faces"
_NAMED_OTHERWISE = ("embeddings", "tracks", "audit")


def touched(catalog: "Catalog") -> list[str]:
    """The tables in which faces are named; also those of other people's operators that have a column face_id."""
    there = [name for name in catalog.tables() if name not in OWN_TABLES]
    return [
        name
        for name in there
        if name in _NAMED_OTHERWISE or any(field.name == "face_id" for field in catalog.table(name).schema().fields)
    ]


def erase_faces(
    catalog: "Catalog", ids: pa.Array, person_ids: pa.Array, templates: set[str], names: Names
) -> dict[str, int]:
    """Delete the rows of those faces, and in `people` what person_templates.py says. Returns how many, by table.

    Killed and called again with what `suppressed` says then, it does the rest. Raises StorageError.
    """
    deleted = {
        "tracks": erase(catalog, "tracks", "track_id", _tracks(catalog, ids)),
        "embeddings": erase(catalog, "embeddings", "subject_id", ids),
    }
    others = [name for name in touched(catalog) if name not in (*_NAMED_OTHERWISE, FACES, PEOPLE)]
    for name in (*others, FACES):
        deleted[name] = erase(catalog, name, "face_id", ids)
    deleted[PEOPLE] = erase_people(catalog, ids, person_ids, templates, names)
    return {name: count for name, count in sorted(deleted.items()) if count}


def blank_searches(catalog: "Catalog", ids: pa.Array, names: Sequence[str]) -> int:
    """In `audit` make null what is about those faces; that there was a search stays. Returns how many rows changed.

    Of a search for one of them, or whose best match was one, that is also what was asked for: a photo whose best match
    is somebody is a photo of theirs. Of a filter by one of `names` it is the filter.
    """
    rows = read(catalog, "audit", ["search_id", "query", "query_face_id", "condition", "rank", "face_id"])
    if not rows.num_rows:
        return 0
    matched = pc.is_in(rows["face_id"], ids)
    best = pc.and_(matched, pc.fill_null(pc.equal(rows["rank"], 1), False))
    asked = pc.or_(pc.is_in(rows["query_face_id"], ids), pc.is_in(rows["query"], ids))
    searches = pc.unique(rows["search_id"].filter(pc.or_(asked, best)))
    filtered = pc.unique(rows["search_id"].filter(_naming(rows["condition"], names)))
    erase(catalog, "audit", "search_id", searches, ["query", "query_face_id"])
    erase(catalog, "audit", "search_id", filtered, ["condition"])
    erase(catalog, "audit", "face_id", ids, ["face_id", "similarity"])
    changed = pc.or_(matched, pc.is_in(rows["search_id"], pa.concat_arrays([searches, filtered])))
    return int(pc.sum(changed).as_py() or 0)


def names_in_conditions(catalog: "Catalog", names: Sequence[str]) -> bool:
    """Whether the condition of a collection names somebody of them: it says what the collection is, and stays."""
    conditions = read(catalog, "collections", ["condition"])["condition"]
    return bool(pc.any(_naming(conditions, names)).as_py())


def _naming(conditions: pa.ChunkedArray, names: Sequence[str]) -> pa.ChunkedArray:
    """Which pieces of SQL have one of these names in them."""
    found = pa.chunked_array([np.zeros(len(conditions), bool)])
    for name in names:
        spelled = name.replace("'", "''")
        found = pc.or_(found, pc.fill_null(pc.match_substring(conditions, spelled, ignore_case=True), False))
    return found


def _tracks(catalog: "Catalog", ids: pa.Array) -> pa.Array:
    """Ids of the tracks that hold one of those faces."""
    rows = read(catalog, "tracks", ["track_id", "face_ids"])
    if not rows.num_rows:
        return pa.array([], pa.string())
    lists = rows["face_ids"].combine_chunks()
    held = pc.list_parent_indices(lists).filter(pc.is_in(lists.flatten(), ids))
    return pc.unique(rows["track_id"].take(held))
