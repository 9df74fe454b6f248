"""What a run has to do: the listing less what the ledger says is done. In DuckDB, which spills to disk.

Nothing here writes to the catalogue but `write_chunks`, which `run` alone calls.
"""

import io
import math
import random
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from pinakes.catalog import Catalog
from pinakes.catalog.sql import reading
from pinakes.jobs.listing import LISTING_SCHEMA, Listing
from pinakes.jobs.pipeline import Chunk
from pinakes.jobs.rows import WORK
from pinakes.operators.errors import ErrorCode
from pinakes.operators.formats import VIDEOS
from pinakes.operators.operator import Operator, Sampling

if TYPE_CHECKING:
    from pinakes.jobs.estimating import Estimate

#: DuckDB's own memory; beyond it the plan goes to a temporary folder.
MEMORY = "700MB"
#: Each takes its share of the memory: on a machine with 64 cores a plan for a million items would spill all the time.
THREADS = 4
MAX_CHUNKS = 5000
MIN_CHUNK, FULL_CHUNK = 4, 64
VIDEO_CHUNK = 8
ROW_GROUPS_PER_FILE = 64
#: A killed run leaves its work behind; no run takes longer than this.
KEPT_DAYS = 30

#: The ledger of the operators in question: their newest look at each item with the fingerprint they have now.
_KNOWN = """
    CREATE TABLE known AS
    SELECT item_key, fingerprint, max(attempt) AS attempt, arg_max(status, attempt) AS status,
           arg_max(error_code, attempt) AS error_code
    FROM ledger SEMI JOIN wanted USING (fingerprint)
    WHERE window_start_ms IS NULL
    GROUP BY item_key, fingerprint
"""

#: One row per item and operator that is not done, with what to do about it.
_DUE = """
    CREATE TABLE due AS
    SELECT listed.rowid AS item, wanted.operator, wanted.fingerprint, coalesce(known.attempt, 0) + 1 AS attempt,
           coalesce(known.status = 'failed', false) AS failed,
           CASE WHEN known.status IS NULL OR known.status <> 'failed' THEN $fresh
                WHEN list_contains($transient, known.error_code) THEN true
                ELSE $failed END AS now
    FROM listed JOIN wanted USING (is_video) LEFT JOIN known USING (item_key, fingerprint)
    WHERE known.status IS NULL OR known.status = 'failed'
       -- An older version has come back, behind which a newer one stands in the ledger: to count, it needs a new look.
       OR listed.item_key IN (SELECT item_key FROM seen WHERE NOT newest)
"""

#: One row per item that is not done.
_ITEMS = """
    CREATE TABLE unfinished AS
    SELECT item, bool_or(failed) AS failed, bool_or(now) AS now,
           CASE WHEN bool_or(failed) THEN 'failed'
                WHEN any_value(listed.item_key) IN (SELECT item_key FROM seen WHERE newest) THEN 'again'
                WHEN any_value(listed.uri) IN (SELECT uri FROM seen) THEN 'changed'
                ELSE 'new' END AS state
    FROM due JOIN listed ON listed.rowid = due.item GROUP BY item
"""

#: What of that has no place in a budget of so many items: those that failed before come last.
_BEYOND = """
    INSERT INTO beyond
    SELECT item FROM unfinished JOIN listed ON listed.rowid = unfinished.item WHERE now AND is_video = $is_video
    ORDER BY failed, uri OFFSET $most
"""

#: Of the videos that are due the looks at windows that stand: those that went well, and those of this very attempt.
_LOOKED = """
    CREATE TABLE looked AS
    SELECT due.item, list(DISTINCT {'operator': due.operator, 'window_start_ms': ledger.window_start_ms}) AS looked
    FROM ledger JOIN listed USING (item_key)
    JOIN due ON due.item = listed.rowid AND due.fingerprint = ledger.fingerprint
    WHERE ledger.window_start_ms IS NOT NULL AND due.now AND (ledger.status = 'ok' OR ledger.attempt >= due.attempt)
    GROUP BY due.item
"""

_WORK = """
    SELECT listed.uri, listed.item_key, listed.size, listed.mtime, listed.etag, listed.error_code,
           listed.error_message, list(due.operator ORDER BY due.operator) AS operators,
           list(due.fingerprint ORDER BY due.operator) AS fingerprints,
           list(due.attempt::INTEGER ORDER BY due.operator) AS attempts,
           listed.is_video, any_value(looked.looked) AS looked,
           NULL AS content_id, NULL AS window_start_ms, NULL AS window_end_ms
    FROM due JOIN listed ON listed.rowid = due.item LEFT JOIN looked USING (item)
    WHERE due.now AND listed.is_video = $is_video {chosen}
    GROUP BY ALL ORDER BY listed.uri
"""

