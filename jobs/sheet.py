"""A contact sheet: pictures of a catalogue side by side, with what its tables say was found in them."""

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import PurePosixPath
from threading import Lock
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image, ImageDraw

from pinakes.catalog import Catalog
from pinakes.catalog.errors import QueryError
from pinakes.catalog.sql import connect, reading
from pinakes.jobs.drawing import draw_findings
from pinakes.jobs.errors import SpecError
from pinakes.jobs.fetch import fetch
from pinakes.jobs.findings import Finding, findings, has_shapes
from pinakes.jobs.lettering import Letters
from pinakes.jobs.show import LIMITS
from pinakes.operators.decode import decode
from pinakes.operators.errors import ErrorCode, MediaError

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
    picture: Image.Image | None
    why: str | None
    found: tuple[Finding, ...]


@dataclass(frozen=True)
class Sheet:
    """A contact sheet. `matched` counts the pictures that met the condition, of which it has the first by uri."""

    image: Image.Image
    cells: tuple[Cell, ...]
    matched: int

    def as_dict(self) -> dict[str, Any]:
        """For a script: the pictures in their order, with why one is not shown."""
        return {"pictures": [{"uri": one.uri, "error": one.why} for one in self.cells], "matched": self.matched}


def contact_sheet(catalog: Catalog, count: int, where: str | None = None, table: str = "media") -> Sheet | None:
    """Up to `count` pictures, in the order of their uris, that have a row in `latest_TABLE` for which `where` holds.

    `where` is one DuckDB expression over the columns of that view; it may ask the other views in a subquery. Boxes
    and names come from the tables: nothing is looked at again. A picture that is gone, cannot be read, or is not the
    one that was looked at, is a grey cell that says so. None when no picture meets the condition.

    Raises QueryError for an unknown view or a condition that DuckDB refuses, CorruptCatalogError.
    """
    if not 1 <= count <= MOST:
        raise SpecError(f"a sheet has 1 to {MOST} pictures, not {count}")
    with connect(catalog) as connection, reading(catalog.url):
        chosen, matched = _choose(connection, count, where, table)
        found = _found(connection, chosen["item_key"])
    if not chosen.num_rows:
        return None
    with ThreadPoolExecutor(max_workers=4, thread_name_prefix="fetch") as pool:
        pictures = list(pool.map(_thumbnail, chosen["uri"].to_pylist(), chosen["content_id"].to_pylist()))
    cells = []
    for row, (picture, why) in zip(chosen.to_pylist(), pictures, strict=True):
        own = {name: rows.filter(pc.equal(rows["item_key"], row["item_key"])) for name, rows in found.items()}
        cells.append(Cell(row["uri"], picture, why, tuple(findings(own))))
    return Sheet(_lay_out(cells), tuple(cells), matched)


# --- asking


def _choose(connection: duckdb.DuckDBPyConnection, count: int, where: str | None, table: str) -> tuple[pa.Table, int]:
    """uri, item_key and content_id of the pictures, and how many there are in all."""
    views = _views(connection)
    if table not in views:
        raise QueryError(f"there is no table {table!r} to choose from; there are: {', '.join(views)}")
    rows = connection.view(f"latest_{table}")
    try:
        if where is not None:
            # Taken as one expression: neither another statement nor another clause can stand in it.
            rows = rows.filter(where)
        chosen = rows.aggregate("uri, max(item_key) AS item_key, max(content_id) AS content_id", "uri")
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


def _found(connection: duckdb.DuckDBPyConnection, keys: pa.ChunkedArray) -> dict[str, pa.Table]:
    """The current rows of those items in every table whose rows have a place in the picture, or a name and a score."""
    tables = {}
    for table in _views(connection):
        view = connection.view(f"latest_{table}")
        schema = view.limit(0).to_arrow_table().schema
        if table != "ledger" and (has_shapes(schema) or {"name", "confidence"} <= set(schema.names)):
            # The name is quoted, and is that of a folder of the catalogue.
            name = '"latest_' + table.replace('"', '""') + '"'
            query = f"SELECT * FROM {name} WHERE item_key IN (SELECT unnest($keys))"
            tables[table] = connection.sql(query, params={"keys": keys.to_pylist()}).to_arrow_table()
    return tables


# --- the cells


def _thumbnail(uri: str, content_id: str | None) -> tuple[Image.Image | None, str | None]:
    """The picture, in a cell's size, or why there is none."""
    try:
        data = fetch(uri, LIMITS.max_bytes)
        if content_id is not None and blake2b(data, digest_size=16).hexdigest() != content_id:
            return None, "changed since it was looked at"
        with _decoding:
            picture = Image.fromarray(decode(data, name=uri, max_pixels=LIMITS.max_pixels)[0])
    except MediaError as error:
        return None, "gone: the file is not there any more" if error.code is ErrorCode.NOT_FOUND else str(error)
    scale = min(WIDTH / picture.width, HEIGHT / picture.height)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture.resize(size, Image.Resampling.LANCZOS), None


def _lay_out(cells: list[Cell]) -> Image.Image:
    """Rows of cells from the top left, about as wide as high."""
    columns = math.ceil(math.sqrt(len(cells)))
    high = HEIGHT + 2 * LETTERS.height + 2 * GAP
    size = (columns * (WIDTH + GAP) + GAP, math.ceil(len(cells) / columns) * high + GAP)
    sheet = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(sheet)
    for position, cell in enumerate(cells):
        row, column = divmod(position, columns)
        left, top = GAP + column * (WIDTH + GAP), GAP + row * high
        if cell.picture is None:
            draw.rectangle((left, top, left + WIDTH - 1, top + HEIGHT - 1), fill=GREY)
            for number, line in enumerate(LETTERS.wrap(cell.why or "", WIDTH - 2 * GAP, 5)):
                LETTERS.write(draw, (left + GAP, top + GAP + number * LETTERS.height), line, INK)
        else:
            draw_findings(cell.picture, cell.found, LETTERS, numbers=False)
            sheet.paste(cell.picture, (left, top + HEIGHT - cell.picture.height))
        LETTERS.write(draw, (left, top + HEIGHT + 2), LETTERS.fit(_file_name(cell.uri), WIDTH), INK)
        LETTERS.write(draw, (left, top + HEIGHT + 2 + LETTERS.height), LETTERS.fit(_names(cell), WIDTH), FAINT)
    return sheet


def _file_name(uri: str) -> str:
    return PurePosixPath(uri.split("://", 1)[-1]).name or uri


def _names(cell: Cell) -> str:
    """The names of the whole picture, the most confident first."""
    names = [one for one in cell.found if not one.placed and one.titled and one.confidence is not None]
    return ", ".join(one.caption for one in sorted(names, key=lambda one: -(one.confidence or 0)))
