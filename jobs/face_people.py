"""`pinakes faces people`, `name` and `unname`: who is who."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from pinakes.catalog import Catalog, people
from pinakes.catalog.collection_vectors import in_collection
from pinakes.catalog.face_collections import Collection, Collections
from pinakes.catalog.live import live
from pinakes.catalog.people import GroupingResult, Naming
from pinakes.catalog.searching import is_face_id
from pinakes.catalog.thresholds import thresholds
from pinakes.jobs.errors import SpecError
from pinakes.jobs.face_query import QueryFace, faces_in
from pinakes.jobs.face_search import faces_at
from pinakes.jobs.face_sheet import MOST_OF_ONE, MOST_PEOPLE, PersonRow, people_sheet
from pinakes.jobs.show import output_path, refuse_to_overwrite, save

Report = Callable[[str], None]


def group(
    catalog: Catalog, collection: str, threshold: float | None = None, report: Report = lambda line: None
) -> tuple[GroupingResult, list[dict[str, Any]]]:
    """Group the faces of a collection into people. Returns what was found, and a row for each person, the one with
    most faces first. Raises CollectionError, BusyCatalogError, StorageError."""
    there = Collections(catalog).get(collection)
    at_least = thresholds(there.model).grouping if threshold is None else threshold
    with live(catalog.storage, f"people-{collection}"):
        batches = list(in_collection(catalog, there))
        report(f"grouping {sum(batch.num_rows for batch in batches):,} faces")
        if batches:
            result = people.group(catalog, collection, pa.Table.from_batches(batches), at_least)
        else:
            result = GroupingResult(0, 0, 0, 0)
    return result, people.people_of(catalog, collection).to_pylist()


def name(
    catalog: Catalog,
    person: str,
    faces: Sequence[str],
    collection: str | None = None,
    threshold: float | None = None,
    report: Report = lambda line: None,
) -> tuple[str, Naming]:
    """Say that the faces of those ids, and the only or largest face of each photo, are that person's.

    Returns the collection's name too: that of the catalogue's only one when not given. Raises SpecError,
    CollectionError, UnknownError, MediaError, ModelError, BusyCatalogError, StorageError.
    """
    there = _collection(catalog, collection)
    at_least = thresholds(there.model).naming if threshold is None else threshold
    face_ids = [one for one in faces if is_face_id(one) and not Path(one).exists()]
    photos = [_only_face(photo, there.model, report).vector for photo in faces if photo not in face_ids]
    with live(catalog.storage, f"name-{there.collection}"):
        found = people.name(
            catalog,
            there.collection,
            person,
            partial(in_collection, catalog, there),
            at_least,
            face_ids=face_ids,
            photos=np.stack(photos) if photos else None,
        )
    return there.collection, found


def unname(catalog: Catalog, person: str, collection: str | None = None, report: Report = lambda line: None) -> str:
    """Take a name back. Returns the collection's name. Raises SpecError, UnknownError, CollectionError."""
    there = _collection(catalog, collection)
    with live(catalog.storage, f"name-{there.collection}"):
        is_gone = people.unname(catalog, there.collection, person)
    if not is_gone:
        report("the name is in old files of the table people until somebody is forgotten: others are at work here")
    return there.collection


def draw_people(catalog: Catalog, collection: str, rows: Sequence[dict[str, Any]], path: Path) -> Path | None:
    """Draw some faces of the people with most of them; nothing when there are none."""
    if not rows:
        return None
    path = output_path(path, "people.png")
    sheet, uris = _drawn(catalog, collection, rows)
    for uri in uris:
        refuse_to_overwrite(path, uri)
    save(sheet, path)
    return path


def drawn_people(catalog: Catalog, collection: str, rows: Sequence[dict[str, Any]]) -> Image.Image:
    """Some faces of the people with most of them."""
    return _drawn(catalog, collection, rows)[0]


def _drawn(catalog: Catalog, collection: str, rows: Sequence[dict[str, Any]]) -> tuple[Image.Image, set[str]]:
    """The sheet, and where the faces on it are."""
    shown = rows[:MOST_PEOPLE]
    listed = ", ".join(f"'{row['person_id']}'" for row in shown)
    ids: dict[str, list[str]] = {}
    for row in catalog.sql(
        "SELECT person_id, face_id FROM latest_people "
        f"WHERE collection = '{collection}' AND person_id IN ({listed}) QUALIFY row_number() OVER "
        f"(PARTITION BY person_id ORDER BY similarity DESC NULLS FIRST, face_id) <= {MOST_OF_ONE}"
    ).to_pylist():
        ids.setdefault(row["person_id"], []).append(row["face_id"])
    there = faces_at(catalog, (one for each in ids.values() for one in each))
    people_there = [
        PersonRow(
            row["person_id"],
            row["name"],
            row["faces"],
            [there[one] for one in ids.get(row["person_id"], []) if one in there],
        )
        for row in shown
    ]
    return people_sheet(people_there, f"people of {collection}"), {face.uri for face in there.values()}


def _collection(catalog: Catalog, name: str | None) -> Collection:
    collections = Collections(catalog)
    if name is not None:
        return collections.get(name)
    there = collections.all()
    if len(there) != 1:
        names = ", ".join(one.collection for one in there)
        raise SpecError(f"say --collection: the catalogue has {names or 'none: `pinakes faces index NAME` makes one'}")
    return there[0]


def _only_face(photo: str, model: str, report: Report) -> QueryFace:
    found = faces_in(photo, model, report)
    if not found:
        raise SpecError(f"no face in {photo}: nobody was named")
    if len(found) > 1:
        report(f"{photo} has {len(found):,} faces: the largest is meant")
    return found[0]