#: Of these as many as are wanted, as if chosen by lot, but the same ones each time.
_CHOSEN = """
    AND due.item IN (
        SELECT item FROM unfinished JOIN listed ON listed.rowid = unfinished.item WHERE now AND is_video = $is_video
        ORDER BY hash(listed.item_key) LIMIT $most
    )
"""


@dataclass(frozen=True)
class PlanSummary:
    """Items by what is to be done about them, and looks (item x operator) to do."""

    source: str
    items: int
    new: int
    changed: int
    again: int  # known items that an operator has not seen with its present model and settings
    failed: int  # they stay failed until `pinakes retry`, but for transient failures
    done: int
    gone: int  # looked at by an earlier run over this source, and not there any more
    due: int  # items that this run looks at
    looks: dict[str, int]  # by operator
    videos: int  # of those that are due
    passed_over: int  # files whose names say that they are no media
    beyond: dict[str, int] = field(default_factory=dict)  # images and videos that the job's budget leaves for later
    outside: dict[str, int] = field(default_factory=dict)  # those of a kind that the budget does not name
    remarks: list[str] = field(default_factory=list)  # what one should know of the operators with these settings
    estimate: "Estimate | None" = None  # of the time and the cost of what is due


class Plan:
    """The work of a run, in a temporary DuckDB database. `since` is the last commit that it took into account."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, summary: PlanSummary, since: int) -> None:
        self._connection = connection
        self.summary = summary
        self.since = since

    @property
    def readable(self) -> str | None:
        """An item of the source that an earlier run could read, if there is one."""
        found = self._connection.execute(
            "SELECT any_value(uri) FROM listed JOIN known USING (item_key) WHERE known.status = 'ok'"
        ).fetchall()
        return found[0][0] if found else None

    def ask(self, query: str, **tables: pa.Table) -> list[dict[str, Any]]:
        """A question to the plan's own tables, and to others beside them."""
        for name, table in tables.items():
            self._connection.register(name, table)
        rows: list[dict[str, Any]] = self._connection.sql(query).to_arrow_table().to_pylist()
        return rows

    def sample(self, is_video: bool, most: int) -> pa.Table:
        """So many of the items that are due, as WORK, as if chosen by lot; the same ones each time."""
        values = {"is_video": is_video, "most": most}
        return self._connection.sql(_WORK.format(chosen=_CHOSEN), params=values).to_arrow_table().cast(WORK)

    def write_chunks(self, catalog: Catalog, run_id: str, workers: int, full: int = FULL_CHUNK) -> list[Chunk]:
        """Write the work as Parquet files beside the tables, where every worker can read it, a row group a chunk.

        A chunk has `full` stills where there are enough of them, or some videos.
        """
        chunks: list[Chunk] = []
        for is_video, items, least, most in (
            (False, self.summary.due - self.summary.videos, MIN_CHUNK, full),
            (True, self.summary.videos, 1, VIDEO_CHUNK),
        ):
            if items:
                size = chunk_size(items, workers, most, least)
                found = self._connection.sql(_WORK.format(chosen=""), params={"is_video": is_video})
                reader = found.to_arrow_reader(size * ROW_GROUPS_PER_FILE)
                batches = (pa.Table.from_batches([batch]) for batch in reader)
                chunks += write_work(catalog, run_id, batches, size, len(chunks))
        return chunks


def write_windows(catalog: Catalog, run_id: str, windows: Sequence[pa.Table], first: int) -> list[Chunk]:
    """Write the windows of long videos, each a chunk if there are not too many; their numbers begin with `first`."""
    size = math.ceil(sum(table.num_rows for table in windows) / MAX_CHUNKS)
    return write_work(catalog, run_id, windows, size, first)


