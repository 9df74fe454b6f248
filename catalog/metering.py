"""What was used: the table `usage`, in which every commit says what its looks took and how many units they were.

A row is one operator's share of one commit. It comes in the same commit as the results, and of the looks that are in
it: so a unit is counted once, however often a run is killed and begun again, and whoever else looks at the same item.
What was spent on looks that are thrown away, because another run had committed them first, is the run's own.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pinakes.catalog.schema import RUN_ID, TIMESTAMP, N, column

TABLE = "usage"

#: Rows of `usage` beside those of operators: fetching and decoding, and what a run takes besides.
DECODE, RUN = "decode", "run"

#: The units that looks are counted in.
IMAGES, VIDEO_MINUTES = "images", "video_minutes"

OPERATOR = column(
    "operator",
    pa.string(),
    "name of the operator; decode: fetching and decoding; run: starting workers, opening models, transport, and work "
    "that was lost",
    nullable=False,
)
UNIT = column("unit", pa.string(), "images or video_minutes; null of run")
AMOUNT = column(
    "amount",
    pa.float64(),
    "units that were looked at and ended ok: pictures, or minutes of video, exactly; of decode what was decoded",
    nullable=False,
)
CPU_S = column("cpu_s", pa.float64(), "CPU seconds", nullable=False)
GPU_S = column(
    "gpu_s", pa.float64(), "seconds that a GPU was held, times the share of it that was held", nullable=False
)
DEVICE = column("device", pa.string(), "name of that GPU; null where none was used")

USAGE = pa.schema(
    [
        N,
        RUN_ID,
        column("job", pa.string(), "the job's name", nullable=False),
        column("recorded_at", TIMESTAMP, "when it was committed", nullable=False),
        OPERATOR,
        UNIT,
        AMOUNT,
        column(
            "rounded_amount",
            pa.int64(),
            "the same with each item's rounded up to whole units, as some services charge",
            nullable=False,
        ),
        CPU_S,
        GPU_S,
        DEVICE,
        column("bytes", pa.int64(), "bytes read from the source", nullable=False),
        column("requests", pa.int64(), "requests to an object store or server for them", nullable=False),
    ],
    metadata={"description": "what one operator did and took for one commit, by unit and device"},
)

#: What is measured: the columns of USAGE that say nothing of the commit.
MEASURES = pa.schema([field for field in USAGE if field.name not in ("n", "run_id", "job", "recorded_at")])
_KEYS = ["operator", "unit", "device"]
_SUMS = [name for name in MEASURES.names if name not in _KEYS]

#: Beside the columns of the ledger, until it is committed: what each look took.
METER = pa.schema([UNIT, AMOUNT, CPU_S, GPU_S, DEVICE])

#: Beside the tables of a commit, one of MEASURES: what was spent and belongs to no look.
SPENT = "_spent"


def of_looks(ledger: pa.Table) -> pa.Table:
    """MEASURES of the looks of a ledger with the columns of METER; nothing of one without."""
    if "cpu_s" not in ledger.column_names:
        return MEASURES.empty_table()
    none = pa.repeat(pa.scalar(0, pa.int64()), ledger.num_rows)
    rounded = pc.ceil(ledger["amount"]).cast(pa.int64())
    beside = {"rounded_amount": rounded, "bytes": none, "requests": none}
    return pa.table([beside[name] if name in beside else ledger[name] for name in MEASURES.names], MEASURES)


def spent(sums: Mapping[tuple[str, str | None], Sequence[float]]) -> pa.Table:
    """MEASURES of what belongs to no look.

    `sums` are by operator and unit: CPU seconds, amount, rounded amount, bytes, requests.
    """
    names = ["cpu_s", "amount", "rounded_amount", "bytes", "requests"]
    rows = [
        {"operator": operator, "unit": unit, "gpu_s": 0.0, **dict(zip(names, map(float, values), strict=True))}
        for (operator, unit), values in sums.items()
    ]
    return pa.Table.from_pylist(rows, MEASURES)


def of_run(cpu_s: float) -> pa.Table:
    """MEASURES of CPU seconds that are the run's own."""
    return spent({(RUN, None): [cpu_s, 0, 0, 0, 0]})


def total(tables: Iterable[pa.Table]) -> pa.Table:
    """The sums of tables of MEASURES, a row for each operator, unit and device."""
    rows = pa.concat_tables([MEASURES.empty_table(), *(table.cast(MEASURES) for table in tables)])
    sums = rows.group_by(_KEYS).aggregate([(name, "sum") for name in _SUMS])
    columns = [sums[name if name in _KEYS else f"{name}_sum"] for name in MEASURES.names]
    return pa.table(columns, MEASURES).sort_by([(key, "ascending") for key in _KEYS])


def as_lost(measures: pa.Table) -> pa.Table:
    """The same seconds and bytes as the run's own: without units."""
    return _filled(MEASURES, measures, {"operator": RUN, "unit": None, "amount": 0.0, "rounded_amount": 0})


def usage(measures: pa.Table, run_id: str, job: str, n: int = 0) -> pa.Table:
    """MEASURES of a run as rows of USAGE, as of now; `n` is 0 before they are committed."""
    return _filled(USAGE, measures, {"n": n, "run_id": run_id, "job": job, "recorded_at": datetime.now(UTC)})


def _filled(schema: pa.Schema, rows: pa.Table, values: Mapping[str, Any]) -> pa.Table:
    """The columns of a schema: of one value where there is one for it, else those of the rows."""
    columns = [
        pa.repeat(pa.scalar(values[field.name], field.type), rows.num_rows)
        if field.name in values
        else rows[field.name]
        for field in schema
    ]
    return pa.table(columns, schema)
