"""SQL over a catalogue: DuckDB on the tables' Arrow datasets, read-only, closed to everything outside.

Every table stands under its own name, with all its rows: superseded ones and those of a half-applied commit too.
`latest_ledger` has the newest look of each operator at each item, and `latest_TABLE` the rows that it found.
"""

from typing import TYPE_CHECKING

import duckdb
import pyarrow as pa

from pinakes.catalog.errors import QueryError
from pinakes.catalog.schema import LOOK, OWN_TABLES

if TYPE_CHECKING:
    from pinakes.catalog.catalog import Catalog

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
    """A connection that sees the catalogue's tables and views, and can neither read nor write anything else."""
    connection = duckdb.connect(config={"python_enable_replacements": False})
    datasets = {name: catalog.table(name).to_pyarrow_dataset() for name in catalog.tables()}
    for name, dataset in datasets.items():
        connection.register(name, dataset)
    connection.execute(LATEST_LEDGER)
    for name, dataset in datasets.items():
        if name not in OWN_TABLES and set(LOOK) <= set(dataset.schema.names):
            connection.execute(LATEST.format(table=name))
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")
    return connection


def query(catalog: "Catalog", text: str) -> pa.Table:
    """The answer as an Arrow table. Raises QueryError with DuckDB's own words."""
    with connect(catalog) as connection:
        try:
            answer: pa.Table = connection.sql(text).to_arrow_table()
            return answer
        except duckdb.Error as error:
            raise QueryError(str(error).splitlines()[0]) from error
