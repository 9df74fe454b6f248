"""`pinakes faces people`, `name` and `forget`: who is who, and who is to be forgotten."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pinakes.catalog import Catalog, people
from pinakes.catalog.chosen_faces import choose
from pinakes.catalog.collection_erasing import erase_vectors
from pinakes.catalog.collection_vectors import in_collection, like
from pinakes.catalog.errors import UnknownError
from pinakes.catalog.face_collections import Collection, Collections
from pinakes.catalog.forgetting import NOT_DONE, RECEIPTS, Receipt, forget, is_unfinished
from pinakes.catalog.live import live
from pinakes.catalog.people import GroupingResult, Naming
from pinakes.catalog.person_templates import Likeness
from pinakes.catalog.searching import is_face_id
from pinakes.catalog.thresholds import thresholds
from pinakes.jobs.errors import SpecError
from pinakes.jobs.face_query import QueryFace, faces_in, makers
from pinakes.jobs.face_search import faces_at
from pinakes.jobs.face_sheet import MOST_OF_ONE, MOST_PEOPLE, PersonRow, people_sheet
from pinakes.jobs.printing import err, grid, out
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


@dataclass(frozen=True)
class Wanted:
    """Who is to be forgotten: one of a person, faces, an item, and what is like a photo."""

    person: str | None = None
    collection: str | None = None  # in which the person is called so
    face_ids: Sequence[str] = ()
    uri: str | None = None
    photo: str | None = None
    likenesses: Sequence[Likeness] = ()  # the faces of the photo, by which `face_ids` were found

    @property
    def words(self) -> dict[str, Any]:
        """For choose and forget."""
        names = ("person", "collection", "face_ids", "uri", "likenesses")
        return {name: getattr(self, name) for name in names}


def wanted(
    catalog: Catalog,
    *,
    person: str | None = None,
    collection: str | None = None,
    face_ids: Sequence[str] = (),
    uri: str | None = None,
    photo: str | None = None,
    threshold: float | None = None,
    report: Report = lambda line: None,
) -> Wanted:
    """A person by name or id, faces by id, all faces of an item, or all that are like those of a photo.

    Raises SpecError unless it is exactly one of these; for a photo MediaError, ModelError.
    """
    if sum(bool(one) for one in (person, face_ids, uri, photo)) != 1:
        raise SpecError("say one of --person, --face, --uri and --like")
    if collection is not None and person is None:
        raise SpecError("--collection says in which collection --person is called so")
    if photo is None:
        return Wanted(person, collection, face_ids, uri)
    likenesses = _likenesses(photo, threshold, report)
    if not likenesses:
        raise SpecError(f"no face in {photo}. Nothing was touched")
    catalog.finish()
    found = {one for face in likenesses for one in like(catalog, face.model, face.vectors, face.threshold)}
    return Wanted(face_ids=sorted(found), photo=photo, likenesses=likenesses)


def described(catalog: Catalog, asked: Wanted) -> str:
    """What would be forgotten, for who is to say yes. Raises UnknownError when that is nothing, CatalogError."""
    catalog.finish()
    try:
        chosen = choose(catalog, **asked.words)
    except UnknownError as error:
        if not is_unfinished(catalog):
            raise
        return f"{error}. What an earlier forgetting has left would be done"
    if chosen.is_empty and not is_unfinished(catalog):
        raise _nothing(catalog, asked)
    words = f"{len(chosen.face_ids):,} faces in {chosen.items:,} pictures and videos of {catalog.url}"
    if chosen.templates:
        words += f", {len(chosen.templates):,} faces of photos by which people were named"
    if len(chosen.whole):
        words += ", and every face that would be found there later"
    rest = ", and what an earlier forgetting has left" if is_unfinished(catalog) else ""
    return f"forgets {words}{rest}"


def forget_faces(catalog: Catalog, asked: Wanted, report: Report = lambda line: None) -> Receipt:
    """Forget them for good. Raises what forgetting.py raises."""
    if asked.photo and choose(catalog, **asked.words).is_empty and not is_unfinished(catalog):
        raise _nothing(catalog, asked)
    return forget(catalog, **asked.words, remove_vectors=partial(erase_vectors, catalog), report=report)


def _nothing(catalog: Catalog, asked: Wanted) -> UnknownError:
    what = "there is no such face, or it has been forgotten"
    if asked.photo:
        what = f"no face is like one in {asked.photo}"
    return UnknownError(f"{catalog.url}: {what}. Nothing was touched")


def draw_people(catalog: Catalog, collection: str, rows: Sequence[dict[str, Any]], path: Path) -> Path | None:
    """Draw some faces of the people with most of them; nothing when there are none."""
    if not rows:
        return None
    path = output_path(path, "people.png")
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
    for face in there.values():
        refuse_to_overwrite(path, face.uri)
    save(people_sheet(people_there, f"people of {collection}"), path)
    return path


def print_receipt(receipt: Receipt, url: str) -> None:
    """What was forgotten, what was not, and where the receipt is."""
    said = {
        "faces": receipt.faces,
        "pictures and videos": receipt.items,
        "photos by which people were named": receipt.references,
        "names that nobody has any more": receipt.names,
        "rows deleted": receipt.rows,
        "searches blanked": receipt.searches,
        "files removed": receipt.files_removed,
        "Milvus": "\n".join(receipt.milvus),
        "receipts of killed ones, done with it": "\n".join(receipt.completed),
        "checked": receipt.checked,
        "not covered": "\n".join(receipt.not_covered),
        "receipt": f"{url}/{RECEIPTS}/{receipt.receipt_id}.json",
    }
    rows = [{"": name, "forgotten": value} for name, value in said.items() if value not in ("", {})]
    out.print(grid(None, rows))
    for line in receipt.milvus:
        if line.startswith(NOT_DONE):
            err.print(line, style="bold", highlight=False, markup=False)


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


def _likenesses(photo: str, threshold: float | None, report: Report) -> list[Likeness]:
    """The faces of a photo by every model here, and how like them a face is to be."""
    found = []
    for model in makers():
        faces = faces_in(photo, model, report)
        if faces:
            at_least = thresholds(model).search if threshold is None else threshold
            found.append(Likeness(model, np.stack([face.vector for face in faces]), at_least))
    return found
