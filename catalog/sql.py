"""SQL over a catalogue: DuckDB on the tables' Arrow datasets, read-only, closed to everything outside.

Every table stands under its own name, with all its rows: superseded ones and those of a half-applied commit too. The
views beside them are in views.py; how tables are looked at as they were, in lookback.py.
"""

import re
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, wait
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import duckdb
import pyarrow as pa
from pyarrow.dataset import Dataset

from pinakes.catalog import lookback
from pinakes.catalog.errors import CorruptCatalogError, NoTableError, QueryError
from pinakes.catalog.schema import OWN_TABLES
from pinakes.catalog.views import View, needed, quoted, views

if TYPE_CHECKING:
    from pinakes.catalog.catalog import Catalog

#: What DuckDB says when Arrow cannot read a table for it.
_UNREADABLE = re.compile(r"stream registered as '(applied_|pending_)?(?P<table>.*?)' failed: (?P<why>.*)", re.DOTALL)

#: What it says of a table that is not there.
_NO_TABLE = re.compile(r"Table with name \"?(?P<table>[^\n]*?)\"? does not exist")

_CLOSED: dict[str, bool | str] = {
    "python_enable_replacements": False,
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "allow_persistent_secrets": False,
}

Answer = TypeVar("Answer")

#: Seconds in which Ctrl-C is seen, and after which a query that is to end is told so again.
INTERRUPTED_S = 0.1

#: All looks at the places that were looked at after a commit.
_LEDGER_SINCE = """
    CREATE TEMP TABLE ledger AS
    FROM whole_ledger SEMI JOIN (SELECT uri FROM whole_ledger WHERE n > {since}) USING (uri)
"""


def connect(catalog: "Catalog", since: int = 0) -> duckdb.DuckDBPyConnection:
    """A connection that sees the catalogue's tables and views, and can neither read nor write anything else.

    With `since` it knows of no looks but those at places that were looked at after that commit, and so the views
    `latest_*` have these places only. What does not fit in memory goes to the system's temporary folder. Raises
    CorruptCatalogError.
    """
    datasets = {}
    # Against the order in which a commit is applied: every row that the ledger speaks of is then in its table.
    for name in _ledger_first(catalog):
        with catalog.storage.reporting(f"reading table {name}"):
            datasets[name] = catalog.table(name).to_pyarrow_dataset()
    return _connect(datasets, since)


def _ledger_first(catalog: "Catalog") -> list[str]:
    return sorted(catalog.tables(), key=lambda name: (name != "ledger", name))


def _connect(datasets: Mapping[str, Dataset | pa.Table], since: int = 0) -> duckdb.DuckDBPyConnection:
    spill = Path(tempfile.gettempdir(), f"pinakes-sql-{uuid.uuid4().hex}")
    connection = duckdb.connect(config={**_CLOSED, "temp_directory": str(spill)})
    for name, rows in datasets.items():
        connection.register("whole_ledger" if since and name == "ledger" else name, rows)
    if since:
        connection.execute(_LEDGER_SINCE.format(since=int(since)))
    for view in views({name: rows.schema.names for name, rows in datasets.items()}):
        connection.execute(f"CREATE VIEW {quoted(view.name)} AS {view.sql}")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")
    return connection


def described_views(tables: Mapping[str, pa.Schema]) -> list[tuple[View, pa.Schema]]:
    """The views of a catalogue with those tables, and their columns."""
    with _connect({name: schema.empty_table() for name, schema in tables.items()}) as connection:
        return [
            (view, connection.table(view.name).limit(0).to_arrow_table().schema)
            for view in views({name: schema.names for name, schema in tables.items()})
        ]


def query(catalog: "Catalog", text: str, at: int | str | datetime | None = None) -> pa.Table:
    """The answer as an Arrow table, of the tables as they are, or as they were at a commit or time: see lookback.py.

    Raises QueryError with DuckDB's own words, NoTableError, CorruptCatalogError.
    """
    gone: dict[str, str] = {}
    if at is None:
        connection = connect(catalog)
    else:
        datasets, gone = _datasets_at(catalog, at)
        connection = _connect(datasets)
    with connection, reading(catalog.url):
        try:
            return interruptible(connection, lambda: _answer(connection, text))
        except duckdb.Error as error:
            if _UNREADABLE.search(str(error)):
                raise
            raise _explained(catalog, str(error), gone) from error


def _answer(connection: duckdb.DuckDBPyConnection, text: str) -> pa.Table:
    relation = connection.sql(text)
    if relation is None:
        raise QueryError("there is no query in that")
    return relation.to_arrow_table()


def interruptible(connection: duckdb.DuckDBPyConnection, work: Callable[[], Answer]) -> Answer:
    """What `work` returns, done in a thread: DuckDB does not hear of Ctrl-C while it works, so we tell it."""
    answer: Future[Answer] = Future()

    def do() -> None:
        try:
            answer.set_result(work())
        except BaseException as error:
            answer.set_exception(error)

    thread = threading.Thread(target=do, daemon=True)
    try:
        thread.start()
        # Not without an end: the system may give the signal to another thread, and then nothing wakes this one.
        while not answer.done():
            wait([answer], INTERRUPTED_S)
        return answer.result()
    finally:
        # After Ctrl-C, wherever that came; more than once, for the query may not have begun yet.
        while thread.is_alive():
            connection.interrupt()
            thread.join(INTERRUPTED_S)


def _datasets_at(catalog: "Catalog", at: int | str | datetime) -> tuple[dict[str, Dataset], dict[str, str]]:
    """The tables as they were, and of those that cannot be shown why; without the ledger and the runs nothing can."""
    then = lookback.moment(catalog, at)
    datasets, gone = {}, {}
    for name in _ledger_first(catalog):
        try:
            table = lookback.table_at(catalog, name, then)
        except QueryError as error:
            if name in OWN_TABLES:
                raise
            gone[name] = str(error)
            continue
        with catalog.storage.reporting(f"reading table {name}"):
            datasets[name] = table.to_pyarrow_dataset()
    return datasets, gone


def _explained(catalog: "Catalog", said: str, gone: dict[str, str]) -> QueryError:
    """What DuckDB refuses; of a table that is not there, why."""
    found = _NO_TABLE.search(said)
    if found is None:
        return QueryError(said.splitlines()[0])
    name = found["table"]
    lacking = tuple(one for one in needed(name) if one not in catalog.tables())
    for one in needed(name):
        if one in gone:
            return QueryError(gone[one])
    why = "" if lacking in ((name,), ()) else f", for it is made from {' and '.join(lacking)}"
    return NoTableError(f"there is no table {name} in {catalog.url}{why}", lacking or (name,))


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
