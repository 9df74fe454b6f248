"""SQL over a catalogue: DuckDB on the tables' Arrow datasets, read-only, closed to everything outside.

Every table stands under its own name, with all its rows: superseded ones and those of a half-applied commit too.
`latest_ledger` has the newest look of each operator at each item, and `latest_TABLE` the rows that it found.
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

#: The newest look per item, by its place (a changed file supersedes itself), operator and window.
LATEST_LEDGER = """
    CREATE VIEW latest_ledger AS
    SELECT * FROM ledger
    QUALIFY row_number() OVER (PARTITION BY uri, operator, window_start_ms ORDER BY n DESC, attempt DESC) = 1
"""

LATEST = """
    CREATE VIEW "latest_{table}" AS
    SELECT * FROM "{table}" SEMI JOIN (FROM latest_ledger WHERE status = 'ok') USING (item_key, fingerprint, attempt)
"""


def connect(catalog: "Catalog") -> duckdb.DuckDBPyConnection:
    """A connection that sees the catalogue's tables and views, and can neither read nor write anything else.

    What does not fit in memory goes to the system's temporary folder. Raises CorruptCatalogError.
    """
    spill = Path(tempfile.gettempdir(), f"pinakes-sql-{uuid.uuid4().hex}")
    connection = duckdb.connect(config={"python_enable_replacements": False, "temp_directory": str(spill)})
    datasets = {}
    for name in catalog.tables():
        with catalog.storage.reporting(f"reading table {name}"):
            datasets[name] = catalog.table(name).to_pyarrow_dataset()
        connection.register(name, datasets[name])
    connection.execute(LATEST_LEDGER)
    for name, dataset in datasets.items():
        if name not in OWN_TABLES and set(LOOK) <= set(dataset.schema.names):
            connection.execute(LATEST.format(table=name))
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
