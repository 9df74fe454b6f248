"""A contact sheet: pictures of a catalogue side by side, with what its tables say was found in them.

Of a video the sheet has one frame: of the first row that was asked for, or from its middle; or those that a query
names.
"""

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import PurePosixPath
from threading import Lock
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from pinakes.catalog import Catalog
from pinakes.jobs.choosing import Chosen, by_condition, by_query
from pinakes.jobs.drawing import draw_findings
from pinakes.jobs.errors import SpecError
from pinakes.jobs.fetch import fetch, opened
from pinakes.jobs.findings import Finding
from pinakes.jobs.lettering import Letters
from pinakes.jobs.show import LIMITS, as_jpeg
from pinakes.jobs.stills import clock, frame_at, is_video, length_ms
from pinakes.jobs.watch import video_content_id
from pinakes.operators.decode import decode
from pinakes.operators.errors import ErrorCode, MediaError
from pinakes.operators.video import open_video

#: Pictures on one sheet: 20 x 20 cells of the size below are 6900 x 6700 pixels, 140 MB in memory.
MOST = 400

#: A cell in pixels: the picture's room, and what is around it.
WIDTH, HEIGHT, GAP = 320, 260, 12

LETTERS = Letters(15)

PAPER, GREY, INK, FAINT = (250, 250, 248), (205, 205, 205), (25, 25, 25), (90, 90, 90)

#: Decoding may take gigabytes; one picture at a time is enough.
_decoding = Lock()


@dataclass(frozen=True)
class Cell:
    """A picture of the sheet, or why it is a grey cell."""

    uri: str
    caption: str
    picture: Image.Image | None
    why: str | None
    found: tuple[Finding, ...]
    frame_ms: int | None = None  # of a frame of a video


@dataclass(frozen=True, repr=False)
class Sheet:
    """A contact sheet, which a notebook shows. `matched` counts what met the condition: it has the first of these."""

    image: Image.Image
    cells: tuple[Cell, ...]
    matched: int

    def as_dict(self) -> dict[str, Any]:
        """For a script: the pictures in their order, of a video the frame's time, and why one is not shown."""
        pictures = [{"uri": one.uri, "frame_ms": one.frame_ms, "error": one.why} for one in self.cells]
        return {"pictures": pictures, "matched": self.matched}

    def __repr__(self) -> str:
        return f"<a sheet of {len(self.cells):,} of {self.matched:,} pictures>"

    def _repr_jpeg_(self) -> bytes:
        return as_jpeg(self.image)


def contact_sheet(catalog: Catalog, count: int, where: str | None = None, table: str = "media") -> Sheet | None:
    """Up to `count` items, in the order of their uris, that have a row in `latest_TABLE` for which `where` holds.

    `where` is one DuckDB expression over the columns of that view; it may ask the other views in a subquery. Boxes
    and names come from the tables: nothing is looked at again. An item that is gone, cannot be read, or is not the
    one that was looked at, is a grey cell that says so. None when no item meets the condition.

    Raises QueryError for an unknown view or a condition that DuckDB refuses, CorruptCatalogError.
    """
    _check(count)
    chosen, matched = by_condition(catalog, count, where, table)
    return _sheet_of(chosen, matched) if chosen else None


def query_sheet(catalog: Catalog, query: str, count: int) -> Sheet:
    """Up to `count` items that an SQL query returns, in its order and each once: by its column `uri`.

    With a column `frame_ms`, a frame of a video is a picture of its own. Raises QueryError for a query that DuckDB
    refuses, that has no such column, or names what is not in the catalogue; CorruptCatalogError.
    """
    _check(count)
    chosen, matched = by_query(catalog, query, count)
    if not chosen:
        return Sheet(lay_out([], (WIDTH, HEIGHT), 1, "nothing meets the query"), (), 0)
    return _sheet_of(chosen, matched)


def _check(count: int) -> None:
    if not 1 <= count <= MOST:
        raise SpecError(f"a sheet has 1 to {MOST} pictures, not {count}")


def _sheet_of(chosen: Sequence[Chosen], matched: int) -> Sheet:
    with ThreadPoolExecutor(max_workers=4, thread_name_prefix="fetch") as pool:
        pictures = list(pool.map(_picture, chosen))
    cells = []
    for one, (picture, why) in zip(chosen, pictures, strict=True):
        cells.append(Cell(one.uri, caption_of(one), picture, why, one.found, one.frame_ms))
    return Sheet(lay_out(cells, (WIDTH, HEIGHT), math.ceil(math.sqrt(len(cells)))), tuple(cells), matched)


def caption_of(one: Chosen) -> str:
    """The file's name; of a frame its time in front."""
    return file_name(one.uri) if one.frame_ms is None else f"{clock(one.frame_ms)} in {file_name(one.uri)}"


