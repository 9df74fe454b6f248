"""The columns: those that every result table shares, and those of the catalogue's own tables.

Each field says in its metadata what it means and in which unit. An operator's own columns are in its file.
"""

import pyarrow as pa

TIMESTAMP = pa.timestamp("us", tz="UTC")


def column(name: str, kind: pa.DataType, description: str, nullable: bool = True) -> pa.Field:
    """A field whose metadata says what it means."""
    return pa.field(name, kind, nullable=nullable, metadata={"description": description})


URI = column("uri", pa.string(), "where the item is", nullable=False)
ITEM_KEY = column("item_key", pa.string(), "hash of uri and version, 32 hex digits", nullable=False)
CONTENT_ID = column("content_id", pa.string(), "hash of the file's bytes, 32 hex digits; null when it was not read")
FRAME_MS = column("frame_ms", pa.int64(), "presentation time of the frame in milliseconds; null for a still")
WINDOW_START_MS = column(
    "window_start_ms", pa.int64(), "start of the window of a long video; null for what is of the whole item"
)
MODEL = column("model", pa.string(), "name and version of the model that looked", nullable=False)
FINGERPRINT = column("fingerprint", pa.string(), "hash of all that can change the answer", nullable=False)
ATTEMPT = column("attempt", pa.int32(), "1 for the first look at this item with this fingerprint", nullable=False)
RUN_ID = column("run_id", pa.string(), "the run that looked", nullable=False)
N = column("n", pa.int64(), "the commit that brought the row", nullable=False)

#: In front of an operator's own columns, in every result table.
SHARED = pa.schema([URI, ITEM_KEY, CONTENT_ID, FRAME_MS, WINDOW_START_MS, MODEL, FINGERPRINT, ATTEMPT, RUN_ID, N])

#: What names one look: at one item or window, with one fingerprint, for the n-th time. Two rows of the ledger never
#: share it.
LOOK_SCHEMA = pa.schema([ITEM_KEY, FINGERPRINT, ATTEMPT, WINDOW_START_MS])
LOOK = LOOK_SCHEMA.names

LEDGER = pa.schema(
    [
        URI,
        ITEM_KEY,
        CONTENT_ID,
        column("operator", pa.string(), "name of the operator", nullable=False),
        MODEL,
        FINGERPRINT,
        WINDOW_START_MS,
        ATTEMPT,
        column("status", pa.string(), "ok, failed or skipped", nullable=False),
        column("results", pa.int64(), "rows found; 0 is a result as well", nullable=False),
        column("error_code", pa.string(), "why it failed or was skipped"),
        column("error_message", pa.string(), "the same in words"),
        column("finished_at", TIMESTAMP, "when the look ended", nullable=False),
        RUN_ID,
        N,
    ],
    metadata={"description": "a look of one operator at one item, or window of a video"},
)

COMMITS = pa.schema(
    [
        N,
        RUN_ID,
        column("commit_id", pa.string(), "random name by which its writer knows it again", nullable=False),
        column("committed_at", TIMESTAMP, "when it was written", nullable=False),
        column(
            "actions",
            pa.list_(
                pa.struct(
                    [
                        pa.field("table", pa.string(), nullable=False),
                        pa.field("path", pa.string(), nullable=False),
                        pa.field("size", pa.int64(), nullable=False),
                        pa.field("rows", pa.int64(), nullable=False),
                        pa.field("stats", pa.string(), nullable=False),
                    ]
                )
            ),
            "the parts that it adds, by table",
            nullable=False,
        ),
    ],
    metadata={"description": "a commit"},
)

RUNS = pa.schema(
    [
        RUN_ID,
        column("status", pa.string(), "started, finished, interrupted, failed, budget", nullable=False),
        column("job", pa.string(), "the job's name", nullable=False),
        column("source", pa.string(), "the source, spelled in full", nullable=False),
        column("spec", pa.string(), "the job as JSON", nullable=False),
        column("operators", pa.string(), "name, model and fingerprint of each operator as JSON", nullable=False),
        column("versions", pa.string(), "versions of what ran, as JSON", nullable=False),
        column("host", pa.string(), "host or cluster", nullable=False),
        column("items", pa.int64(), "items that were looked at"),
        column("ok", pa.int64(), "looks (item x operator) that ended ok"),
        column("failed", pa.int64(), "looks that failed"),
        column("skipped", pa.int64(), "looks that were skipped"),
        column("message", pa.string(), "why it failed, was interrupted or stopped"),
        column("recorded_at", TIMESTAMP, "when the run started or ended", nullable=False),
    ],
    metadata={"description": "the start or the end of a run"},
)

#: The catalogue's own tables. Operators bring the others.
OWN_TABLES = {"commits": COMMITS, "ledger": LEDGER, "runs": RUNS}


def result_schema(operator_columns: pa.Schema) -> pa.Schema:
    """The schema of a result table: the shared columns, then the operator's."""
    return pa.schema([*SHARED, *operator_columns])
