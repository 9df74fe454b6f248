"""Bills: what usage costs by a tariff, month by month, tier by tier, to the last digit.

The tiers of a calendar month (UTC) are walked by all units of that month in the order of time, whatever run, job or
operator they are of: who comes later in the month is billed by the later tiers. All of that is one statement of DuckDB
over decimal numbers, so that a million rows take seconds and no sum depends on how the usage was cut into rows.
"""

import calendar
import tempfile
import uuid
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Literal

import duckdb
import pyarrow as pa
from pyarrow.dataset import Dataset

from pinakes.catalog import billing_sql
from pinakes.catalog.metering import DECODE, IMAGES, RUN, VIDEO_MINUTES
from pinakes.catalog.schema import column
from pinakes.catalog.tariffs import SEARCHES, Call, Price, Tariff

By = Literal["month", "day", "operator", "job"]

#: What is kept, by the day: of face vectors (per collection) or of bytes, times the seconds that they were kept.
KEPT = pa.schema(
    [
        column("day", pa.date32(), "the day, UTC", nullable=False),
        column("unit_seconds", pa.decimal128(38, 0), "what was kept times the seconds of that day", nullable=False),
    ]
)

#: Searches for a face, as they came.
SEARCHED = pa.schema([column("searched_at", pa.timestamp("us", tz="UTC"), "when", nullable=False)])

#: Instead of a job or operator, of what is of none.
KEPT_VECTORS, KEPT_BYTES = "(face vectors)", "(tables)"

#: Bytes of a GB, as object stores charge it.
GB = 2**30

#: Where the last tier ends.
_NO_END = 10**18


def key_of(operator: str, unit: str | None) -> str:
    """The key of a line when operators are told apart: pictures and films are."""
    if operator == SEARCHES:
        return f"({SEARCHES})"
    return f"{operator} (video)" if unit == VIDEO_MINUTES else operator


@dataclass(frozen=True)
class Line:
    """One price of a bill and the units that are billed by it."""

    month: str  # YYYY-MM
    key: str  # the month, day, job or operator, as was asked for
    call: str  # what a service calls it, or CPU-hours and the like
    unit: str
    tier: str  # the units of the month that have this price; empty where there is one price
    units: Decimal
    price: Decimal
    per: int  # units of that price
    amount: Decimal
    confidence: str  # of the price: M, D, S or U, as in tariffs.py


@dataclass(frozen=True)
class NoCall:
    """Units of an operator for which the tariff has no call: they cost nothing by it."""

    operator: str
    unit: str
    units: Decimal


@dataclass(frozen=True)
class Bill:
    """What usage costs by a tariff, in the tariff's currency, not rounded."""

    tariff: Tariff
    lines: list[Line]
    no_call: list[NoCall]
    #: What was used and has no price in the tariff though it should: GPUs of other names, in words.
    unpriced: list[str]

    @property
    def total(self) -> Decimal:
        return sum((line.amount for line in self.lines), Decimal(0))

    def amounts(self) -> dict[str, Decimal]:
        """The amount of each key, in the order of the lines."""
        found: dict[str, Decimal] = {}
        for line in self.lines:
            found[line.key] = found.get(line.key, Decimal(0)) + line.amount
        return found

    @property
    def unconfirmed(self) -> Decimal:
        """How much of it is by prices that nobody has confirmed."""
        return sum((line.amount for line in self.lines if line.confidence == "U"), Decimal(0))


def bill(
    tariff: Tariff,
    usage: pa.Table | Dataset,
    vectors: pa.Table | None = None,
    searches: pa.Table | None = None,
    stored: pa.Table | None = None,
    by: By = "month",
) -> Bill:
    """What `usage` (the columns of USAGE, in any order of rows) costs by a tariff.

    `vectors` and `stored` are what was kept (KEPT), of face vectors and of bytes; `searches` are those for faces
    (SEARCHED). With `by` the lines are apart by day, operator or job too. Of operators that share a call the larger
    count of the month is billed, to who raised it.
    """
    with connect() as connection:
        _prepare(connection, tariff, usage, SEARCHED.empty_table() if searches is None else searches, by)
        lines = [*_calls(connection, tariff, by), *_machines(connection, tariff)]
        no_call, unpriced = _no_call(connection, tariff), _unpriced(connection, tariff)
        if vectors is not None and tariff.vector_month:
            lines += _kept(connection, vectors, tariff.vector_month, by, KEPT_VECTORS, "vector-months", 1)
        if vectors is not None and not tariff.vector_month and tariff.calls and vectors.num_rows:
            no_call.append(NoCall(KEPT_VECTORS, "vector-months", _months(connection, vectors)))
        if stored is not None and tariff.gb_month:
            lines += _kept(connection, stored, tariff.gb_month, by, KEPT_BYTES, "GB-months", GB)
    # What is of no job or operator comes last.
    lines.sort(key=lambda line: (line.month, line.key.startswith("("), line.key))
    return Bill(tariff, lines, no_call, unpriced)


