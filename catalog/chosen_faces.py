"""Which faces a request to forget is about: those that were named, and the same faces wherever they were seen.

That is in other looks at the same content, by other models, versions, runs, under other uris; and of a film in all the
frames through which the face was followed.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from pinakes.catalog.erasing import read
from pinakes.catalog.errors import AmbiguousError, UnknownError
from pinakes.catalog.person_templates import Likeness, templates
from pinakes.catalog.suppressions import NEAR_MS, PLACES, Suppressions, keyed, overlapping

if TYPE_CHECKING:
    from pinakes.catalog.catalog import Catalog

#: Where a face is, and what tells looks apart.
_COLUMNS = ["face_id", "uri", "content_id", "item_key", "frame_ms", "box", "fingerprint"]


@dataclass(frozen=True)
class Chosen:
    """What a request is about."""

    face_ids: pa.Array  # each once
    places: pa.Table  # as PLACES: where these faces are
    whole: pa.Array  # contents of which every face is to be forgotten
    person_ids: pa.Array = field(default_factory=lambda: pa.array([], pa.string()))
    names: list[str] = field(default_factory=list)
    #: Items in which the faces are.
    items: int = 0
    #: Rows of `people` with these persons, references that are not in the archive among them.
    people: int = 0
    #: Digests of the references from photos that are templates of these faces; see person_templates.py.
    templates: set[str] = field(default_factory=set)

    @property
    def is_empty(self) -> bool:
        return not (len(self.face_ids) or len(self.whole) or self.people or self.templates)


def choose(
    catalog: "Catalog",
    *,
    face_ids: Iterable[str] = (),
    uri: str | None = None,
    person: str | None = None,
    collection: str | None = None,
    likenesses: Sequence[Likeness] = (),
) -> Chosen:
    """What a request is about, by ids of faces, by the item, or by a person's name or id. Reads only.

    `collection` says in which one the person is called so. `likenesses` are what the ids were found by.

    Raises UnknownError (there is no such item or person; ids that are not there are passed over), AmbiguousError
    (several persons have that name), CatalogError.
    """
    asked = list(face_ids)
    whole, rows = pa.array([], pa.string()), None
    person_ids: list[str] = []
    names: list[str] = []
    if person is not None:
        person_ids = [_person_id(catalog, person, collection)]
        rows = read(catalog, "people", ["name", "face_id"], pc.field("person_id") == person_ids[0])
        names = pc.unique(rows["name"]).drop_null().to_pylist()
        asked += rows["face_id"].drop_null().to_pylist()
    if uri is not None:
        looks = read(catalog, "ledger", ["content_id", "item_key"], pc.field("uri") == uri)
        if not looks.num_rows:
            raise UnknownError(f"{catalog.url}: no run has looked at {uri}: say the uri as it stands in the ledger")
        whole = pc.unique(pc.coalesce(looks["content_id"], looks["item_key"]))
    faces = _everywhere(catalog, pa.array(asked, pa.string()), whole)
    places = keyed(faces)
    # A person may have faces that are in no other table any more.
    of_person = pa.array(asked if rows is not None else [], pa.string())
    ids = pc.unique(pa.concat_arrays([*faces["face_id"].chunks, of_person]))
    return Chosen(
        face_ids=ids,
        # Of a content that is suppressed as a whole, its places say nothing more.
        places=places.filter(pc.invert(pc.is_in(places["key"], whole))),
        whole=whole,
        person_ids=pa.array(person_ids, pa.string()),
        names=names,
        items=pc.count_distinct(faces["uri"]).as_py(),
        people=0 if rows is None else rows.num_rows,
        templates=templates(catalog, ids, likenesses),
    )


def suppressed(catalog: "Catalog", suppressions: Suppressions) -> pa.Array:
    """Ids of the faces that are there and that suppressions say should not be."""
    faces = _faces(catalog, _of_contents(pa.chunked_array([suppressions.whole, *suppressions.places["key"].chunks])))
    ids = faces["face_id"].filter(pa.array(suppressions.hits(keyed(faces))))
    return pc.unique(ids)


def _person_id(catalog: "Catalog", person: str, collection: str | None) -> str:
    """The id of the person of that name or id. Raises UnknownError, AmbiguousError."""
    asked = (pc.field("name") == person) | (pc.field("person_id") == person)
    rows = read(catalog, "people", ["collection", "person_id", "name"], asked)
    where = ""
    if collection is not None:
        rows = rows.filter(pc.equal(rows["collection"], collection))
        where = f" of the collection {collection}"
    found = sorted({(row["person_id"], row["collection"]) for row in rows.to_pylist()})
    ids = {person_id for person_id, _ in found}
    if not ids:
        raise UnknownError(
            f"{catalog.url}: nobody is called {person} in the table people{where}, as a name or as an id"
        )
    if person not in ids and len(ids) > 1:
        listed = ", ".join(f"{person_id} of {name}" for person_id, name in sorted(found, key=lambda one: one[::-1]))
        raise AmbiguousError(
            f"{catalog.url}: several persons are called {person}: {listed}. Say which, by one of these ids or by the "
            "collection. Nothing was touched"
        )
    return person if person in ids else str(found[0][0])


def _everywhere(catalog: "Catalog", ids: pa.Array, whole: pa.Array) -> pa.Table:
    """Rows of `faces` of those ids and contents, and of the same faces in other frames and other looks."""
    tracks = _Tracks(catalog)
    faces = _faces(catalog, pc.field("face_id").isin(ids) | _of_contents(whole))
    if not faces.num_rows:
        return faces
    tracks.read(keyed(faces)["key"])
    seeds = _faces(catalog, pc.field("face_id").isin(tracks.mates(faces["face_id"], share=0)) | _of_contents(whole))
    places = keyed(seeds)
    every = _faces(catalog, _of_contents(places["key"]))
    there = keyed(every)
    one, other = overlapping(there, places, NEAR_MS)
    # The next frame of the same look may be that of another face, after a cut: its tracks tell. Of another look that
    # took other frames nothing does.
    frames = [pc.fill_null(rows["frame_ms"], -1).to_numpy() for rows in (there, places)]
    looks = [rows["fingerprint"].to_numpy() for rows in (every, seeds)]
    same = (frames[0][one] == frames[1][other]) | (looks[0][one] != looks[1][other])
    hit = np.zeros(every.num_rows, bool)
    hit[one[same]] = True
    hit |= pc.is_in(there["key"], whole).to_numpy()
    ids = tracks.mates(every["face_id"].filter(pa.array(hit)), share=0.5)
    return every.filter(pc.is_in(every["face_id"], ids))


def _faces(catalog: "Catalog", condition: ds.Expression) -> pa.Table:
    if "faces" not in catalog.tables():
        return pa.table(
            {name: pa.array([], PLACES.field(name).type if name in PLACES.names else pa.string()) for name in _COLUMNS}
        )
    return read(catalog, "faces", _COLUMNS, condition)


def _of_contents(keys: pa.Array | pa.ChunkedArray) -> ds.Expression:
    """As `keyed` spells contents."""
    some = pc.unique(keys)
    return pc.field("content_id").isin(some) | (pc.field("content_id").is_null() & pc.field("item_key").isin(some))


class _Tracks:
    """The faces of each track of a face, in some contents."""

    def __init__(self, catalog: "Catalog") -> None:
        self._catalog = catalog
        self._ids = pa.array([], pa.string())
        self._track = np.zeros(0, np.int64)
        self._count = 0

    def read(self, keys: pa.ChunkedArray) -> None:
        """Those of these contents."""
        rows = read(self._catalog, "tracks", ["face_ids"], _of_contents(keys))
        if rows.num_rows:
            lists = rows["face_ids"].combine_chunks()
            self._ids, self._track = lists.flatten(), pc.list_parent_indices(lists).to_numpy()
            self._count = rows.num_rows

    def mates(self, ids: pa.ChunkedArray, share: float) -> pa.Array:
        """Those faces, and all faces of tracks of which they are some, and at least that share."""
        known = pc.is_in(self._ids, ids).to_numpy(False)
        held, all_of = (np.bincount(self._track[one], minlength=self._count) for one in (known, slice(None)))
        chosen = (held > 0) & (held >= share * all_of)
        mates = self._ids.filter(pa.array(chosen[self._track], pa.bool_()))
        return pc.unique(pa.concat_arrays([mates, *ids.chunks]))
