"""What two runs, models or settings saw differently in the same items.

Compared are the versions of files that both have looked at and could read; of several looks of one side at an item the
newest counts. Where a table has names an item has one if it stands there at all, with the greatest confidence that it
has in any frame or box. Of the other tables the numbers of rows are compared. Looks that do not count any more can be
compared as well, as far as `optimize` has not dropped them.
"""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import duckdb
import pyarrow as pa

from pinakes.catalog.errors import UnknownError
from pinakes.catalog.sql import reading
from pinakes.catalog.superseded import MEMORY, THREADS, result_tables

if TYPE_CHECKING:
    from pinakes.catalog.catalog import Catalog

#: What the two sides may be, and by which column of the ledger their looks are known.
By = Literal["runs", "models", "settings"]
_COLUMN = {"runs": "run_id", "models": "model", "settings": "fingerprint"}
#: Columns with a score, the first that a table has.
_SCORES = ("confidence", "max_confidence")
#: So many are listed where something unknown was named, the newest first.
_LISTED = 8

#: The newest whole look of a side at each item by operators that fill the table, and with it those at its windows.
_SIDE = """
    CREATE TEMP TABLE looks_{side} AS
    WITH whole AS (
        SELECT uri, item_key, operator, fingerprint, attempt, n FROM ledger
        WHERE window_start_ms IS NULL AND status = 'ok' AND {column} = $value AND operator IN (FROM operators)
        QUALIFY row_number() OVER (PARTITION BY item_key, operator ORDER BY n DESC, attempt DESC) = 1
    ), windows AS (
        SELECT ledger.uri, item_key, operator, fingerprint, ledger.attempt, ledger.n, window_start_ms, status
        FROM ledger JOIN whole USING (item_key, operator, fingerprint) WHERE window_start_ms IS NOT NULL
        QUALIFY row_number() OVER (
            PARTITION BY item_key, operator, window_start_ms ORDER BY ledger.attempt DESC
        ) = 1
    )
    SELECT uri, item_key, fingerprint, attempt, n, NULL::BIGINT AS window_start_ms FROM whole UNION ALL
    SELECT uri, item_key, fingerprint, attempt, n, window_start_ms FROM windows WHERE status = 'ok'
"""

_BOTH = """
    CREATE TEMP TABLE both_sides AS
    SELECT item_key, any_value(uri) AS uri, row_number() OVER () AS item
    FROM looks_a SEMI JOIN (FROM looks_b WHERE window_start_ms IS NULL) USING (item_key)
    WHERE window_start_ms IS NULL GROUP BY item_key
"""

#: What a side found in the items that both have looked at: by item and name, how often, and the greatest score.
_FOUND = """
    CREATE TEMP TABLE found_{side} AS
    SELECT item, {name} AS name, count(*) AS rows, max({score}) AS score
    FROM found JOIN (FROM looks_{side} JOIN (SELECT item_key, item FROM both_sides) USING (item_key)) AS looks
    ON found.item_key = looks.item_key AND found.fingerprint = looks.fingerprint AND found.attempt = looks.attempt
       AND found.n = looks.n AND found.window_start_ms IS NOT DISTINCT FROM looks.window_start_ms
    GROUP BY ALL
"""

_COMPARED = """
    CREATE TEMP TABLE compared AS
    SELECT item, name, coalesce(a.rows, 0) AS rows_a, coalesce(b.rows, 0) AS rows_b, a.score AS a, b.score AS b,
           CASE WHEN a.rows IS NULL THEN 'gained' WHEN b.rows IS NULL THEN 'lost'
                WHEN abs(b.score - a.score) > $moved THEN 'moved' WHEN a.rows <> b.rows THEN 'more or fewer'
           END AS change
    FROM found_a AS a FULL JOIN found_b AS b USING (item, name)
"""

_SUMMARY = """
    SELECT name, count(*) FILTER (change = 'gained') AS gained, count(*) FILTER (change = 'lost') AS lost,
           count(*) FILTER (change = 'moved') AS moved, count(*) FILTER (change = 'more or fewer') AS more_or_fewer,
           avg(b - a) AS mean_change, sum(rows_a)::BIGINT AS rows_a, sum(rows_b)::BIGINT AS rows_b
    FROM compared GROUP BY name
    ORDER BY count(change) DESC, name LIMIT $limit
"""

