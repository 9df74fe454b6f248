"""What a unit takes: CPU seconds and more for a still or a minute of video, by operator, with a range.

Either as runs have metered it with the same model and settings (the table `usage`), or of a handful of the items that
are due, looked at once more than once in a process like a worker's; nothing of that is kept.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from pinakes.catalog import Catalog
from pinakes.catalog.metering import DECODE, IMAGES, RUN, SPENT, TABLE, VIDEO_MINUTES
from pinakes.jobs.looker_process import Job
from pinakes.jobs.rows import WORK, Tables, without_operators
from pinakes.jobs.supervisor import Supervisor
from pinakes.jobs.watch import MINUTE_MS, OPENED
from pinakes.operators.operator import Operator

#: Commits, or for videos runs, whose rates count: the newest.
NEWEST = 200
#: The range is as wide as this at least, however much two commits were alike: other machines, other hours. And as this
#: where fewer than FEW are known.
LEAST, LEAST_OF_FEW, FEW = 0.1, 0.3, 5

#: Fewer units say less than a sample: most of what a process takes for them, it takes at its start.
ENOUGH = {IMAGES: 100, VIDEO_MINUTES: 5}

#: Of what is due, what is looked at: stills, containers of videos, and of some of these a stretch of their middle.
STILLS, CONTAINERS, STRETCHES, STRETCH_MS = 16, 16, 3, 20_000
#: What a run takes beside looks where nothing was metered yet, as runs on two cores have: CPU seconds of the driver's
#: start and of each worker's, to which come those of the process that opens its models, and for each second of a look.
DRIVER_S, WORKER_S, SHARE = 5.0, 1.5, 0.06
#: That process, where no sample has told.
PROCESS_S = 3.0
#: Draws of the bootstrap.
DRAWS = 2000


@dataclass(frozen=True)
class Range:
    """What is likely, and between which it will be most of the time: in 8 of 10 cases, as far as one can know."""

    low: float
    likely: float
    high: float

    def __add__(self, other: "Range") -> "Range":
        return Range(self.low + other.low, self.likely + other.likely, self.high + other.high)

    def __mul__(self, other: "Range | float") -> "Range":
        by = other if isinstance(other, Range) else Range(other, other, other)
        return Range(self.low * by.low, self.likely * by.likely, self.high * by.high)

    def at_least(self, margin: float) -> "Range":
        """The same, or wider."""
        return Range(min(self.low, self.likely / (1 + margin)), self.likely, max(self.high, self.likely * (1 + margin)))


NOTHING = Range(0, 0, 0)


@dataclass(frozen=True)
class Rate:
    """What a unit takes of an operator, or of decoding; and how many units that is known from."""

    cpu_s: Range
    gpu_s: float = 0.0
    device: str | None = None
    bytes: float = 0.0
    requests: float = 0.0
    units: float = 0.0
    sampled: bool = False


@dataclass(frozen=True)
class Overhead:
    """What a run takes besides: CPU seconds of its start, and then for each of a look's."""

    start_s: float
    share: float
    metered: bool = True

    @classmethod
    def assumed(cls, workers: int, process_s: float) -> "Overhead":
        """Of so many workers, whose processes take so many CPU seconds to start."""
        return cls(DRIVER_S + workers * (WORKER_S + (process_s or PROCESS_S)), SHARE, metered=False)


#: By operator and unit.
Rates = dict[tuple[str, str], Rate]

_METERED = """
    WITH asked AS (
        SELECT DISTINCT run_id, key AS operator, value->>'$.fingerprint' AS images,
               value->>'$.video_fingerprint' AS video_minutes
        FROM runs, json_each(runs.operators)
    ), wanted(operator, unit, fingerprint) AS (VALUES {wanted}), matching AS (
        SELECT usage.* FROM usage JOIN asked USING (run_id, operator) JOIN wanted USING (operator, unit)
        WHERE fingerprint = if(unit = 'images', images, video_minutes)
        UNION ALL
        FROM usage WHERE operator = 'decode' AND unit IS NOT NULL
    )
    -- The units of a long video come with its last window, those of its looks with each: so videos are taken by runs.
    SELECT operator, unit, max(n) AS n, sum(amount) AS amount, sum(cpu_s) AS cpu_s, sum(gpu_s) AS gpu_s,
           any_value(device) AS device, sum(bytes)::DOUBLE AS bytes, sum(requests)::DOUBLE AS requests
    FROM matching GROUP BY operator, unit, if(unit = 'images', n::VARCHAR, run_id)
    QUALIFY row_number() OVER (PARTITION BY operator, unit ORDER BY max(n) DESC) <= {newest}
"""