# --- the cells


def thumbnail(pixels: np.ndarray, room: tuple[int, int]) -> Image.Image:
    """As large as can be in a room of that width and height."""
    picture = Image.fromarray(pixels)
    scale = min(room[0] / picture.width, room[1] / picture.height)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture.resize(size, Image.Resampling.LANCZOS)


def pictures(
    uri: str, content_id: str | None, times: Sequence[int | None] = (None,)
) -> Iterator[tuple[np.ndarray | None, str | None]]:
    """An item's canonical picture, (height, width, 3) uint8 RGB; of a video the frame at each of those times.

    Where there is none, why: it is gone, cannot be read, or is not the one that was looked at (`content_id`; None is
    taken for any). A video is opened once; of a time that is not known (None) it is the frame in its middle.
    """
    given = 0
    try:
        for pixels in (_stills if is_video(uri) else _photo)(uri, content_id, times):
            given += 1
            yield (None, "changed since it was looked at") if pixels is None else (pixels, None)
        return
    except MediaError as error:
        why = "gone: the file is not there any more" if error.code is ErrorCode.NOT_FOUND else str(error)
    except OSError as error:
        why = str(error)
    for _ in times[given:]:
        yield None, why


def _picture(one: Chosen) -> tuple[Image.Image | None, str | None]:
    """The picture, or the frame of a video, in a cell's size, or why there is none."""
    ((pixels, why),) = pictures(one.uri, one.content_id, [one.frame_ms])
    return None if pixels is None else thumbnail(pixels, (WIDTH, HEIGHT)), why


def _photo(uri: str, content_id: str | None, times: Sequence[int | None]) -> Iterator[np.ndarray | None]:
    """Its pixels, as often as there are times; None when it is not the one that was looked at."""
    data = fetch(uri, LIMITS.max_bytes)
    if content_id not in (None, blake2b(data, digest_size=16).hexdigest()):
        pixels = None
    else:
        with _decoding:
            pixels = decode(data, name=uri, max_pixels=LIMITS.max_pixels)[0]
    del data
    yield from (pixels for _ in times)


def _stills(uri: str, content_id: str | None, times: Sequence[int | None]) -> Iterator[np.ndarray | None]:
    """Those of frames of a video, of which no more is read than leads to them."""
    with opened(uri) as (source, size):
        if content_id not in (None, video_content_id(source, size)):
            yield from (None for _ in times)
            return
        with open_video(source, uri, size, LIMITS.max_pixels) as video:
            for at in times:
                with _decoding:
                    pixels = frame_at(video, length_ms(video) // 2 if at is None else at).pixels
                yield pixels


def lay_out(cells: Sequence[Cell], room: tuple[int, int], columns: int, title: str | None = None) -> Image.Image:
    """Rows of cells from the top left, with room for a picture of that width and height in each."""
    width, height = room
    above = 0 if title is None else LETTERS.height + GAP
    high = height + captions() + 2 * GAP
    size = (columns * (width + GAP) + GAP, above + math.ceil(len(cells) / columns) * high + GAP)
    sheet = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(sheet)
    if title is not None:
        LETTERS.write(draw, (GAP, GAP), LETTERS.fit(title, size[0] - 2 * GAP), INK)
    for position, cell in enumerate(cells):
        row, column = divmod(position, columns)
        left, top = GAP + column * (width + GAP), above + GAP + row * high
        if cell.picture is None:
            draw.rectangle((left, top, left + width - 1, top + height - 1), fill=GREY)
            for number, line in enumerate(LETTERS.wrap(cell.why or "", width - 2 * GAP, 5)):
                LETTERS.write(draw, (left + GAP, top + GAP + number * LETTERS.height), line, INK)
        else:
            draw_findings(cell.picture, cell.found, LETTERS, numbers=False)
            sheet.paste(cell.picture, (left, top + height - cell.picture.height))
        LETTERS.write(draw, (left, top + height + 2), LETTERS.fit(cell.caption, width), INK)
        LETTERS.write(draw, (left, top + height + 2 + LETTERS.height), LETTERS.fit(_names(cell), width), FAINT)
    return sheet


def captions() -> int:
    """Pixels that the two lines below a picture are high."""
    return 2 * LETTERS.height


def file_name(uri: str) -> str:
    return PurePosixPath(uri.split("://", 1)[-1]).name or uri


def _names(cell: Cell) -> str:
    """The names of the whole picture, the most confident first."""
    names = [one for one in cell.found if not one.placed and one.titled and one.confidence is not None]
    return ", ".join(one.caption for one in sorted(names, key=lambda one: -(one.confidence or 0)))
