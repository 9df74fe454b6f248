"""`pinakes faces search` and `compare`: from a photo, or the id of a face, to those that are like it."""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from pinakes.catalog import Catalog
from pinakes.catalog.face_collections import Collections
from pinakes.catalog.face_quality import QualityLimits, reasons_of
from pinakes.catalog.searching import Match, Query, face_query, is_face_id
from pinakes.catalog.searching import search as search_vectors
from pinakes.catalog.thresholds import thresholds
from pinakes.jobs import face_query as photos
from pinakes.jobs.errors import SpecError
from pinakes.jobs.face_query import Comparison
from pinakes.jobs.face_sheet import Asked, FaceAt, compare_sheet, face_at, search_sheet
from pinakes.jobs.lettering import clean
from pinakes.jobs.printing import grid, out
from pinakes.jobs.sheet import file_name
from pinakes.jobs.show import output_path, refuse_to_overwrite, save
from pinakes.jobs.stills import clock

Report = Callable[[str], None]


@dataclass(frozen=True)
class Searched:
    """A face that was looked for, and who is like it, the best first."""

    face: FaceAt
    matches: list[Match]
    poor: list[str]  # why a face of a collection would have been left out: poor faces are like each other


@dataclass(frozen=True)
class Found:
    """What a search found: an entry for each face that was looked for, the largest first."""

    collection: str
    query: str
    threshold: float
    searched: list[Searched]

    def as_dict(self) -> dict[str, Any]:
        """For a script."""
        faces = [
            {
                "face_id": one.face.face_id,
                "box": dict(one.face.box),
                "poor": one.poor,
                "matches": [asdict(match) for match in one.matches],
            }
            for one in self.searched
        ]
        return {"collection": self.collection, "query": self.query, "threshold": self.threshold, "faces": faces}


def search(
    catalog: Catalog,
    collection: str,
    query: str,
    *,
    threshold: float | None = None,
    limit: int = 10,
    where: str | None = None,
    largest: bool = False,
    at_ms: int | None = None,
    report: Report = lambda line: None,
) -> Found:
    """Look for every face of a photo, or its largest one, or a face of the catalogue by its id, in a collection.

    A photo without a face gives an empty answer. `threshold` is the similarity (0 to 1) that a match has at least;
    that of thresholds.py when not given. Of a video `at_ms` chooses the frame.

    Raises CollectionError, QueryError, SpecError, MediaError, ModelError.
    """
    there = Collections(catalog).get(collection)
    at_least = thresholds(there.model).search if threshold is None else threshold
    if is_face_id(query) and not Path(query).exists():
        queries = [face_query(catalog, collection, query)]
        faces = list(faces_at(catalog, [query]).values())
        poor: list[list[str]] = [[]]
    else:
        seen = photos.faces_in(query, there.model, report, at_ms=at_ms)[: 1 if largest else None]
        queries = [Query(face.face_id, face.vector) for face in seen]
        faces = [face_at(face) for face in seen]
        limits = QualityLimits.model_validate_json(there.quality)
        poor = [reasons_of(limits, face.described) for face in seen]
    answers = search_vectors(
        catalog, collection, queries, asked=query, threshold=at_least, limit=limit, condition=where, report=report
    )
    searched = [Searched(*one) for one in zip(faces, answers, poor, strict=True)]
    return Found(collection, query, at_least, searched)


def compare(
    first: str,
    second: str,
    *,
    threshold: float | None = None,
    model: str | None = None,
    report: Report = lambda line: None,
) -> Comparison:
    """The largest face of one photo against every face of another. Raises SpecError, MediaError, ModelError."""
    if model is None:
        known = sorted(photos.makers())
        if len(known) != 1:
            raise SpecError(f"say --model: faces can be compared by {', '.join(known) or 'no model here'}")
        model = known[0]
    return photos.compare(first, second, model, thresholds(model).search if threshold is None else threshold, report)


