"""Which items of a catalogue are to be shown, and what its tables say was found in them: nothing is looked at again.

Of a video it is one frame: the one that was asked for; or in the stretch that was asked for, else in all of the video,
one that was looked at: the first there, or the middle one.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from pinakes.catalog import Catalog
from pinakes.catalog.errors import QueryError
from pinakes.catalog.sql import connect, interruptible, reading
from pinakes.jobs.findings import Finding, findings, has_shapes
from pinakes.jobs.stills import is_video

#: What chooses a frame of a video: its time, or the stretch that it is in.
TIMES = ("frame_ms", "start_ms", "end_ms")


@dataclass(frozen=True)
class Chosen:
    """An item, or a frame of a video, and what was found in it."""

    uri: str
    item_key: str
    content_id: str | None
    frame_ms: int | None  # of a video; None when none of its frames was looked at
    found: tuple[Finding, ...]


def by_condition(catalog: Catalog, count: int, where: str | None, table: str) -> tuple[list[Chosen], int]:
    """The first `count` items by uri that have a row in `latest_TABLE` for which `where` holds; how many have one.

    Raises QueryError for an unknown view or a condition that DuckDB refuses, CorruptCatalogError.
    """
    with connect(catalog) as connection, reading(catalog.url):
        rows, matched = interruptible(connection, lambda: _meeting(connection, count, where, table))
        return _described(connection, rows), matched


def by_query(catalog: Catalog, query: str, count: int) -> tuple[list[Chosen], int]:
    """The first `count` items that a query returns, in its order and each once; how many it returns in all.

    Its answer has a column `uri`, for frames of videos `frame_ms` as well, or for stretches `start_ms` and `end_ms`.
    Raises QueryError: DuckDB refuses it, it has no such column, or names what is not in the catalogue;
    CorruptCatalogError.
    """
    with connect(catalog) as connection:
        try:
            with reading(catalog.url):
                rows = interruptible(connection, lambda: _each_once(connection.sql(query), count))
        except duckdb.Error as error:
            raise QueryError(str(error).splitlines()[0]) from error
    # Not where the query was asked: it may have put a view of its own in the place of ours.
    with connect(catalog) as connection, reading(catalog.url):
        return _described(connection, _known(connection, rows)), rows[0]["matched"] if rows else 0


def by_uris(catalog: Catalog, uris: Iterable[str]) -> list[Chosen]:
    """Those items, in that order. Raises QueryError for one that is not in the catalogue, CorruptCatalogError."""
    rows: list[dict[str, Any]] = [{"uri": uri, **dict.fromkeys(TIMES)} for uri in uris]
    with connect(catalog) as connection, reading(catalog.url):
        return _described(connection, _known(connection, rows))


def _meeting(
    connection: duckdb.DuckDBPyConnection, count: int, where: str | None, table: str
) -> tuple[list[dict[str, Any]], int]:
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
        return chosen.order("uri").limit(count).to_arrow_table().to_pylist(), matched
    except duckdb.Error as error:
        if where is None:
            raise
        said = " ".join(str(error).splitlines()[:2])
        raise QueryError(f"--where takes one SQL condition on the rows of {table}: {said}") from error


def _each_once(answer: duckdb.DuckDBPyRelation | None, count: int) -> list[dict[str, Any]]:
    """The first rows of an answer, by place; each says how many there are."""
    if answer is None:
        raise QueryError("there is no query in that")
    there = {name.lower() for name in answer.columns}
    if "uri" not in there:
        raise QueryError(
            "a sheet is made of a query whose answer has a column uri, and for frames of videos frame_ms; "
            f"this one has {', '.join(answer.columns)}"
        )
    times = [(name, f"{name}::BIGINT" if name in there else "NULL::BIGINT") for name in TIMES]
    columns = [f"{value} AS {name}" for name, value in times]
    rows = answer.project(", ".join(["uri::VARCHAR AS uri", *columns, "row_number() OVER () AS place"]))
    once = rows.filter("uri IS NOT NULL").aggregate("uri, frame_ms, start_ms, end_ms, min(place) AS place")
    counted = once.project("*, count(*) OVER () AS matched").order("place").limit(count)
    found: list[dict[str, Any]] = counted.to_arrow_table().to_pylist()
    return found


def _known(connection: duckdb.DuckDBPyConnection, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same with item_key and content_id. No other file than the catalogue's items is ever opened."""
    query = """
        SELECT uri, any_value(item_key), any_value(content_id) FROM latest_ledger
        WHERE window_start_ms IS NULL AND uri IN (SELECT unnest($uris::VARCHAR[])) GROUP BY uri
    """
    found = connection.execute(query, {"uris": [row["uri"] for row in rows]}).fetchall()
    there = {uri: {"item_key": item_key, "content_id": content_id} for uri, item_key, content_id in found}
    for row in rows:
        if row["uri"] not in there:
            raise QueryError(f"there is no item {row['uri']} in the catalogue; its uris are those of latest_media")
    return [{**row, **there[row["uri"]]} for row in rows]


