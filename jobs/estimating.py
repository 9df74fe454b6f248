"""What a run over a plan's work will take and cost, with a range: units, times the rates of rates.py."""

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa

from pinakes.catalog import Catalog, metering
from pinakes.catalog.metering import DECODE, IMAGES, RUN, VIDEO_MINUTES
from pinakes.catalog.tariffs import Tariff
from pinakes.cluster.connection import available_cores, connected, worker_memory_bytes
from pinakes.jobs.budget import Earlier
from pinakes.jobs.look import Limits
from pinakes.jobs.looker_process import Job
from pinakes.jobs.planning import MIN_CHUNK, Plan, PlanSummary, video_fingerprints
from pinakes.jobs.rates import (
    CONTAINERS,
    ENOUGH,
    FEW,
    NOTHING,
    STILLS,
    STRETCHES,
    Overhead,
    Range,
    Rate,
    Rates,
    Sampler,
    bootstrapped,
    measurable,
    metered,
)
from pinakes.jobs.spec import JobSpec
from pinakes.jobs.supervisor import BrokenWorkerError
from pinakes.jobs.watch import DENSE_WINDOW_MS, MINUTE_MS
from pinakes.operators.device import DeviceOperator
from pinakes.operators.errors import OperatorError
from pinakes.operators.operator import Device, Operator, Sampling
from pinakes.operators.video import WINDOW_MS

#: Until the first items come: Ray, workers, models. As measured; see the README.
START_S = Range(8, 10, 16)

#: The looks that are due, by operator: at stills, and at videos, of which some windows may have been looked at.
_LOOKS = """
    SELECT operator, is_video, count(*) AS items,
           coalesce(sum(len([one FOR one IN looked IF one.operator = due.operator])), 0)::BIGINT AS windows
    FROM due JOIN listed ON listed.rowid = due.item LEFT JOIN looked USING (item) WHERE now GROUP BY ALL ORDER BY ALL
"""

#: Of the videos that are due, whose length earlier looks have told and whose they have not, and their bytes.
_VIDEOS = """
    SELECT count(ms) AS known, coalesce(sum(ms), 0)::BIGINT AS ms, count(*) - count(ms) AS unknown,
           coalesce(sum(size) FILTER (ms IS NULL), 0)::BIGINT AS bytes, count(size) FILTER (ms IS NULL) AS sized
    FROM unfinished JOIN listed ON listed.rowid = unfinished.item LEFT JOIN lengths USING (item_key)
    WHERE now AND is_video
"""
_LENGTHS = "SELECT item_key, max(duration_ms) AS ms FROM media WHERE duration_ms IS NOT NULL GROUP BY item_key"


@dataclass(frozen=True)
class OperatorEstimate:
    """What an operator, `decode` or `run` will take."""

    operator: str
    unit: str | None
    amount: Range | None  # units; None where the length of the videos is not known
    cpu_s: Range | None  # None where nothing says how long it takes
    gpu_s: float
    source: str  # metered, sampled, assumed or unknown
    items: int  # videos, or stills
    units: float  # that were metered or sampled


@dataclass(frozen=True)
class Estimate:
    """What a run will take and cost. Between low and high it will be in most cases, not in all."""

    seconds: Range | None  # of the whole run; None while something is unknown
    usd: Range | None  # by the tariff, behind what this month has used
    cpu_s: Range | None
    tariff: str
    workers: int
    operators: list[OperatorEstimate]
    basis: list[str] = field(default_factory=list)  # what it is made of, and what is not known, in words