def faces_at(catalog: Catalog, face_ids: Iterable[str]) -> dict[str, FaceAt]:
    """Where those faces of the catalogue are, by id; ids that it does not have are left out."""
    ids = sorted(set(face_ids))
    if not ids:
        return {}
    listed = ", ".join(f"'{one}'" for one in ids if is_face_id(one))
    rows = catalog.sql(
        "SELECT face_id, any_value(uri) AS uri, any_value(item_key) AS item_key, any_value(content_id) AS content_id, "
        "any_value(frame_ms) AS frame_ms, any_value(box) AS box FROM faces "
        f"WHERE face_id IN ({listed}) GROUP BY face_id"
    )
    return {row["face_id"]: FaceAt(**row) for row in rows.to_pylist()}


def draw(catalog: Catalog, found: Found, path: Path) -> Path | None:
    """Draw the faces that were looked for beside their matches; nothing when there was no face to look for."""
    if not found.searched:
        return None
    path = output_path(path, "search.png")
    for uri in (found.query, *(match.uri for one in found.searched for match in one.matches)):
        refuse_to_overwrite(path, uri)
    save(drawn(catalog, found), path)
    return path


def drawn(catalog: Catalog, found: Found) -> Image.Image:
    """The faces that were looked for beside their matches."""
    there = faces_at(catalog, (match.face_id for one in found.searched for match in one.matches))
    asked = []
    for one in found.searched:
        matches = []
        for match in one.matches:
            face = there.get(match.face_id)
            known = (face.item_key, face.content_id) if face else (None, None)
            matches.append(
                FaceAt(match.uri, *known, match.frame_ms, match.box, match.face_id, match.similarity, match.name)
            )
        asked.append(Asked(one.face, matches))
    return search_sheet(asked, found.threshold, f"{file_name(found.query)} in {found.collection}")


def draw_comparison(found: Comparison, path: Path) -> Path:
    """Draw both photos beside each other."""
    path = output_path(path, "compare.png")
    for uri in (found.source, found.target):
        refuse_to_overwrite(path, uri)
    save(compare_sheet(found), path)
    return path


def print_found(found: Found, path: Path | None) -> None:
    """A row for each match."""
    rows = [
        {
            "face": number,
            "rank": match.rank,
            "similarity": match.similarity,
            "name": clean(match.name or ""),
            "picture": clean(match.uri),
            "time": "" if match.frame_ms is None else clock(match.frame_ms),
            "left top, right bottom": _corners(match.box),
            "face_id": match.face_id,
        }
        for number, one in enumerate(found.searched, 1)
        for match in one.matches
    ]
    if rows:
        out.print(grid(None, rows))
    faces, matched = len(found.searched), sum(bool(one.matches) for one in found.searched)
    if not faces:
        words = f"no face in {found.query}: nothing was looked for"
    else:
        words = (
            f"{faces:,} {'face' if faces == 1 else 'faces'} in {found.query}, {matched:,} of them with matches in "
            f"{found.collection} of similarity {found.threshold:g} or more"
        )
    out.print(words, highlight=False, markup=False)
    for number, one in enumerate(found.searched, 1):
        if one.poor:
            words = f"face {number} is poor ({', '.join(one.poor)}): such faces are like strangers' too"
            out.print(words, highlight=False, markup=False)
    if path:
        out.print(str(path), highlight=False, markup=False)


def print_comparison(found: Comparison, path: Path | None) -> None:
    """A row for each face of the second photo."""
    if found.source_face is None:
        out.print(f"no face in {found.source}: nothing was compared", highlight=False, markup=False)
    else:
        rows = [
            {
                "similarity": one.similarity,
                "same person": "yes" if one in found.matches else "no",
                "left top, right bottom": _corners(one.face.box),
            }
            for one in (*found.matches, *found.unmatched)
        ]
        if rows:
            out.print(grid(None, rows))
        else:
            out.print(f"no face in {found.target}: nothing was compared", highlight=False, markup=False)
        out.print(f"the same person from a similarity of {found.threshold:g} on", highlight=False)
    if path:
        out.print(str(path), highlight=False, markup=False)


def _corners(box: Any) -> str:
    right, bottom = box["left"] + box["width"], box["top"] + box["height"]
    return f"{box['left']:.2f} {box['top']:.2f}, {right:.2f} {bottom:.2f}"