# --- what was found


def _views(connection: duckdb.DuckDBPyConnection) -> list[str]:
    found = connection.execute(
        "SELECT view_name[8:] FROM duckdb_views() WHERE starts_with(view_name, 'latest_') ORDER BY 1"
    ).fetchall()
    return [name for (name,) in found]


def _described(connection: duckdb.DuckDBPyConnection, rows: list[dict[str, Any]]) -> list[Chosen]:
    """With the time of the frame of each video, and what was found."""
    _choose_frames(connection, rows)
    found = _found(connection, rows)
    return [
        Chosen(row["uri"], row["item_key"], row["content_id"], row["frame_ms"], tuple(findings(_of(found, row))))
        for row in rows
    ]


def _choose_frames(connection: duckdb.DuckDBPyConnection, rows: list[dict[str, Any]]) -> None:
    """Give each video among them that lacks it the time of the frame that is to stand for it, if one was looked at."""
    videos = [row for row in rows if row["frame_ms"] is None and is_video(row["uri"])]
    middle: dict[int, int] = {}
    if videos and "frames" in _views(connection):
        parameters = {name: [row[name] for row in videos] for name in ("item_key", "start_ms", "end_ms")}
        query = """
            SELECT place, coalesce(
                min(frame_ms) FILTER (frame_ms >= start_ms AND frame_ms < end_ms),
                any_value(start_ms), quantile_disc(frame_ms, 0.5)
            )
            FROM (SELECT unnest($item_key) AS item_key, unnest($start_ms::BIGINT[]) AS start_ms,
                         unnest($end_ms::BIGINT[]) AS end_ms, unnest(range(len($item_key))) AS place)
            LEFT JOIN latest_frames USING (item_key) GROUP BY place
        """
        middle = dict(connection.execute(query, parameters).fetchall())
    for place, row in enumerate(videos):
        row["frame_ms"] = middle.get(place, row["start_ms"])


def _found(connection: duckdb.DuckDBPyConnection, chosen: Sequence[Mapping[str, Any]]) -> dict[str, pa.Table]:
    """The current rows of those items in every table whose rows have a place in the picture, or a name and a score.

    Of a video those of the frames that were chosen.
    """
    tables = {}
    parameters = {name: [row[name] for row in chosen] for name in ("item_key", "frame_ms")}
    for table in _views(connection):
        view = connection.view(f"latest_{table}")
        schema = view.limit(0).to_arrow_table().schema
        if "frame_ms" in schema.names and (has_shapes(schema) or {"name", "confidence"} <= set(schema.names)):
            # The name is quoted, and is that of a folder of the catalogue.
            name = '"latest_' + table.replace('"', '""') + '"'
            # Of a face without a name its own box says as much.
            named = "WHERE found.name IS NOT NULL" if table == "people" else ""
            query = f"""
                SELECT found.* FROM {name} AS found
                SEMI JOIN (SELECT unnest($item_key) AS item_key, unnest($frame_ms::BIGINT[]) AS frame_ms) AS chosen
                ON found.item_key = chosen.item_key AND found.frame_ms IS NOT DISTINCT FROM chosen.frame_ms
                {named}
            """
            tables[table] = connection.sql(query, params=parameters).to_arrow_table()
    return tables


def _of(found: Mapping[str, pa.Table], row: Mapping[str, Any]) -> dict[str, pa.Table]:
    """Of those rows the ones of one picture."""
    own = {}
    for table, rows in found.items():
        here = rows.filter(pc.equal(rows["item_key"], row["item_key"]))
        at = here["frame_ms"]
        own[table] = here.filter(pc.is_null(at) if row["frame_ms"] is None else pc.equal(at, row["frame_ms"]))
    return own
