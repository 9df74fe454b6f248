"""What a catalogue has cost, and what others would have charged: its usage, searches and what it keeps, billed.

Usage is in the table `usage`. Searches for faces are rows of `audit`. How many face vectors were kept, and for how
long, is in the history of the collections; how many bytes of tables, in the commit log: as they grew, whatever
compaction and vacuum have saved since, and without the few tables that no commit writes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from pinakes.catalog.billing import KEPT, KEPT_VECTORS, SEARCHED, Bill, By, bill, connect, key_of
from pinakes.catalog.errors import TariffError, UsageError
from pinakes.catalog.metering import TABLE, USAGE
from pinakes.catalog.sql import reading
from pinakes.catalog.tariffs import Tariff

if TYPE_CHECKING:
    from pinakes.catalog.catalog import Catalog

#: What a bill reads of USAGE.
_COLUMNS = [field.name for field in USAGE if field.name not in ("run_id", "bytes")]

_WITHIN = "make_timestamp(epoch_us({time})) >= $first AND make_timestamp(epoch_us({time})) < $end"
_USED = f"SELECT {', '.join(_COLUMNS)} FROM usage WHERE {_WITHIN.format(time='recorded_at')}"
_SEARCHED = f"""
    SELECT min(searched_at) AS searched_at FROM audit WHERE {_WITHIN.format(time="searched_at")} GROUP BY search_id
"""

#: The newest row of a name counts that is not of a copy in Milvus that was only begun, or that is no more.
_VECTORS = """
    SELECT CASE WHEN action = 'dropped' THEN 0 ELSE faces END AS amount, make_timestamp(epoch_us(recorded_at)) AS since,
           lead(make_timestamp(epoch_us(recorded_at))) OVER (PARTITION BY collection ORDER BY load) AS until
    FROM collections WHERE action NOT IN ('begun', 'removed')
"""
_BYTES = """
    SELECT sum(coalesce(list_sum([action.size FOR action IN actions]), 0)) OVER (ORDER BY n) AS amount,
           make_timestamp(epoch_us(committed_at)) AS since,
           lead(make_timestamp(epoch_us(committed_at))) OVER (ORDER BY n) AS until
    FROM commits
"""
#: From whole seconds to whole seconds, cut at midnight.
_BY_DAY = """
    WITH stretches AS (
        SELECT amount, date_trunc('second', since) AS since,
               date_trunc('second', least(coalesce(until, $now), $now)) AS until FROM ({kept})
    ), days AS (
        SELECT *, unnest(generate_series(since::DATE::TIMESTAMP, until, INTERVAL 1 DAY)) AS midnight
        FROM stretches WHERE amount > 0 AND until > since
    )
    SELECT midnight::DATE AS day, sum(amount::DECIMAL(38, 0) * date_diff(
               'second', greatest(since, midnight), least(until, midnight + INTERVAL 1 DAY)
           ))::DECIMAL(38, 0) AS unit_seconds
    FROM days WHERE midnight::DATE >= $first AND midnight::DATE < $end GROUP BY day ORDER BY day
"""


@dataclass(frozen=True)
class Consumption:
    """What is billed: of one calendar month (UTC), or of all time."""

    usage: pa.Table  # columns of USAGE
    searches: pa.Table  # SEARCHED
    vectors: pa.Table  # KEPT
    stored: pa.Table  # KEPT

    def bill(self, tariff: Tariff, by: By = "month") -> Bill:
        """Its bill by a tariff."""
        return bill(tariff, self.usage, self.vectors, self.searches, self.stored, by)


@dataclass(frozen=True)
class Compared:
    """What one month, day, operator or job costs by several tariffs."""

    key: str
    units: Decimal | None  # images or minutes that an operator looked at
    amounts: dict[str, Decimal | None]  # by the tariff's name; None where it has no such call


def consumption(catalog: "Catalog", month: date | None = None, now: datetime | None = None) -> Consumption:
    """What was used, searched and kept in the month that begins with that day, or ever, up to `now`.

    Raises UsageError when no run has metered anything, and CatalogError.
    """
    there = catalog.storage.entries()
    if TABLE not in there:
        raise UsageError(
            f"{catalog.url} has no table usage: nothing was metered yet. Every `pinakes run` that looks at something "
            "meters what that takes; looks before this version were not metered"
        )
    first, end = (date.min, date.max) if month is None else (month, (month + timedelta(31)).replace(day=1))
    span = {"first": first, "end": end}
    until = {"now": (now or datetime.now(UTC)).astimezone(UTC).replace(tzinfo=None)}

    def asked(table: str, query: str, schema: pa.Schema, **values: object) -> pa.Table:
        if table not in there:
            return schema.empty_table()
        with catalog.storage.reporting(f"reading table {table}"), reading(catalog.url), connect() as connection:
            connection.register(table, catalog.table(table).to_pyarrow_dataset())
            answer: pa.Table = connection.sql(query, params=values).to_arrow_table()
            return answer.cast(schema)

    return Consumption(
        asked(TABLE, _USED, pa.schema([USAGE.field(name) for name in _COLUMNS]), **span),
        asked("audit", _SEARCHED, SEARCHED, **span),
        asked("collections", _BY_DAY.format(kept=_VECTORS), KEPT, **span, **until),
        asked("commits", _BY_DAY.format(kept=_BYTES), KEPT, **span, **until),
    )


def compare(used: Consumption, tariffs: Sequence[Tariff], by: By = "operator") -> tuple[list[Compared], list[Bill]]:
    """The same consumption by several tariffs, side by side, and each one's bill.

    Raises TariffError when they are not of one currency, or two have the same name.
    """
    if len({tariff.name for tariff in tariffs}) < len(tariffs):
        raise TariffError(f"two tariffs are named {tariffs[0].name}: give yours another `name`")
    if len({tariff.currency for tariff in tariffs}) > 1:
        currencies = ", ".join(f"{tariff.name} in {tariff.currency}" for tariff in tariffs)
        raise TariffError(f"tariffs of several currencies cannot be compared ({currencies}): write yours in one")
    bills = [used.bill(tariff, by) for tariff in tariffs]
    units = _units(used.usage) if by == "operator" else {}
    amounts = [one.amounts() for one in bills]
    keys = sorted({*units, *(key for one in amounts for key in one)}, key=lambda key: (key.startswith("("), key))
    rows = []
    for key in keys:
        cells: dict[str, Decimal | None] = {}
        for tariff, one in zip(tariffs, amounts, strict=True):
            covered = by != "operator" or not tariff.calls or key in _covered(tariff)
            cells[tariff.name] = one.get(key, Decimal(0) if covered else None)
        rows.append(Compared(key, units.get(key), cells))
    return rows, bills


def _units(usage: pa.Table) -> dict[str, Decimal]:
    """Images and minutes by the key of their operator."""
    sums = usage.filter(pc.is_valid(usage["unit"])).group_by(["operator", "unit"]).aggregate([("amount", "sum")])
    return {key_of(row["operator"], row["unit"]): Decimal(f"{row['amount_sum']:.3f}") for row in sums.to_pylist()}


def _covered(tariff: Tariff) -> set[str]:
    """The keys of operators that a service has a call for."""
    found = {key_of(one, tariff.groups[call.group].unit) for call in tariff.calls.values() for one in call.operators}
    return found | {KEPT_VECTORS} if tariff.vector_month else found