def connect() -> duckdb.DuckDBPyConnection:
    """DuckDB in memory; what does not fit goes to the system's temporary folder."""
    spill = Path(tempfile.gettempdir(), f"pinakes-bill-{uuid.uuid4().hex}")
    return duckdb.connect(config={"python_enable_replacements": False, "temp_directory": str(spill)})


def _prepare(
    connection: duckdb.DuckDBPyConnection, tariff: Tariff, usage: pa.Table | Dataset, searches: pa.Table, by: By
) -> None:
    """The tables `used`, `mapped` (what call does an operator's work) and `steps` (of the price list of a pool)."""
    connection.register("usage", usage)
    connection.register("searched", searches)
    moment = billing_sql.MOMENT[by]
    connection.execute(
        billing_sql.USED.format(
            amount="rounded_amount" if tariff.rounding == "up" else "amount",
            exact=billing_sql.EXACT,
            searches=SEARCHES,
            images=IMAGES,
            moment=moment,
            n="n" if by in ("operator", "job") else "0",
            key=billing_sql.KEY[by].format(moment=moment),
        )
    )
    mapped, steps = [], []
    for name, call in tariff.calls.items():
        group = tariff.groups[call.group]
        pool = call.group if tariff.pooled else name
        mapped += [
            {"call": name, "pool": pool, "operator": one, "unit": group.unit, "free_with": call.free_with}
            for one in call.operators
        ]
        steps += [
            {"pool": pool, "step": number, "from": step.start, "to": step.end, "gifted": step.gifted}
            for number, step in enumerate(_steps(tariff, call))
        ]
    for name, rows, schema in (("mapped", mapped, billing_sql.MAPPED), ("steps", steps, billing_sql.STEPS)):
        connection.register(f"{name}_rows", pa.Table.from_pylist(rows, schema=schema))
        # The calls of a pool have the same steps.
        connection.execute(f"CREATE TEMP TABLE {name} AS SELECT DISTINCT * FROM {name}_rows")


@dataclass(frozen=True)
class _Step:
    """A stretch of the units of a month that have one price."""

    start: int
    end: int
    price: Decimal
    per: int
    confidence: str
    words: str
    gifted: bool = False


def _steps(tariff: Tariff, call: Call) -> list[_Step]:
    """The price list of a call: what is free with another call, the free allowance, the tiers."""
    group, start, steps = tariff.groups[call.group], 0, []
    if call.free_with:
        steps.append(_Step(0, 0, Decimal(0), 1, group.tiers[0].confidence, f"free with {call.free_with}", gifted=True))
    if group.free and tariff.free_allowance:
        start = group.free.units
        steps.append(_Step(0, start, Decimal(0), 1, group.free.confidence, f"free allowance of {start:,}"))
    free, below = start, 0
    for tier in group.tiers:
        words = f"{below + 1:,} to {tier.up_to:,}" if tier.up_to else f"over {below:,}" if below else ""
        end = free + tier.up_to if tier.up_to else _NO_END
        steps.append(_Step(start, end, tier.price, group.per, tier.confidence, words))
        start, below = end, tier.up_to or 0
    return steps


def _calls(connection: duckdb.DuckDBPyConnection, tariff: Tariff, by: By) -> list[Line]:
    """What the calls of a service cost."""
    # The order of the calls within a month or day does not matter, and so is not told.
    name = "pool" if by in ("month", "day") else "call"
    steps = {call.group if tariff.pooled else name: _steps(tariff, call) for name, call in tariff.calls.items()}
    units = {
        call.group if tariff.pooled else name: tariff.groups[call.group].unit for name, call in tariff.calls.items()
    }
    found = connection.execute(billing_sql.BILLED.format(name=name)).fetchall()
    together: dict[tuple[date, str, str], set[str]] = {}
    for month, key, title, calls, *_ in found:
        together.setdefault((month, key, title), set()).update(calls)
    lines = []
    for month, key, title, _, pool, number, amount in found:
        step = steps[pool][number]
        calls = ", ".join(sorted(together[month, key, title]))
        call = title if title == calls else f"{title}: {calls}"
        cost = amount * step.price / step.per
        lines.append(
            Line(
                f"{month:%Y-%m}",
                key,
                call,
                units[pool],
                step.words,
                amount,
                step.price,
                step.per,
                cost,
                step.confidence,
            )
        )
    return lines