def write_work(catalog: Catalog, run_id: str, work: Iterable[pa.Table], size: int, first: int) -> list[Chunk]:
    """Write work, in chunks of so many rows, whose numbers begin with `first`.

    They come in another order for every run, so that runs that overlap find done what the other did; but file by file,
    since a worker keeps the last one that it opened.
    """
    chunks: list[Chunk] = []
    pending = WORK.empty_table()
    for more in work:
        pending = pa.concat_tables([pending, more.cast(WORK)])
        while pending.num_rows >= size * ROW_GROUPS_PER_FILE:
            chunks += _write_file(
                catalog, run_id, pending.slice(0, size * ROW_GROUPS_PER_FILE), size, first + len(chunks)
            )
            pending = pending.slice(size * ROW_GROUPS_PER_FILE)
    if pending.num_rows:
        chunks += _write_file(catalog, run_id, pending, size, first + len(chunks))
    order = random.Random(run_id)
    files = {chunk.file: order.random() for chunk in chunks}
    return sorted(chunks, key=lambda chunk: (files[chunk.file], order.random()))


def _write_file(catalog: Catalog, run_id: str, work: pa.Table, size: int, first: int) -> list[Chunk]:
    buffer = io.BytesIO()
    pq.write_table(work, buffer, row_group_size=size)
    name = f"{plan_folder(run_id)}/{first:08d}.parquet"
    catalog.storage.write(name, buffer.getvalue())
    groups = math.ceil(work.num_rows / size)
    return [Chunk(first + group, f"{catalog.url}/{name}", group) for group in range(groups)]


def plan_folder(run_id: str) -> str:
    """Where a run keeps its work, for as long as it runs."""
    return f"_pinakes/plans/{run_id}"


def sweep(catalog: Catalog) -> None:
    """Remove the work of runs that were killed long ago; others may still be at it. Run ids sort by time."""
    oldest = f"{datetime.now(UTC) - timedelta(days=KEPT_DAYS):%Y%m%dT%H%M%S}"
    for run_id in catalog.storage.entries(plan_folder("").rstrip("/")):
        if run_id < oldest:
            catalog.storage.remove_folder(plan_folder(run_id))


def chunk_size(items: int, workers: int, full: int = FULL_CHUNK, least: int = MIN_CHUNK) -> int:
    """Small enough that all workers end together, large enough that Ray has at most some thousand chunks to hold.

    A chunk costs some 70 ms of CPU besides its work, in the driver, Ray and the actor.
    """
    even = math.ceil(items / (workers * 16))
    return max(min(max(even, least), full), math.ceil(items / MAX_CHUNKS))


@contextmanager
def make_plan(
    listing: Listing,
    source: str,
    operators: Mapping[str, Operator],
    catalog: Catalog | None,
    *,
    sampling: Sampling = "1fps",
    failed_only: bool = False,
    most: Mapping[str, int] | None = None,
) -> Iterator[Plan]:
    """List the source and hold it against the ledger; the plan lives as long as the `with`.

    `failed_only` takes what failed, whatever the reason, and leaves everything else; no more is due than `most`
    says, of `images` and of `videos`. Raises SourceError, CatalogError.
    """
    with (
        tempfile.TemporaryDirectory(prefix="pinakes-plan-") as folder,
        duckdb.connect(
            str(Path(folder) / "plan.duckdb"), config={"memory_limit": MEMORY, "threads": THREADS}
        ) as connection,
    ):
        connection.execute("SET preserve_insertion_order = false")
        _list(connection, listing)
        connection.register("wanted", _wanted(operators, sampling))
        with reading(catalog.url if catalog else ""):
            since = _attach_ledger(connection, catalog, source)
            connection.execute(_KNOWN)
        connection.execute(
            _DUE,
            {
                "fresh": not failed_only,
                "failed": failed_only,
                "transient": [code.value for code in ErrorCode if code.transient],
            },
        )
        connection.execute(_ITEMS)
        connection.execute("CREATE TABLE beyond (item BIGINT)")
        for kind, count in (most or {}).items():
            connection.execute(_BEYOND, {"is_video": kind == "videos", "most": count})
        for table in ("due", "unfinished"):
            connection.execute(f"UPDATE {table} SET now = false WHERE item IN (FROM beyond)")
        connection.execute(_LOOKED)
        yield Plan(connection, _summary(connection, source, listing.passed_over, most or {}), since)


def video_fingerprints(operators: Mapping[str, Operator], sampling: Sampling) -> dict[str, str]:
    """The fingerprint with which each operator looks at videos."""
    return {
        name: one.video_fingerprint(sampling, operators)
        for name, one in operators.items()
        if "video" in one.media_types
    }


