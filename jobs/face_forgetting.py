"""`pinakes faces forget`: who is to be forgotten, and what is said of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from pinakes.catalog import Catalog
from pinakes.catalog.chosen_faces import choose
from pinakes.catalog.collection_erasing import erase_vectors
from pinakes.catalog.collection_vectors import like
from pinakes.catalog.errors import UnknownError
from pinakes.catalog.forgetting import NOT_DONE, RECEIPTS, Receipt, forget, is_unfinished
from pinakes.catalog.person_templates import Likeness
from pinakes.catalog.thresholds import thresholds
from pinakes.jobs.errors import SpecError
from pinakes.jobs.face_query import faces_in, makers
from pinakes.jobs.printing import err, grid, out

Report = Callable[[str], None]


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


def _likenesses(photo: str, threshold: float | None, report: Report) -> list[Likeness]:
    """The faces of a photo by every model here, and how like them a face is to be."""
    found = []
    for model in makers():
        faces = faces_in(photo, model, report)
        if faces:
            at_least = thresholds(model).search if threshold is None else threshold
            found.append(Likeness(model, np.stack([face.vector for face in faces]), at_least))
    return found
