"""Which looks no view counts any more, and so what `optimize` may drop.

A look is superseded by a later attempt at the same, or by a look at a newer version of the file: neither comes back,
whatever is asked for. Or by a look with other settings or another model: it counts again when a run asks for them
again, and so it goes only when that is asked for.

These stay all the same: windows of a film that is not finished; every film while a run is at work; looks with settings
of a run at work, and with any while one has not yet said what its settings are; the look in which a face was seen by
which a person was named; and, where a collection of faces is of another model than what counts now, looks of its model,
for by them a load knows not to empty it.
"""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pinakes.catalog import live
from pinakes.catalog.face_collections import Collections
from pinakes.catalog.schema import LOOK, OWN_TABLES
from pinakes.catalog.sql import reading

if TYPE_CHECKING:
    from pinakes.catalog.catalog import Catalog

#: DuckDB's own memory, which its threads share; beyond it the lists of looks go to a temporary folder.
MEMORY, THREADS = "1GB", 4
#: What names a row's look and the commit that brought both. Of two looks alike, one forgotten between, that tells.
KEYS = [*LOOK, "n"]

#: As `latest_ledger` in sql.py: which looks count. `answers` has all that were ever given to an item by an operator.
_SUPERSEDED = """
    CREATE TABLE superseded AS
    WITH asked AS (
        SELECT fingerprint, max(recorded_at) AS asked_at, bool_or(run_id IN (SELECT run_id FROM at_work)) AS at_work
        FROM (
            SELECT unnest([value->>'$.fingerprint', value->>'$.video_fingerprint']) AS fingerprint, run_id, recorded_at
            FROM runs, json_each(runs.operators)
        ) GROUP BY fingerprint
    ), looks AS (
        SELECT uri, item_key, operator, model, fingerprint, window_start_ms, attempt, n FROM ledger WHERE n <= {last}
    ), whole AS (
        FROM looks WHERE window_start_ms IS NULL
    ), versions AS (
        SELECT uri, arg_max(item_key, n) AS newest FROM whole GROUP BY uri
    ), answers AS (
        SELECT uri, item_key, operator, fingerprint, any_value(model) AS model, max(attempt) AS attempt, max(n) AS n
        FROM whole GROUP BY ALL
    ), counting AS (
        SELECT uri, operator, fingerprint, model
        FROM answers JOIN versions USING (uri) LEFT JOIN asked USING (fingerprint)
        WHERE item_key = newest
        QUALIFY row_number() OVER (
            PARTITION BY uri, operator ORDER BY asked_at DESC NULLS LAST, n DESC, attempt DESC
        ) = 1
    ), windows AS (
        SELECT item_key, operator, fingerprint, window_start_ms, max(attempt) AS attempt
        FROM looks WHERE window_start_ms IS NOT NULL GROUP BY ALL
    ), films AS (
        SELECT DISTINCT item_key FROM windows
    ), judged AS (
        SELECT answers.*, coalesce(asked.at_work, false) AS at_work,
               answers.item_key <> versions.newest AS is_old, counting.fingerprint <> answers.fingerprint AS is_other,
               coalesce(
                   counting.model <> answers.model AND answers.model IN (SELECT model FROM collection_models), false
               ) AS is_indexed
        FROM answers JOIN versions USING (uri) LEFT JOIN counting USING (uri, operator)
        LEFT JOIN asked ON asked.fingerprint = answers.fingerprint
    )
    SELECT looks.item_key, looks.fingerprint, looks.attempt::INTEGER AS attempt, looks.window_start_ms, looks.n,
           CASE WHEN (looks.window_start_ms IS NULL AND looks.attempt < judged.attempt AND looks.n < judged.n)
                  OR looks.attempt < windows.attempt THEN 'attempt'
                WHEN judged.is_old AND NOT is_indexed THEN 'version'
                WHEN NOT judged.is_old AND judged.is_other AND NOT is_indexed AND NOT judged.at_work
                     AND NOT EXISTS (FROM at_work ANTI JOIN runs USING (run_id)) THEN 'settings'
           END AS why
    FROM looks JOIN judged USING (item_key, operator, fingerprint)
    LEFT JOIN windows USING (item_key, operator, fingerprint, window_start_ms)
    WHERE why IS NOT NULL AND ({with_films} OR looks.item_key NOT IN (FROM films))
"""

#: A person's references are looked up in `embeddings`, whatever counts there.
_KEEP_REFERENCES = """
    DELETE FROM superseded USING (
        SELECT DISTINCT item_key, fingerprint, attempt, window_start_ms, n FROM embeddings
        SEMI JOIN (SELECT face_id FROM people WHERE how = 'reference' AND face_id IS NOT NULL) AS named
        ON named.face_id = embeddings.subject_id
    ) AS kept
    WHERE superseded.item_key = kept.item_key AND superseded.fingerprint = kept.fingerprint
      AND superseded.attempt = kept.attempt AND superseded.n = kept.n
      AND superseded.window_start_ms IS NOT DISTINCT FROM kept.window_start_ms
"""