class _Estimator:
    """Gathers what is needed."""

    def __init__(
        self, plan: Plan, operators: Mapping[str, Operator], catalog: Catalog | None, sampling: Sampling, device: Device
    ) -> None:
        self._plan = plan
        self._operators = operators
        self._catalog = catalog
        self._window_ms = DENSE_WINDOW_MS if sampling == "every-frame" else WINDOW_MS
        self._device = device
        self.looks = plan.ask(_LOOKS)
        videos = video_fingerprints(operators, sampling)
        stills = {name: one.fingerprint for name, one in operators.items()}
        wanted = [
            (row["operator"], unit_of(row), (videos if row["is_video"] else stills)[row["operator"]])
            for row in self.looks
        ]
        self.rates, self.overhead = metered(catalog, wanted)
        lengths = pa.table({"item_key": pa.array([], pa.string()), "ms": pa.array([], pa.int64())})
        if catalog is not None and plan.summary.videos and "media" in catalog.tables():
            lengths = catalog.sql(_LENGTHS)
        (self.videos,) = plan.ask(_VIDEOS, lengths=lengths)
        self.basis: list[str] = []
        self.process_s = 0.0
        known = self.videos["ms"] / MINUTE_MS
        #: Of all that are due; None where it is not known.
        self.minutes: Range | None = None if self.videos["unknown"] else Range(known, known, known)

    # --- a sample

    @property
    def _lacking(self) -> dict[str, set[str]]:
        """By unit the operators, and `decode`, of which little or nothing was metered, though a sample could tell."""
        found: dict[str, set[str]] = {IMAGES: set(), VIDEO_MINUTES: set()}
        for row in self.looks:
            name, unit = row["operator"], unit_of(row)
            for one in (name, DECODE):
                seen = measurable(self._operators[name]) and not self._elsewhere(name)
                rate = self.rates.get((one, unit))
                if seen and (rate is None or rate.units < ENOUGH[unit]):
                    found[unit].add(one)
        return found

    def _elsewhere(self, name: str) -> bool:
        return self._device == "cuda" and isinstance(self._operators[name], DeviceOperator)

    def sample(self, job: Job, report: Callable[[str], None]) -> None:
        """Look at some items for what is not known. Raises BrokenWorkerError, OperatorError."""
        lacking = self._lacking
        if not any(lacking.values()) and self.minutes is not None:
            return
        names = {"media", *lacking[IMAGES], *lacking[VIDEO_MINUTES]}
        if any(DECODE in unit for unit in lacking.values()) and not names - {"media", DECODE}:
            names |= {name for name, one in self._operators.items() if measurable(one) and not self._elsewhere(name)}
        chosen = {name: one for name, one in self._operators.items() if name in names}
        report("looking at a few of the items, to see how long it takes")
        for one in chosen.values():
            one.fetch("cpu", report)
        with closing(Sampler(replace(job, operators=chosen))) as looker:
            if lacking[IMAGES]:
                work = self._plan.sample(False, STILLS)
                self._learn(looker.stills(work), lacking)
                self.basis.append(f"looked at {work.num_rows} of the stills that are due")
            if lacking[VIDEO_MINUTES] or self.minutes is None:
                self._sample_videos(looker, lacking)
            self.process_s = looker.process_s

    def _learn(self, rates: Rates, lacking: Mapping[str, set[str]]) -> None:
        self.rates |= {(name, unit): rate for (name, unit), rate in rates.items() if name in lacking[unit]}

    def _sample_videos(self, looker: Sampler, lacking: Mapping[str, set[str]]) -> None:
        work = self._plan.sample(True, CONTAINERS)
        lengths = looker.lengths(work)
        unknown = self.videos["unknown"]
        if self.minutes is None and lengths:
            self.minutes = self._minutes(list(lengths.values()), work.num_rows)
            self.basis.append(f"opened {work.num_rows} of the {unknown:,} videos whose length is not known yet")
        if lacking[VIDEO_MINUTES] and lengths:
            opened = work.filter(pa.array([one in lengths for one in work["item_key"].to_pylist()]))
            self._learn(looker.stretches(opened.slice(0, STRETCHES), lengths), lacking)
            self.basis.append(f"looked at 20 s of {min(STRETCHES, opened.num_rows)} of the videos that are due")

    def _minutes(self, lengths: Sequence[tuple[int, int]], asked: int) -> Range:
        """All videos, from the bytes and milliseconds of some: by their bytes if the listing has them, or by number."""
        sizes, ms = np.array(lengths, float).T
        if asked == self._plan.summary.videos:  # all of them: what could not be opened takes no time
            return Range(*[float(ms.sum()) / MINUTE_MS] * 3)
        by_size = self.videos["sized"] == self.videos["unknown"]
        per = bootstrapped(ms / MINUTE_MS, sizes if by_size else np.ones(len(ms)))
        if not by_size:
            per = per * (len(lengths) / asked)  # those that cannot be opened take no time
        more = per * float(self.videos["bytes"] if by_size else self.videos["unknown"])
        more = more.at_least(1.0 if len(lengths) < FEW else 0.2)
        known = self.videos["ms"] / MINUTE_MS
        return more + Range(known, known, known)

    # --- the sum

    def operators(self) -> Iterator[tuple[OperatorEstimate, Rate]]:
        """Every operator that is due, and decoding; without what takes no time worth the name."""
        decoded: dict[str, Range | None] = {}
        for row in self.looks:
            operator, unit = self._operators[row["operator"]], unit_of(row)
            amount: Range | None = Range(row["items"], row["items"], row["items"])
            if row["is_video"]:
                amount = self._minutes_of(row)
            if operator.sees in ("pictures", "every frame"):
                before = decoded.get(unit)
                decoded[unit] = max(before or amount, amount, key=lambda one: one.likely) if amount else None
            if operator.sees in ("pictures", "every frame") or (row["operator"], unit) in self.rates:
                yield self._one(row["operator"], unit, amount, row["items"])
        for unit, amount in decoded.items():
            yield self._one(DECODE, unit, amount, 0)

    def _minutes_of(self, row: Mapping[str, Any]) -> Range | None:
        """Minutes of the videos that an operator has to look at, without the windows that it has seen."""
        if self.minutes is None or not self._plan.summary.videos:
            return None
        share = row["items"] / self._plan.summary.videos
        seen = row["windows"] * self._window_ms / MINUTE_MS
        left = self.minutes * share
        return Range(max(0.0, left.low - seen), max(0.0, left.likely - seen), max(0.0, left.high - seen))

    def _one(self, name: str, unit: str, amount: Range | None, items: int) -> tuple[OperatorEstimate, Rate]:
        rate = self.rates.get((name, unit))
        if rate is None or amount is None:
            return OperatorEstimate(name, unit, amount, None, 0.0, "unknown", items, 0.0), Rate(NOTHING)
        source = "sampled" if rate.sampled else "metered"
        cpu_s, gpu_s = amount * rate.cpu_s, amount.likely * rate.gpu_s
        return OperatorEstimate(name, unit, amount, cpu_s, gpu_s, source, items, rate.units), rate