#: Of each name and change the greatest first, of what is most frequent, so that not all are of one name.
_EXAMPLES = """
    WITH tops AS (
        SELECT name, change, count(*) AS often, arg_max(
            {{'item': item, 'rows_a': rows_a, 'rows_b': rows_b, 'a': a, 'b': b}},
            coalesce(abs(b - a), b, a, abs(rows_b - rows_a)), {limit}
        ) AS top
        FROM compared WHERE change IS NOT NULL GROUP BY name, change
    ), each AS (
        SELECT name, change, often, unnest(top) AS one, generate_subscripts(top, 1) AS rank FROM tops
    )
    SELECT uri, name, change, one.rows_a AS rows_a, one.rows_b AS rows_b, one.a AS a, one.b AS b
    FROM (FROM each ORDER BY rank, often DESC, name, change LIMIT {limit}) JOIN both_sides ON item = one.item
    ORDER BY rank, often DESC, name, change
"""


@dataclass(frozen=True)
class TableDifference:
    """How a table differs, a to b. Lists are of dicts, the most different first."""

    table: str
    items: int  # that both have looked at
    equal: int  # of these, with the same names as often, and none moved; or with as many rows
    rows_a: int
    rows_b: int
    #: Of each name, or of None where a table has none, the items that gained and lost it, in which its score moved, and
    #: in which it stands more or less often; the mean change of its score where both have it; and rows.
    names: list[dict[str, Any]]
    names_in_all: int
    #: uri, name, change, and of both sides rows and score.
    examples: list[dict[str, Any]]


@dataclass(frozen=True)
class Differences:
    """What differs between two runs, models or settings."""

    by: By
    a: str
    b: str
    moved: float
    tables: list[TableDifference]


def differences(
    catalog: "Catalog",
    by: By,
    a: str,
    b: str,
    *,
    table: str | None = None,
    moved: float = 0.1,
    limit: int = 20,
) -> Differences:
    """Compare what a and b (run ids, models or fingerprints, or unique beginnings of them) found, in one table or all.

    A score (0 to 1) has moved when it differs by more than `moved`. Of names and examples there are `limit`. Raises
    UnknownError (no such run, model, settings or table; nothing that both have looked at), CorruptCatalogError.
    """
    tables = result_tables(catalog)
    if table is not None and table not in tables:
        raise UnknownError(f"{catalog.url}: there is no table of results {table!r}; there are: {', '.join(tables)}")
    found = []
    with _connected(catalog) as connection:
        sides = [_resolved(connection, catalog, by, one) for one in (a, b)]
        if sides[0] == sides[1]:
            raise UnknownError(f"{sides[0]} on both sides: name two of --{by}")
        for name in tables if table is None else [table]:
            one = _compare(connection, catalog, name, by, sides, moved, limit)
            if one is not None:
                found.append(one)
        if not found:
            raise UnknownError(_nothing(connection, by, sides, table))
    return Differences(by, sides[0], sides[1], moved, found)


@contextmanager
def _connected(catalog: "Catalog") -> Iterator[duckdb.DuckDBPyConnection]:
    with (
        tempfile.TemporaryDirectory(prefix="pinakes-diff-") as folder,
        duckdb.connect(config={"memory_limit": MEMORY, "temp_directory": folder}) as connection,
        reading(catalog.url),
    ):
        connection.execute(f"SET threads = {THREADS}")
        connection.execute("SET preserve_insertion_order = false")
        for name in ("ledger", "runs"):
            with catalog.storage.reporting(f"reading table {name}"):
                connection.register(name, catalog.table(name).to_pyarrow_dataset())
        yield connection


def _resolved(connection: duckdb.DuckDBPyConnection, catalog: "Catalog", by: By, asked: str) -> str:
    """The run, model or fingerprint that begins so. Raises UnknownError."""
    column = _COLUMN[by]
    there = f"SELECT {column} AS one, max(n) AS n FROM ledger GROUP BY 1"
    if by == "runs":
        there = "SELECT run_id AS one, max(recorded_at) AS n FROM runs GROUP BY 1"
    every = [one for (one,) in connection.execute(f"SELECT one FROM ({there}) ORDER BY n DESC").fetchall()]
    fits = [asked] if asked in every else [one for one in every if asked and one.startswith(asked)]
    if len(fits) == 1:
        return str(fits[0])
    what = by.removesuffix("s") if by != "settings" else "settings"
    listed = ", ".join((fits or every)[:_LISTED]) + (", ..." if len(fits or every) > _LISTED else "")
    said = f"several {by} begin with {asked!r}" if fits else f"there is no {what} {asked!r}"
    raise UnknownError(f"{catalog.url}: {said}" + (f"; there are: {listed}" if listed else ": nothing was looked at"))


