"""SQL over a catalogue: DuckDB on the tables' Arrow datasets, read-only, closed to everything outside.

Every table stands under its own name, with all its rows: superseded ones and those of a half-applied commit too.
`latest_ledger` has the newest look of each operator at each item, and `latest_TABLE` the rows that it found. A video
counts from the moment when all its windows have been looked at. `latest_people` has whose the faces are that count, and
`latest_collection_faces` what was done with each face last.
"""

import re
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import pyarrow as pa

from pinakes.catalog.errors import CorruptCatalogError, QueryError
from pinakes.catalog.schema import LOOK, OWN_TABLES

if TYPE_CHECKING:
    from pinakes.catalog.catalog import Catalog

#: What DuckDB says when Arrow cannot read a table for it.
_UNREADABLE = re.compile(r"stream registered as '(applied_|pending_)?(?P<table>.*?)' failed: (?P<why>.*)", re.DOTALL)

#: Per place and operator the look that counts: of the newest version of the file, with the fingerprint that a run asked
#: for last (to go back to earlier settings costs nothing), the newest attempt; and with it those at a video's windows.
LATEST_LEDGER = """
    CREATE VIEW latest_ledger AS
    WITH asked AS (
        SELECT fingerprint, max(recorded_at) AS asked_at FROM (
            SELECT unnest([value->>'$.fingerprint', value->>'$.video_fingerprint']) AS fingerprint, recorded_at
            FROM runs, json_each(runs.operators)
        ) GROUP BY ALL
    ), whole AS (
        FROM ledger WHERE window_start_ms IS NULL
    ), versions AS (
        SELECT uri, arg_max(item_key, n) AS item_key FROM whole GROUP BY uri
    ), counting AS (
        SELECT whole.* FROM whole SEMI JOIN versions USING (uri, item_key) LEFT JOIN asked USING (fingerprint)
        QUALIFY row_number() OVER (
            PARTITION BY uri, operator ORDER BY asked_at DESC NULLS LAST, n DESC, attempt DESC
        ) = 1
    ), windows AS (
        SELECT ledger.* FROM ledger SEMI JOIN counting USING (item_key, operator, fingerprint)
        WHERE window_start_ms IS NOT NULL
        QUALIFY row_number() OVER (PARTITION BY item_key, operator, window_start_ms ORDER BY attempt DESC) = 1
    )
    FROM counting UNION ALL FROM windows
"""

#: All looks at the places that were looked at after a commit.
_LEDGER_SINCE = """
    CREATE TEMP TABLE ledger AS
    FROM whole_ledger SEMI JOIN (SELECT uri FROM whole_ledger WHERE n > {since}) USING (uri)
"""

LATEST = """
    CREATE VIEW "latest_{table}" AS
    SELECT found.* FROM "{table}" AS found SEMI JOIN (FROM latest_ledger WHERE status = 'ok') AS looks
    ON found.item_key = looks.item_key AND found.fingerprint = looks.fingerprint AND found.attempt = looks.attempt
       AND found.window_start_ms IS NOT DISTINCT FROM looks.window_start_ms
"""

#: Of the rows of a face the one that counts: a reference before a match, a match before a group; then the newest.
_ONE_ROW_A_FACE = """
    FROM people WHERE face_id IS NOT NULL
    QUALIFY row_number() OVER (
        PARTITION BY collection, face_id
        ORDER BY list_position(['reference', 'matched', 'grouped'], how), recorded_at DESC,
                 similarity DESC NULLS LAST, person_id
    ) = 1
"""

#: Whose each face is that counts, and where it is.
LATEST_PEOPLE = f"""
    CREATE VIEW latest_people AS
    SELECT who.*, seen.uri, seen.item_key, seen.content_id, seen.frame_ms, seen.box
    FROM ({_ONE_ROW_A_FACE}) AS who JOIN latest_faces AS seen ON seen.face_id = who.face_id
"""

#: Where each face stands in each copy of a collection: what was done with it last.
LATEST_COLLECTION_FACES = """
    CREATE VIEW latest_collection_faces AS
    SELECT collection, milvus_name, face_id, any_value(uri) AS uri, max(load) AS load, arg_max(action, load) AS action,
           arg_max_null(reasons, load) AS reasons
    FROM collection_faces GROUP BY collection, milvus_name, face_id
"""


def connect(catalog: "Catalog", since: int = 0) -> duckdb.DuckDBPyConnection:
    """A connection that sees the catalogue's tables and views, and can neither read nor write anything else.

    With `since` it knows of no looks but those at places that were looked at after that commit, and so the views
    `latest_*` have these places only. What does not fit in memory goes to the system's temporary folder. Raises
    CorruptCatalogError.
    """
    spill = Path(tempfile.gettempdir(), f"pinakes-sql-{uuid.uuid4().hex}")
    connection = duckdb.connect(config={"python_enable_replacements": False, "temp_directory": str(spill)})
    datasets = {}
    # Against the order in which a commit is applied: every row that the ledger speaks of is then in its table.
    for name in sorted(catalog.tables(), key=lambda name: (name != "ledger", name)):
        with catalog.storage.reporting(f"reading table {name}"):
            datasets[name] = catalog.table(name).to_pyarrow_dataset()
        connection.register("whole_ledger" if since and name == "ledger" else name, datasets[name])
    if since:
        connection.execute(_LEDGER_SINCE.format(since=int(since)))
    connection.execute(LATEST_LEDGER)
    for name, dataset in datasets.items():
        if name not in OWN_TABLES and set(LOOK) <= set(dataset.schema.names):
            connection.execute(LATEST.format(table=name))
    if {"people", "faces"} <= set(datasets):
        connection.execute(LATEST_PEOPLE)
    if "collection_faces" in datasets:
        connection.execute(LATEST_COLLECTION_FACES)
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")
    return connection


def query(catalog: "Catalog", text: str) -> pa.Table:
    """The answer as an Arrow table. Raises QueryError with DuckDB's own words, CorruptCatalogError."""
    with connect(catalog) as connection, reading(catalog.url):
        try:
            relation = connection.sql(text)
            if relation is None:
                raise QueryError("there is no query in that")
            answer: pa.Table = relation.to_arrow_table()
            return answer
        except duckdb.Error as error:
            if _UNREADABLE.search(str(error)):
                raise
            raise QueryError(str(error).splitlines()[0]) from error


@contextmanager
def reading(url: str) -> Iterator[None]:
    """Turn what DuckDB raises when a part of the catalogue at `url` is gone or broken into CorruptCatalogError."""
    try:
        yield
    except duckdb.Error as error:
        found = _UNREADABLE.search(str(error))
        if found is None:
            raise
        text = " ".join(found["why"].split())
        raise CorruptCatalogError(
            f"{url}: the table {found['table']} cannot be read, bring it back from a copy: {text[:300]}"
        ) from error