def estimate(
    plan: Plan,
    operators: Mapping[str, Operator],
    catalog: Catalog | None,
    spec: JobSpec,
    device: Device,
    tariff: Tariff,
    *,
    sample: bool,
    report: Callable[[str], None],
) -> Estimate | None:
    """What a run of this plan will take and cost; None when nothing is due.

    With `sample` it looks at some items where nothing was metered yet. What cannot be known is said in `basis`. Raises
    CorruptCatalogError.
    """
    if not plan.summary.due:
        return None
    known = _Estimator(plan, operators, catalog, spec.video.sample, device)
    workers = workers_of(spec.workers)
    if sample:
        memory_bytes = int(spec.worker_memory_gb * 2**30) if spec.worker_memory_gb else worker_memory_bytes(workers)
        limits = Limits(spec.max_pixels, spec.max_bytes)
        job = Job(dict(operators), limits, spec.time_limit_s, memory_bytes, workers, spec.video.sample)
        try:
            known.sample(job, report)
        except (BrokenWorkerError, OperatorError) as error:
            known.basis.append(f"no items could be looked at: {error}")
    return _summed(known, plan.summary, Earlier(tariff, catalog), workers)


def _summed(known: _Estimator, due: PlanSummary, earlier: Earlier, workers: int) -> Estimate:
    parts = list(known.operators())
    found = [one for one, _ in parts]
    if metered_units := {
        unit: max(one.units for one in found if (one.source, one.unit) == ("metered", unit))
        for unit in sorted({one.unit for one in found if one.unit and one.source == "metered"})
    }:
        said = " and ".join(f"{amount:,.0f} {unit.replace('_', ' ')}" for unit, amount in metered_units.items())
        known.basis.insert(0, f"by what was metered over {said}")
    if unknown := sorted({one.operator for one in found if one.cpu_s is None}):
        known.basis.append(f"nothing says yet how long this takes: {', '.join(unknown)}")
        return Estimate(None, None, None, earlier.tariff.name, workers, found, known.basis)
    looks = sum((one.cpu_s for one in found if one.cpu_s), NOTHING)
    overhead = known.overhead or Overhead.assumed(workers, known.process_s)
    start = Range(overhead.start_s, overhead.start_s, overhead.start_s)
    run = looks * overhead.share + start
    found.append(OperatorEstimate(RUN, None, None, run, 0.0, "metered" if overhead.metered else "assumed", 0, 0.0))
    if any(one.gpu_s for one in found):
        known.basis.append("the time is that of the CPUs: where GPUs are the limit it is longer; the cost has both")
    busy = max(1, min(workers, math.ceil((due.due - due.videos) / MIN_CHUNK) + due.videos))
    seconds = looks * ((1 + overhead.share) / busy) + START_S
    rates = [*(rate for _, rate in parts), Rate(NOTHING)]
    usd = [float(earlier.usd_of(_usage(found, rates, case))) for case in ("low", "likely", "high")]
    return Estimate(seconds, Range(*usd), looks + run, earlier.tariff.name, workers, found, known.basis)


def _usage(found: Sequence[OperatorEstimate], rates: Sequence[Rate], case: str) -> pa.Table:
    """What it will be in the table `usage`."""
    rows = []
    for one, rate in zip(found, rates, strict=True):
        amount = getattr(one.amount, case) if one.amount else 0.0
        rows.append(
            {
                "operator": one.operator,
                "unit": one.unit,
                "amount": amount,
                "rounded_amount": _rounded(one, amount, case),
                "cpu_s": getattr(one.cpu_s, case),
                "gpu_s": one.gpu_s,
                "device": rate.device,
                "bytes": round(amount * rate.bytes),
                "requests": round(amount * rate.requests),
            }
        )
    return metering.usage(pa.Table.from_pylist(rows, metering.MEASURES), "", "")


def _rounded(one: OperatorEstimate, amount: float, case: str) -> int:
    """Minutes, each video's rounded up: by none of one, by half of one each, or by nearly all of one."""
    more = {"low": 0.0, "likely": 0.5, "high": 1.0}[case] * one.items if one.unit == VIDEO_MINUTES else 0.0
    return max(math.ceil(amount + more), one.items)


def unit_of(row: Mapping[str, Any]) -> str:
    """The unit of a look at a still or a video."""
    return VIDEO_MINUTES if row["is_video"] else IMAGES


def workers_of(asked: int | None) -> int:
    """Workers that a run would have."""
    if os.environ.get("RAY_ADDRESS"):
        with connected(asked) as workers:
            return workers
    return min(asked, available_cores()) if asked else available_cores()