#: Of the newest runs the CPU seconds of `run`, and of looks, by when: while all workers start, and later.
_OVERHEAD = """
    WITH rows AS (
        SELECT run_id, n, cpu_s, operator = 'run' AS of_run,
               recorded_at <= min(recorded_at) OVER (PARTITION BY run_id) + INTERVAL {start} SECOND AS starting
        FROM usage
    ), sums AS (
        SELECT coalesce(sum(cpu_s) FILTER (starting AND of_run), 0) AS start_run,
               coalesce(sum(cpu_s) FILTER (starting AND NOT of_run), 0) AS start_looks,
               coalesce(sum(cpu_s) FILTER (NOT starting AND of_run), 0) AS later_run,
               coalesce(sum(cpu_s) FILTER (NOT starting AND NOT of_run), 0) AS later_looks
        FROM rows GROUP BY run_id ORDER BY max(n) DESC LIMIT 20
    )
    SELECT sum(later_run) AS later_run, sum(later_looks) AS later_looks, list(start_run) AS start_run,
           list(start_looks) AS start_looks
    FROM sums
"""
#: A run's workers have all started so many seconds after its first commit; and what is later says something of a run
#: when it is so many CPU seconds of looks.
STARTING_S, ENOUGH_S = 60, 120


def metered(catalog: Catalog | None, wanted: Iterable[tuple[str, str, str]]) -> tuple[Rates, Overhead | None]:
    """What runs have metered, of operators, units and fingerprints. Nothing of a catalogue that was never metered."""
    if catalog is None or TABLE not in catalog.tables():
        return {}, None
    values = ", ".join(f"({', '.join(map(_quoted, one))})" for one in wanted)
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in catalog.sql(_METERED.format(wanted=values, newest=NEWEST)).to_pylist():
        found.setdefault((row["operator"], row["unit"]), []).append(row)
    rates = {key: rate for key, rows in found.items() if (rate := _rate(rows))}
    (over,) = catalog.sql(_OVERHEAD.format(start=STARTING_S)).to_pylist()
    if not over["start_run"]:
        return rates, None
    share = over["later_run"] / over["later_looks"] if (over["later_looks"] or 0) >= ENOUGH_S else SHARE
    starts = np.array(over["start_run"]) - share * np.array(over["start_looks"])
    return rates, Overhead(max(0.0, float(np.median(starts))), share)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _rate(rows: Sequence[Mapping[str, Any]]) -> Rate | None:
    amount, cpu_s = (np.array([row[name] for row in rows], float) for name in ("amount", "cpu_s"))
    units = float(amount.sum())
    if units <= 0:
        return None
    some = amount > 0
    low, high = _quantiles(cpu_s[some] / amount[some], amount[some])
    likely = float(cpu_s.sum()) / units
    total = {name: sum(row[name] for row in rows) / units for name in ("gpu_s", "bytes", "requests")}
    device = next((row["device"] for row in rows if row["device"]), None)
    cpu = Range(min(low, likely), likely, max(high, likely)).at_least(LEAST if some.sum() >= FEW else LEAST_OF_FEW)
    return Rate(cpu, device=device, units=units, **total)


def _quantiles(values: np.ndarray, weights: np.ndarray) -> tuple[float, float]:
    """Below and above which a tenth of the weight lies."""
    order = np.argsort(values)
    below = np.cumsum(weights[order]) / weights.sum()
    low, high = (values[order][np.searchsorted(below, share - 1e-9)] for share in (0.1, 0.9))
    return float(low), float(high)


# --- a sample


