"""Sheets of faces: what was looked for beside what is like it, two photos compared, the people of a collection.

Faces are cut out of the full pictures, which are fetched for it and looked at no more than for a contact sheet: one
that is gone, cannot be read, or is not the one that was looked at, is a grey cell that says so.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from PIL import Image

from pinakes.jobs.face_cells import (
    DULL,
    EDGE,
    GROUND,
    LARGE,
    LETTERS,
    SMALL,
    Canvas,
    FaceAt,
    Marked,
    cut_out,
    draw_bar,
    whole,
)
from pinakes.jobs.face_query import Comparison, QueryFace
from pinakes.jobs.findings import Colour
from pinakes.jobs.sheet import FAINT, GAP, INK, file_name
from pinakes.jobs.stills import clock

__all__ = ["Asked", "FaceAt", "PersonRow", "compare_sheet", "face_at", "people_sheet", "search_sheet"]

#: Faces that were found, and faces that were looked for, on one sheet: with them it is no higher than WebP can be.
MOST, MOST_ASKED = 300, 12
MOST_PEOPLE, MOST_OF_ONE = 60, 8

#: Sides in pixels: of a face that was found, of one of a person, and of the whole photo beneath what was looked for.
SIDE, SIDE_OF_ONE = 200, 132
PHOTO = (SIDE, 150)
#: What is beneath a face: its bar and its lines.
BAR = 5 + 6

#: How much wider than high a sheet is to be; and its columns, at least for many faces, and at most.
SHAPE, FEWEST, MOST_COLUMNS = 1.6, 5, 15

#: Of the names of people.
NAMES = 230


@dataclass(frozen=True)
class Asked:
    """A face that was looked for, and those that are like it, the most alike first."""

    face: FaceAt
    matches: Sequence[FaceAt]


@dataclass(frozen=True)
class PersonRow:
    """A person, how many faces they have in all, and some of them."""

    person_id: str
    name: str | None
    count: int
    faces: Sequence[FaceAt]


def face_at(face: QueryFace, similarity: float | None = None, name: str | None = None) -> FaceAt:
    """A face of a photo that was asked with, to be shown."""
    return FaceAt(face.uri, None, face.content_id, face.frame_ms, face.box, face.face_id, similarity, name)


def search_sheet(queries: Sequence[Asked], threshold: float | None = None, title: str | None = None) -> Image.Image:
    """For each face that was looked for a row: itself, with its photo, and what is like it.

    `threshold`, the similarity that was asked for, is a notch in the bars. What would be too many is counted: above
    MOST matches in all, and MOST_ASKED faces that were looked for.
    """
    shown = queries[:MOST_ASKED]
    most = MOST // max(1, len(shown))
    rows = [(one, one.matches[:most]) for one in shown]
    named = any(match.name for _, matches in rows for match in matches)
    high = _cell_height(2 if named else 1)
    columns = _columns(max((len(matches) for _, matches in rows), default=0), sum(len(one[1]) for one in rows), high)
    heights = [max(_card_height(one.face), _grid_height(len(matches), columns, high)) for one, matches in rows]
    said = _more(len(queries) - len(shown), "face that was looked for", "faces that were looked for")
    if not queries:
        said = "there is no face to look for"
    above, below = _above(title), LETTERS.height + GAP if said else 0
    # With room for a title.
    width = _card_width() + max(3, columns) * (SIDE + GAP)
    canvas = Canvas(width, above + sum(heights) + (len(heights) + 1) * GAP + below, title)
    top = above + GAP

    def lines(face: FaceAt) -> Sequence[str]:
        return [*([face.name or ""] if named else []), file_name(face.uri)]

    for (one, matches), height in zip(rows, heights, strict=True):
        words = _count(len(one.matches), "match", "matches")
        if len(matches) < len(one.matches):
            words += f", {len(matches):,} shown"
        _card(canvas, top, height, one.face, words, with_photo=True)
        if not matches:
            canvas.write(_card_width(), top + GAP, "nothing like it", width - _card_width(), FAINT)
        _cells(canvas, top, columns, matches, threshold, lines, [face.colour for face in matches])
        top += height + GAP
    if said:
        canvas.write(GAP, top, said, width - 2 * GAP, FAINT)
    return canvas.finished()


def compare_sheet(comparison: Comparison, title: str | None = None) -> Image.Image:
    """Both photos side by side, and below them the first one's largest face and those of the other, numbered.

    Grey are those that are less like it than the threshold. Above MOST faces they are counted.
    """
    compared = [*comparison.matches, *comparison.unmatched]
    threshold, high = comparison.threshold, _cell_height(1)
    faces = [face_at(one.face, one.similarity) for one in compared[:MOST]]
    matched = len(comparison.matches)
    colours = [face.colour if number < matched else DULL for number, face in enumerate(faces)]
    source = None if comparison.source_face is None else face_at(comparison.source_face)
    columns = max(FEWEST, _columns(len(faces), len(faces), high))
    width = _card_width() + columns * (SIDE + GAP)
    room = (width - 3 * GAP) // 2, (width - 3 * GAP) * 3 // 8
    top = _above(title) + GAP
    lower = top + room[1] + 2 * LETTERS.height + 2 * GAP
    height = max(_card_height(source, with_photo=False), _grid_height(len(faces), columns, high))
    canvas = Canvas(width, lower + height + GAP, title)
    # The best match is drawn last, over the others.
    theirs = [Marked(face.box, colours[at], f"{at + 1}") for at, face in reversed(list(enumerate(faces)))]
    ours = [] if source is None else [Marked(source.box, source.colour)]
    for left, uri, known, marked, count in (
        (GAP, comparison.source, source, ours, comparison.source_faces),
        (2 * GAP + room[0], comparison.target, faces[0] if faces else None, theirs, len(compared)),
    ):
        photo = known or FaceAt(uri, None, None, None, {}, "")
        canvas.place(photo, (left, top, left + room[0], top + room[1]), whole(room, marked))
        words = _count(count, "face", "faces") + (f", {MOST:,} shown" if len(marked) < count > MOST else "")
        canvas.write_place(left, top + room[1] + 2, file_name(uri), room[0])
        canvas.write(left, top + room[1] + 2 + LETTERS.height, words, room[0], FAINT)
    if source is not None:
        many = comparison.source_faces
        words = "the only face" if many == 1 else f"the largest of {many:,} faces"
        _card(canvas, lower, height, source, words, with_photo=False)
    else:
        canvas.write(GAP, lower + GAP, "no face to compare", _card_width() - 2 * GAP, FAINT)
    if not faces:
        canvas.write(_card_width(), lower + GAP, "no face to compare with", width - _card_width(), FAINT)

    def lines(face: FaceAt) -> Sequence[str]:
        if face.similarity is None:
            return [""]
        return ["a match" if face.similarity >= threshold else f"no match: below {threshold:.2f}"]

    _cells(canvas, lower, columns, faces, threshold, lines, colours)
    return canvas.finished()


def people_sheet(people: Sequence[PersonRow], title: str | None = None) -> Image.Image:
    """A row for each person: name, how many faces, up to MOST_OF_ONE of them. Above MOST_PEOPLE they are counted."""
    shown = people[:MOST_PEOPLE]
    said = _more(len(people) - len(shown), "person", "people") or ("" if people else "there is nobody")
    above, below = _above(title), LETTERS.height + GAP if said else 0
    columns = max((min(len(one.faces), MOST_OF_ONE) for one in shown), default=1)
    high = SIDE_OF_ONE + SMALL.height + 4
    width = NAMES + 2 * GAP + max(1, columns) * (SIDE_OF_ONE + GAP)
    canvas = Canvas(width, above + GAP + len(shown) * (high + 2 * GAP) + below, title)
    top = above + GAP
    for number, person in enumerate(shown):
        if number:
            canvas.draw.line((GAP, top - GAP, width - GAP - 1, top - GAP), fill=EDGE)
        _person(canvas, top, person)
        top += high + 2 * GAP
    if said:
        canvas.write(GAP, top, said, width - 2 * GAP, FAINT)
    return canvas.finished()


# --- parts of them


def _person(canvas: Canvas, top: int, person: PersonRow) -> None:
    y = top
    name = f"person {person.person_id[:8]}" if person.name is None else person.name
    letters, lines = LARGE, LARGE.wrap(name, NAMES - GAP, 2)
    if lines and lines[-1].endswith("..."):
        letters, lines = LETTERS, LETTERS.wrap(name, NAMES - GAP, 4)
    for line in lines:
        canvas.write(GAP, y, line, NAMES - GAP, FAINT if person.name is None else INK, letters)
        y += letters.height
    canvas.write(GAP, y + 2, _count(person.count, "face", "faces"), NAMES - GAP, FAINT)
    for number, face in enumerate(person.faces[:MOST_OF_ONE]):
        face = replace(face, name=person.name)
        left = NAMES + GAP + number * (SIDE_OF_ONE + GAP)
        canvas.place(face, (left, top, left + SIDE_OF_ONE, top + SIDE_OF_ONE), cut_out(face, SIDE_OF_ONE))
        canvas.write_place(left, top + SIDE_OF_ONE + 3, face.place, SIDE_OF_ONE, FAINT, SMALL)


def _card(canvas: Canvas, top: int, height: int, face: FaceAt, words: str, *, with_photo: bool) -> None:
    """What was looked for, on a ground of its own."""
    left = 2 * GAP
    canvas.draw.rectangle((GAP, top, _card_width() - GAP - 1, top + height - 1), fill=GROUND)
    top += GAP
    canvas.place(face, (left, top, left + SIDE, top + SIDE), cut_out(face, SIDE))
    y = top + SIDE + 4
    if face.name:
        canvas.write(left, y, face.name, SIDE)
        y += LETTERS.height
    canvas.write_place(left, y, face.place, SIDE)
    canvas.write(left, y + LETTERS.height, words, SIDE, FAINT)
    y += 2 * LETTERS.height
    if with_photo:
        y += GAP // 2
        photo = whole(PHOTO, [Marked(face.box, face.colour)])
        canvas.place(face, (left, y, left + PHOTO[0], y + PHOTO[1]), photo, at_corner=True)


def _cells(
    canvas: Canvas,
    top: int,
    columns: int,
    faces: Sequence[FaceAt],
    threshold: float | None,
    lines: Callable[[FaceAt], Sequence[str]],
    colours: Sequence[Colour],
) -> None:
    """Faces that were found, and below each how like it is and those lines: the last one fainter than the others."""
    for number, (face, colour) in enumerate(zip(faces, colours, strict=True)):
        row, column = divmod(number, columns)
        texts = lines(face)
        left, y = _card_width() + column * (SIDE + GAP), top + GAP + row * _cell_height(len(texts))
        room = (left, y, left + SIDE, y + SIDE)
        canvas.place(face, room, cut_out(face, SIDE, colour), badge=f"{number + 1}", colour=colour)
        y += SIDE + 3
        draw_bar(canvas.draw, (left, y), SIDE, face, threshold, colour)
        y += BAR - 3
        when = "" if face.frame_ms is None else clock(face.frame_ms)
        canvas.write(left, y, "" if face.similarity is None else f"{face.similarity:.2f}", SIDE)
        canvas.write(left + SIDE - LETTERS.width(when), y, when, SIDE, FAINT)
        for place, text in enumerate(texts, 1):
            write, fill = (canvas.write_place, FAINT) if place == len(texts) else (canvas.write, INK)
            write(left, y + place * LETTERS.height, text, SIDE, fill)


# --- sizes


def _columns(most: int, cells: int, high: int) -> int:
    """For so many cells of that height, at most `most` of them belonging to one face."""
    wanted = math.ceil(math.sqrt(cells * SHAPE * high / (SIDE + GAP)))
    return max(1, min(most, max(FEWEST, min(wanted, MOST_COLUMNS))))


def _card_width() -> int:
    """With its margins."""
    return SIDE + 4 * GAP


def _card_height(face: FaceAt | None, *, with_photo: bool = True) -> int:
    lines = 3 if face is not None and face.name else 2
    return 2 * GAP + SIDE + 4 + lines * LETTERS.height + (PHOTO[1] + GAP // 2 if with_photo else 0)


def _cell_height(lines: int) -> int:
    """With so many lines under the one of its similarity."""
    return SIDE + BAR + (1 + lines) * LETTERS.height + GAP


def _grid_height(cells: int, columns: int, high: int) -> int:
    return GAP + math.ceil(cells / columns) * high


def _above(title: str | None) -> int:
    return 0 if title is None else LARGE.height + GAP


def _count(number: int, one: str, many: str) -> str:
    return f"{'no' if number == 0 else f'{number:,}'} {one if number == 1 else many}"


def _more(number: int, one: str, many: str) -> str:
    return f"and {_count(number, f'more {one}', f'more {many}')}" if number > 0 else ""
