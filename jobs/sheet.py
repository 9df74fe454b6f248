"""A contact sheet: pictures of a catalogue side by side, with what its tables say was found in them.

Of a video the sheet has one frame: of the first row that was asked for, or from its middle.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import PurePosixPath
from threading import Lock
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image, ImageDraw

from pinakes.catalog import Catalog
from pinakes.catalog.errors import QueryError
from pinakes.catalog.sql import connect, reading
from pinakes.jobs.drawing import draw_findings
from pinakes.jobs.errors import SpecError
from pinakes.jobs.fetch import fetch, opened
from pinakes.jobs.findings import Finding, findings, has_shapes
from pinakes.jobs.lettering import Letters
from pinakes.jobs.show import LIMITS
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


@dataclass(frozen=True)
class Sheet:
    """A contact sheet. `matched` counts the items that met the condition, of which it has the first by uri."""

    image: Image.Image
    cells: tuple[Cell, ...]
    matched: int

    def as_dict(self) -> dict[str, Any]:
        """For a script: the pictures in their order, of a video the frame's time, and why one is not shown."""
        pictures = [{"uri": one.uri, "frame_ms": one.frame_ms, "error": one.why} for one in self.cells]
        return {"pictures": pictures, "matched": self.matched}


def contact_sheet(catalog: Catalog, count: int, where: str | None = None, table: str = "media") -> Sheet | None:
    """Up to `count` items, in the order of their uris, that have a row in `latest_TABLE` for which `where` holds.

    `where` is one DuckDB expression over the columns of that view; it may ask the other views in a subquery. Boxes
    and names come from the tables: nothing is looked at again. An item that is gone, cannot be read, or is not the
    one that was looked at, is a grey cell that says so. None when no item meets the condition.

    Raises QueryError for an unknown view or a condition that DuckDB refuses, CorruptCatalogError.
    """
    if not 1 <= count <= MOST:
        raise SpecError(f"a sheet has 1 to {MOST} pictures, not {count}")
    with connect(catalog) as connection, reading(catalog.url):
        rows, matched = _choose(connection, count, where, table)
        chosen = _with_frames(connection, rows)
        found = _found(connection, chosen)
    if not chosen:
        return None
    with ThreadPoolExecutor(max_workers=4, thread_name_prefix="fetch") as pool:
        pictures = list(pool.map(_picture, chosen))
    cells = []
    for row, (picture, why) in zip(chosen, pictures, strict=True):
        own = {name: rows.filter(pc.equal(rows["item_key"], row["item_key"])) for name, rows in found.items()}
        at = row["frame_ms"]
        caption = file_name(row["uri"]) if at is None else f"{clock(at)} in {file_name(row['uri'])}"
        cells.append(Cell(row["uri"], caption, picture, why, tuple(findings(own)), at))
    return Sheet(lay_out(cells, (WIDTH, HEIGHT), math.ceil(math.sqrt(len(cells)))), tuple(cells), matched)


# --- asking


def _choose(connection: duckdb.DuckDBPyConnection, count: int, where: str | None, table: str) -> tuple[pa.Table, int]:
    """Of the items uri, item_key, content_id, and when in a video their first row is; and how many there are in all."""
    views = _views(connection)
    if table not in views:
        raise QueryError(f"there is no table {table!r} to choose from; there are: {', '.join(views)}")
    rows = connection.view(f"latest_{table}")
    try:
        if where is not None:
            # Taken as one expression: neither another statement nor another clause can stand in it.
            rows = rows.filter(where)
        first = "min(frame_ms)" if "frame_ms" in rows.columns else "NULL::BIGINT"
        spans = {"start_ms", "end_ms"} <= set(rows.columns)
        start, end = ("min(start_ms)", "arg_min(end_ms, start_ms)") if spans else ("NULL::BIGINT",) * 2
        chosen = rows.aggregate(
            "uri, max(item_key) AS item_key, max(content_id) AS content_id, "
            f"{first} AS frame_ms, {start} AS start_ms, {end} AS end_ms",
            "uri",
        )
        matched = rows.aggregate("count(DISTINCT uri)").fetchall()[0][0]
        return chosen.order("uri").limit(count).to_arrow_table(), matched
    except duckdb.Error as error:
        if where is None:
            raise
        said = " ".join(str(error).splitlines()[:2])
        raise QueryError(f"--where takes one SQL condition on the rows of {table}: {said}") from error


def _views(connection: duckdb.DuckDBPyConnection) -> list[str]:
    found = connection.execute(
        "SELECT view_name[8:] FROM duckdb_views() WHERE starts_with(view_name, 'latest_') ORDER BY 1"
    ).fetchall()
    return [name for (name,) in found]


def _with_frames(connection: duckdb.DuckDBPyConnection, chosen: pa.Table) -> list[dict[str, Any]]:
    """The items, each video among them with the time of the frame that is to stand for it, if one was looked at.

    It is the one that was chosen; or in the stretch that was chosen, else in all of the video, one that was looked at:
    the first there, or the middle one.
    """
    rows: list[dict[str, Any]] = chosen.to_pylist()
    videos = [row for row in rows if is_video(row["uri"])]
    middle: dict[str, int] = {}
    if videos and "frames" in _views(connection):
        parameters = {name: [row[name] for row in videos] for name in ("item_key", "start_ms", "end_ms")}
        query = """
            SELECT item_key, coalesce(
                min(frame_ms) FILTER (frame_ms >= start_ms AND frame_ms < end_ms),
                any_value(start_ms), quantile_disc(frame_ms, 0.5)
            )
            FROM (SELECT unnest($item_key) AS item_key, unnest($start_ms::BIGINT[]) AS start_ms,
                         unnest($end_ms::BIGINT[]) AS end_ms)
            LEFT JOIN latest_frames USING (item_key) GROUP BY item_key
        """
        middle = dict(connection.execute(query, parameters).fetchall())
    for row in rows:
        if row["frame_ms"] is None and is_video(row["uri"]):
            row["frame_ms"] = middle.get(row["item_key"], row["start_ms"])
    return rows


def _found(connection: duckdb.DuckDBPyConnection, chosen: Sequence[Mapping[str, Any]]) -> dict[str, pa.Table]:
    """The current rows of those items in every table whose rows have a place in the picture, or a name and a score.

    Of a video those of the one frame.
    """
    tables = {}
    parameters = {name: [row[name] for row in chosen] for name in ("item_key", "frame_ms")}
    for table in _views(connection):
        view = connection.view(f"latest_{table}")
        schema = view.limit(0).to_arrow_table().schema
        if "frame_ms" in schema.names and (has_shapes(schema) or {"name", "confidence"} <= set(schema.names)):
            # The name is quoted, and is that of a folder of the catalogue.
            name = '"latest_' + table.replace('"', '""') + '"'
            query = f"""
                SELECT found.* FROM {name} AS found
                SEMI JOIN (SELECT unnest($item_key) AS item_key, unnest($frame_ms::BIGINT[]) AS frame_ms) AS chosen
                ON found.item_key = chosen.item_key AND found.frame_ms IS NOT DISTINCT FROM chosen.frame_ms
            """
            tables[table] = connection.sql(query, params=parameters).to_arrow_table()
    return tables


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


def _picture(row: Mapping[str, Any]) -> tuple[Image.Image | None, str | None]:
    """The picture, or the frame of a video, in a cell's size, or why there is none."""
    ((pixels, why),) = pictures(row["uri"], row["content_id"], [row["frame_ms"]])
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