class Sampler:
    """Looks at some items in a process of its own, as a worker does, and forgets what it saw. Close it."""

    def __init__(self, job: Job) -> None:
        """`job` has the operators that are to be measured, with `media`; their models are here."""
        self._operators = job.operators
        self._supervisor = Supervisor(job)
        #: CPU seconds of its start, once it has.
        self.process_s = 0.0

    def close(self) -> None:
        self._supervisor.close()

    def stills(self, work: pa.Table) -> Rates:
        """Rates of those stills, each looked at twice.

        The first look at pictures of a size costs more than all others: how many sizes there are nobody knows.
        """
        items = [self._with(item) for item in work.to_pylist()]
        one_by_one = [pa.Table.from_pylist([item], WORK) for item in items if item["operators"]]
        self._start(one_by_one)
        first, again = (self._rates([*map(self._look, one_by_one)], [1.0] * len(one_by_one), IMAGES) for _ in range(2))
        return {
            key: replace(rate, cpu_s=Range(rate.cpu_s.low, (rate.cpu_s.likely + of_first.likely) / 2, of_first.high))
            for key, rate in again.items()
            for of_first in [first[key].cpu_s]
        }

    def lengths(self, work: pa.Table) -> dict[str, tuple[int, int]]:
        """Bytes and milliseconds of those videos that can be opened and say it, by item key."""
        media = self._operators["media"]
        fields = {"operators": ["media"], "fingerprints": [media.fingerprint], "attempts": [1], "looked": None}
        found = {}
        for item in work.to_pylist():
            opened = self._look(pa.Table.from_pylist([{**item, **fields}], WORK)).get(OPENED)
            for one in opened.to_pylist() if opened is not None else ():
                if one["size"] and one["duration_ms"]:
                    found[one["item_key"]] = one["size"], one["duration_ms"]
        return found

    def stretches(self, work: pa.Table, lengths: Mapping[str, tuple[int, int]]) -> Rates:
        """Rates of a stretch of the middle of each of those videos."""
        windows, minutes = [], []
        for item in map(self._with, work.to_pylist()):
            _, length = lengths.get(item["item_key"], (0, 0))
            start = max(0, (length - STRETCH_MS) // 2)
            end = min(length, start + STRETCH_MS)
            window = {"looked": None, "window_start_ms": start, "window_end_ms": end}
            if length and item["operators"]:
                windows.append(pa.Table.from_pylist([{**item, **window}], WORK))
                minutes.append((end - start) / MINUTE_MS)
        self._start(windows)
        return self._rates([*map(self._look, windows)], minutes, VIDEO_MINUTES)

    def _start(self, work: Sequence[pa.Table]) -> None:
        """A first look, which starts the process, and is slow."""
        for one in work[:1]:
            run = [row["cpu_s"] for row in self._look(one)[SPENT].to_pylist() if row["operator"] == RUN]
            self.process_s = max(self.process_s, sum(run))

    def _look(self, work: pa.Table) -> Tables:
        return self._supervisor.look(work)

    def _with(self, item: dict[str, Any]) -> dict[str, Any]:
        """The item with those operators alone that are measured."""
        others = [at for at, name in enumerate(item["operators"]) if not measurable(self._operators.get(name))]
        return without_operators(item, others) or {**item, "operators": []}

    def _rates(self, looked: Sequence[Tables], amounts: Sequence[float], unit: str) -> Rates:
        """What was looked at took, by operator; `amounts` are the units of each."""
        took: dict[str, np.ndarray] = {}
        # Not every item is due for every operator.
        among: dict[str, np.ndarray] = {}
        read = {"bytes": 0, "requests": 0}
        for at, tables in enumerate(looked):
            spent = [row for row in tables[SPENT].to_pylist() if row["operator"] == DECODE]
            read = {name: read[name] + sum(row[name] for row in spent) for name in read}
            for row in [*tables["ledger"].to_pylist(), *spent]:
                took.setdefault(row["operator"], np.zeros(len(looked)))[at] += row["cpu_s"]
                among.setdefault(row["operator"], np.zeros(len(looked), bool))[at] = True
        units = np.array(amounts)
        total = {name: value / units.sum() for name, value in read.items()} if took else {}
        return {
            (name, unit): Rate(
                bootstrapped(cpu_s[among[name]], units[among[name]]).at_least(LEAST),
                units=float(units[among[name]].sum()),
                sampled=True,
                **(total if name == DECODE else {}),
            )
            for name, cpu_s in took.items()
        }


def measurable(operator: Operator | None) -> bool:
    """Whether a sample can tell what it takes: it sees pictures or frames, here."""
    return operator is not None and operator.sees in ("pictures", "every frame")


def bootstrapped(values: np.ndarray, units: np.ndarray) -> Range:
    """The sum of the values over that of the units, and where it would be with another sample as large."""
    drawn = np.random.default_rng(0).integers(0, len(values), (DRAWS, len(values)))
    low, high = np.quantile(values[drawn].sum(axis=1) / units[drawn].sum(axis=1), (0.1, 0.9))
    return Range(float(low), float(values.sum() / units.sum()), float(high))