def _wanted(operators: Mapping[str, Operator], sampling: Sampling) -> pa.Table:
    """Each operator with its fingerprint, once for stills and once for videos, as far as it is for them."""
    stills = {name: one.fingerprint for name, one in operators.items() if "image" in one.media_types}
    videos = video_fingerprints(operators, sampling)
    return pa.table(
        {
            "operator": [*stills, *videos],
            "fingerprint": [*stills.values(), *videos.values()],
            "is_video": [False] * len(stills) + [True] * len(videos),
        }
    )


def _list(connection: duckdb.DuckDBPyConnection, listing: Listing) -> None:
    """Make the table `listed`: each place once, with its item key."""
    connection.register("batch", LISTING_SCHEMA.empty_table())
    connection.execute("CREATE TABLE entries AS FROM batch")
    for batch in listing.batches():
        connection.register("batch", pa.table(batch))
        connection.execute("INSERT INTO entries FROM batch")
    connection.execute(
        "CREATE TABLE listed AS SELECT DISTINCT ON (uri) *, "
        "left(sha256(uri || chr(0) || version), 32) AS item_key, "
        "list_contains($videos, regexp_extract(lower(regexp_replace(uri, '^(https?://[^?#]*).*', '\\1')), "
        "'\\.([a-z0-9]+)$', 1)) AS is_video FROM entries ORDER BY uri, version",
        {"videos": sorted(VIDEOS)},
    )
    connection.execute("DROP TABLE entries")


def _attach_ledger(connection: duckdb.DuckDBPyConnection, catalog: Catalog | None, source: str) -> int:
    """Make `ledger`, `seen` (the versions of each place ever looked at, and whether it is the newest) and `gone`."""
    if catalog is None:
        connection.execute("CREATE TABLE seen (uri VARCHAR, item_key VARCHAR, newest BOOLEAN)")
        connection.execute(
            "CREATE TABLE ledger (item_key VARCHAR, fingerprint VARCHAR, attempt INTEGER, status VARCHAR, "
            "error_code VARCHAR, window_start_ms BIGINT)"
        )
        connection.execute("CREATE TABLE gone AS SELECT 0 AS items")
        return 0
    ledger, pending, since = catalog.ledger()
    connection.register("applied_ledger", ledger)
    connection.register("pending_ledger", pending)
    connection.register("runs", catalog.table("runs").to_pyarrow_dataset())
    connection.execute("CREATE VIEW ledger AS FROM applied_ledger UNION ALL BY NAME FROM pending_ledger")
    connection.execute(
        "CREATE TABLE seen AS SELECT uri, item_key, max(n) = max(max(n)) OVER (PARTITION BY uri) AS newest "
        "FROM ledger GROUP BY uri, item_key"
    )
    connection.execute(
        "CREATE TABLE gone AS SELECT count(DISTINCT uri) AS items FROM ledger "
        "SEMI JOIN (SELECT run_id FROM runs WHERE source = $source) USING (run_id) ANTI JOIN listed USING (uri)",
        {"source": source},
    )
    return since


def _summary(
    connection: duckdb.DuckDBPyConnection, source: str, passed_over: int, most: Mapping[str, int]
) -> PlanSummary:
    states = dict(connection.execute("SELECT state, count(*) FROM unfinished GROUP BY state").fetchall())
    items, due, gone = connection.execute(
        "SELECT (SELECT count(*) FROM listed), (SELECT count(*) FROM unfinished WHERE now), (SELECT items FROM gone)"
    ).fetchall()[0]
    videos = connection.execute(
        "SELECT count(*) FROM unfinished JOIN listed ON listed.rowid = unfinished.item WHERE now AND is_video"
    ).fetchall()[0][0]
    looks = dict(
        connection.execute("SELECT operator, count(*) FROM due WHERE now GROUP BY operator ORDER BY 1").fetchall()
    )
    left = dict(
        connection.execute(
            "SELECT if(is_video, 'videos', 'images') AS kind, count(*) "
            "FROM beyond JOIN listed ON listed.rowid = beyond.item GROUP BY kind ORDER BY kind"
        ).fetchall()
    )
    return PlanSummary(
        source=source,
        items=items,
        new=states.get("new", 0),
        changed=states.get("changed", 0),
        again=states.get("again", 0),
        failed=states.get("failed", 0),
        done=items - sum(states.values()),
        gone=gone,
        due=due,
        looks=looks,
        videos=videos,
        passed_over=passed_over,
        beyond={kind: count for kind, count in left.items() if most.get(kind)},
        outside={kind: count for kind, count in left.items() if not most.get(kind)},
    )