#: What a killed process had taken out of the ledger and not yet out of this table.
_LEFT = """
    INSERT INTO superseded
    SELECT DISTINCT item_key, fingerprint, attempt, window_start_ms, n, 'left' FROM "{table}" AS rows
    WHERE n IN (SELECT n FROM left_numbers) AND n <= {last} AND NOT EXISTS (
        FROM ledger WHERE ledger.item_key = rows.item_key AND ledger.fingerprint = rows.fingerprint
        AND ledger.attempt = rows.attempt AND ledger.n = rows.n
        AND ledger.window_start_ms IS NOT DISTINCT FROM rows.window_start_ms
    ) AND NOT EXISTS (
        FROM superseded AS there WHERE there.item_key = rows.item_key AND there.fingerprint = rows.fingerprint
        AND there.attempt = rows.attempt AND there.n = rows.n
        AND there.window_start_ms IS NOT DISTINCT FROM rows.window_start_ms
    )
"""


class Superseded:
    """The looks that are to be dropped; in a temporary DuckDB database, however many there are."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        #: The commits that these looks came with, in order; see `only`.
        self.numbers = np.zeros(0, np.int64)
        self.counts: dict[str, int] = dict(
            connection.execute("SELECT why, count(*) FROM superseded GROUP BY why ORDER BY why").fetchall()
        )

    def only(self, *why: str) -> None:
        """Drop the others from the list, and put it in order."""
        self._connection.execute("CREATE TABLE dropping AS FROM superseded WHERE why IN $why ORDER BY n", {"why": why})
        numbers = self._connection.execute("SELECT DISTINCT n FROM dropping ORDER BY n").fetchall()
        self.numbers = np.array([n for (n,) in numbers], np.int64)

    def hits(self, rows: pa.RecordBatch | pa.Table) -> np.ndarray:
        """Which rows (with the columns KEYS) are of these looks, as bools."""
        hit = np.zeros(rows.num_rows, bool)
        affected = np.flatnonzero(np.isin(rows["n"].to_numpy(), self.numbers))
        if not len(affected):
            return hit
        looks = pa.table({name: rows[name].take(pa.array(affected)) for name in KEYS})
        bounds = pc.min_max(looks["n"]).as_py()
        dropping = self._connection.sql(
            f"SELECT {', '.join(KEYS)} FROM dropping WHERE n BETWEEN $min AND $max", params=bounds
        ).to_arrow_table()
        looks = _joinable(looks).append_column("at", pa.array(affected))
        found = looks.join(_joinable(dropping).cast(looks.drop(["at"]).schema), KEYS, join_type="left semi")
        hit[found["at"].to_numpy()] = True
        return hit


@contextmanager
def superseded(catalog: "Catalog", last: int, left: Sequence[int] = ()) -> Iterator[Superseded]:
    """The looks up to commit `last` that are superseded, by why: attempt, version, settings.

    `left` are commits some of whose looks a killed process has taken out of the ledger and not out of all tables: these
    are `left`. Changes nothing. Raises CorruptCatalogError, StorageError.
    """
    at_work = [one.name for one in live.at_work(catalog.storage) if not one.is_short and not one.optimizes]
    tables = catalog.tables()
    with (
        tempfile.TemporaryDirectory(prefix="pinakes-optimize-") as folder,
        duckdb.connect(config={"memory_limit": MEMORY, "temp_directory": folder}) as connection,
        reading(catalog.url),
    ):
        connection.execute(f"SET threads = {THREADS}")
        connection.execute("SET preserve_insertion_order = false")
        for name in tables:
            if name in ("runs", "people", "embeddings", "ledger") or left:
                with catalog.storage.reporting(f"reading table {name}"):
                    connection.register(name, catalog.table(name).to_pyarrow_dataset())
        connection.register("at_work", pa.table({"run_id": pa.array(at_work, pa.string())}))
        models = sorted({one.model for one in Collections(catalog).all()})
        connection.register("collection_models", pa.table({"model": pa.array(models, pa.string())}))
        connection.register("left_numbers", pa.table({"n": pa.array(left, pa.int64())}))
        connection.execute(_SUPERSEDED.format(last=int(last), with_films=not at_work))
        if {"people", "embeddings"} <= set(tables) and _any(connection):
            connection.execute(_KEEP_REFERENCES)
        if left:
            for name in result_tables(catalog):
                connection.execute(_LEFT.format(table=name, last=int(last)))
        yield Superseded(connection)


def result_tables(catalog: "Catalog") -> list[str]:
    """The tables whose rows are of looks."""
    found = []
    for name in catalog.tables():
        columns = {field.name for field in catalog.table(name).schema().fields}
        if name not in OWN_TABLES and set(KEYS) <= columns:
            found.append(name)
    return found


def _any(connection: duckdb.DuckDBPyConnection) -> bool:
    return bool(connection.execute("SELECT 1 FROM superseded LIMIT 1").fetchall())


def _joinable(looks: pa.Table) -> pa.Table:
    """In a join no null equals another."""
    at = looks.column_names.index("window_start_ms")
    return looks.set_column(at, "window_start_ms", pc.fill_null(looks["window_start_ms"], -1))