def _compare(
    connection: duckdb.DuckDBPyConnection,
    catalog: "Catalog",
    table: str,
    by: By,
    sides: Sequence[str],
    moved: float,
    limit: int,
) -> TableDifference | None:
    """How one table differs; None when there is no item that both have looked at for it."""
    for name in ("operators", "looks_a", "looks_b", "both_sides", "found_a", "found_b", "compared"):
        connection.execute(f"DROP TABLE IF EXISTS {name}")
    with catalog.storage.reporting(f"reading table {table}"):
        rows = catalog.table(table).to_pyarrow_dataset()
    connection.register("found", rows)
    connection.execute(
        "CREATE TEMP TABLE operators AS "
        "SELECT DISTINCT operator FROM ledger SEMI JOIN (SELECT DISTINCT fingerprint FROM found) USING (fingerprint)"
    )
    for side, value in zip("ab", sides, strict=True):
        connection.execute(_SIDE.format(side=side, column=_COLUMN[by]), {"value": value})
    connection.execute(_BOTH)
    items = connection.execute("SELECT count(*) FROM both_sides").fetchall()[0][0]
    if not items:
        return None
    names = set(rows.schema.names)
    score = next((one for one in _SCORES if one in names), None)
    score = f"found.{score}::DOUBLE" if score and "name" in names else "NULL::DOUBLE"
    for side in "ab":
        name = "found.name" if "name" in names else "NULL::VARCHAR"
        connection.execute(_FOUND.format(side=side, name=name, score=score))
    return _summed_up(connection, table, items, moved, limit)


def _summed_up(
    connection: duckdb.DuckDBPyConnection, table: str, items: int, moved: float, limit: int
) -> TableDifference:
    if connection.execute("SELECT count(name) FROM (FROM found_a UNION ALL FROM found_b)").fetchall()[0][0] == 0:
        # In a join no null equals another.
        for side in "ab":
            connection.execute(f"UPDATE found_{side} SET name = ''")
    connection.execute(_COMPARED, {"moved": moved})
    equal, rows_a, rows_b, names = connection.execute(
        "SELECT $items - count(DISTINCT item) FILTER (change IS NOT NULL), coalesce(sum(rows_a), 0)::BIGINT, "
        "coalesce(sum(rows_b), 0)::BIGINT, count(DISTINCT name) FROM compared",
        {"items": items},
    ).fetchall()[0]
    summary = connection.sql(_SUMMARY, params={"limit": limit}).to_arrow_table()
    examples = connection.sql(_EXAMPLES.format(limit=int(limit))).to_arrow_table()
    return TableDifference(table, items, equal, rows_a, rows_b, _named(summary), names, _named(examples))


def _named(rows: pa.Table) -> list[dict[str, Any]]:
    return [{**row, "name": row["name"] or None} for row in rows.to_pylist()]


def _nothing(connection: duckdb.DuckDBPyConnection, by: By, sides: Sequence[str], table: str | None) -> str:
    """Why there is nothing to compare, and how to compare instead."""
    column = _COLUMN[by]
    counts = {
        side: connection.execute(
            f"SELECT count(DISTINCT item_key) FROM ledger WHERE {column} = $side AND status = 'ok' "
            "AND window_start_ms IS NULL",
            {"side": side},
        ).fetchall()[0][0]
        for side in sides
    }
    others = " or ".join(f"--{one}" for one in get_args(By) if one != "runs")
    if by == "runs":
        idle = [side for side in sides if not counts[side]]
        if idle:
            return (
                f"{idle[0]} looked at nothing new: all that it asked for had been looked at before, with the same "
                f"settings. Compare models or settings instead, whoever looked: {others}"
            )
        return (
            f"{sides[0]} and {sides[1]} have no look in common at the same version of a file"
            f"{f' for {table}' if table else ''}: a run looks at what is new, and again only with other settings or "
            f"models. Compare these instead, whoever looked: {others}"
        )
    looked = ", ".join(f"{side} has looked at {count:,} items" for side, count in counts.items())
    return f"there is no item that both have looked at{f' for {table}' if table else ''}: {looked}"