def _machines(connection: duckdb.DuckDBPyConnection, tariff: Tariff) -> list[Line]:
    """What the hours and requests of machines cost."""
    lines = []

    def add(query: str, call: str, unit: str, size: int, price: Price) -> None:
        for month, key, amount in connection.execute(query).fetchall():
            if amount:
                units = Decimal(amount) / size
                cost = amount * price.price / (size * price.per)
                lines.append(
                    Line(f"{month:%Y-%m}", key, call, unit, "", units, price.price, price.per, cost, price.confidence)
                )

    cpu = tariff.cpu()
    if cpu:
        add("SELECT month, key, sum(cpu_s) FROM used GROUP BY ALL", "CPU", "hours", 3600, cpu)
    for device in _devices(connection):
        gpu = tariff.gpu(device)
        if gpu:
            connection.execute("SET VARIABLE device = ?", [device])
            query = "SELECT month, key, sum(gpu_s) FROM used WHERE device = getvariable('device') GROUP BY ALL"
            add(query, device, "hours", 3600, gpu)
    if tariff.request:
        add("SELECT month, key, sum(requests) FROM used GROUP BY ALL", "requests", "requests", 1, tariff.request)
    return lines


def _devices(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """The GPUs that were used."""
    found = connection.execute("SELECT DISTINCT device FROM used WHERE gpu_s > 0 ORDER BY 1").fetchall()
    return [device or "a GPU without a name" for (device,) in found]


def _unpriced(connection: duckdb.DuckDBPyConnection, tariff: Tariff) -> list[str]:
    return [
        f"{tariff.name} has no price of {device} ({tariff.market}), whose hours are left out: add it to `gpu_hour`"
        for device in _devices(connection)
        if tariff.cpu_hour and tariff.gpu(device) is None
    ]


def _no_call(connection: duckdb.DuckDBPyConnection, tariff: Tariff) -> list[NoCall]:
    """What was looked at by operators whose work no call of the service does."""
    if not tariff.calls:
        return []
    query = """
        SELECT operator, unit, sum(units) AS units FROM used ANTI JOIN mapped USING (operator, unit)
        WHERE unit IS NOT NULL AND operator NOT IN (?, ?) GROUP BY ALL HAVING sum(units) > 0 ORDER BY operator, unit
    """
    found = connection.execute(query, [DECODE, RUN]).fetchall()
    return [
        NoCall(f"({SEARCHES})", SEARCHES, units) if operator == SEARCHES else NoCall(operator, unit, units)
        for operator, unit, units in found
    ]


def _kept(
    connection: duckdb.DuckDBPyConnection, kept: pa.Table, price: Price, by: By, key: str, unit: str, size: int
) -> list[Line]:
    """What is kept for a month, pro rata by the second of that month."""
    connection.register("kept", kept)
    keys = {"month": "left(day::VARCHAR, 7)", "day": "day::VARCHAR"}
    query = billing_sql.KEPT.format(key=keys.get(by, f"'{key}'"))
    lines = []
    for month, name, unit_seconds in connection.execute(query).fetchall():
        seconds = size * _seconds(month)
        cost = unit_seconds * price.price / (seconds * price.per)
        units = Decimal(unit_seconds) / seconds
        words = (f"{month:%Y-%m}", name, key.strip("()"), unit, "")
        lines.append(Line(*words, units, price.price, price.per, cost, price.confidence))
    return lines


def _months(connection: duckdb.DuckDBPyConnection, kept: pa.Table) -> Decimal:
    """How many were kept times the months that they were."""
    connection.register("kept", kept)
    found = connection.execute(billing_sql.KEPT.format(key="''")).fetchall()
    return sum((Decimal(unit_seconds) / _seconds(month) for month, _, unit_seconds in found), Decimal(0))


def _seconds(month: date) -> int:
    return calendar.monthrange(month.year, month.month)[1] * 86400
