"""A run from end to end: list, plan, look, commit as it goes, and say how it went."""

import json
import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from pinakes.catalog import Catalog
from pinakes.catalog.catalog import new_run_id
from pinakes.catalog.commits import CommitLog
from pinakes.catalog.errors import NoCatalogError
from pinakes.cluster import watchdog
from pinakes.cluster.connection import connected
from pinakes.jobs.errors import SourceError, SpecError
from pinakes.jobs.fetch import fetch
from pinakes.jobs.interrupts import uninterrupted
from pinakes.jobs.listing import Listing, source_url
from pinakes.jobs.look import Limits, Tables
from pinakes.jobs.looker_process import Job
from pinakes.jobs.pipeline import look_at, look_name
from pinakes.jobs.planning import Plan, PlanSummary, make_plan, plan_folder
from pinakes.jobs.progress import Progress
from pinakes.jobs.spec import JobSpec, make_spec, read_spec
from pinakes.jobs.supervisor import concatenated
from pinakes.operators import models
from pinakes.operators.errors import ErrorCode, MediaError
from pinakes.operators.operator import Operator, available, create

#: Always part of a job: it says what an item is.
MEDIA = "media"
#: Rows wait in the driver up to this size for the next commit.
COMMIT_BYTES = 64 * 2**20
#: So many items in a row that cannot be fetched, and the source itself is questioned.
DOUBTFUL = 50

_ACCESS = [code.value for code in (ErrorCode.PERMISSION_DENIED, ErrorCode.UNREACHABLE, ErrorCode.NOT_FOUND)]


@dataclass
class RunSummary:
    """How a run went. `looks` counts item x operator, by operator and status; `errors` counts items by code."""

    run_id: str
    status: Literal["finished", "interrupted"]
    catalog: str
    plan: PlanSummary
    items: int = 0
    looks: dict[str, dict[str, int]] = field(default_factory=dict)
    results: dict[str, int] = field(default_factory=dict)
    errors: dict[str, int] = field(default_factory=dict)
    done_by_others: int = 0
    commits: int = 0
    start_s: float = 0.0
    seconds: float = 0.0

    def total(self, status: str) -> int:
        """Looks that ended with that status."""
        return sum(counts.get(status, 0) for counts in self.looks.values())

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self)

    def count(self, tables: Tables) -> None:
        """Take in the rows of some finished items."""
        ledger = tables["ledger"]
        self.items += pc.count_distinct(ledger["item_key"]).as_py()
        for row in (
            ledger.group_by(["operator", "status"]).aggregate([([], "count_all"), ("results", "sum")]).to_pylist()
        ):
            counts = self.looks.setdefault(row["operator"], {})
            counts[row["status"]] = counts.get(row["status"], 0) + row["count_all"]
            self.results[row["operator"]] = self.results.get(row["operator"], 0) + row["results_sum"]
        bad = ledger.filter(pc.is_valid(ledger["error_code"]))
        for row in bad.group_by("error_code").aggregate([("item_key", "count_distinct")]).to_pylist():
            self.errors[row["error_code"]] = self.errors.get(row["error_code"], 0) + row["item_key_count_distinct"]


def run(
    source: str | Path | JobSpec,
    catalog: str | Path | None = None,
    operators: Sequence[str] | Mapping[str, Mapping[str, Any]] | None = None,
    *,
    progress: Progress | None = None,
    **options: Any,
) -> RunSummary:
    """Look at what is new or changed in `source` and write what was seen to `catalog`.

    `source` is a folder, any fsspec URL, a glob, a manifest, or a job file (*.yaml); `operators` are names, or names
    with settings; every operator when not given. `options` are the other fields of JobSpec. An interrupt
    (KeyboardInterrupt) commits what is finished and returns with status `interrupted`.

    Raises JobError, CatalogError, OperatorError, ClusterError: the run cannot start or cannot go on; what was
    committed is safe, and the next run goes on from there.
    """
    return _run(spec_of(source, catalog, operators, **options), failed_only=False, progress=progress)


def retry(
    source: str | Path | JobSpec | None = None,
    catalog: str | Path | None = None,
    operators: Sequence[str] | Mapping[str, Mapping[str, Any]] | None = None,
    *,
    progress: Progress | None = None,
    **options: Any,
) -> RunSummary:
    """Look again at what failed, whatever the reason, and at nothing else. Without a source: that of the last run.

    Raises as `run` does.
    """
    if source is None:
        if catalog is None:
            raise SpecError("name the catalogue whose failures are to be tried again")
        newest = "SELECT spec FROM runs ORDER BY recorded_at DESC, run_id DESC LIMIT 1"
        last = Catalog(str(catalog)).sql(newest).to_pylist()
        if not last:
            raise SpecError(f"{catalog} has no runs yet: nothing to try again")
        spec = make_spec(**{**json.loads(last[0]["spec"]), "catalog": str(catalog)})
    else:
        spec = spec_of(source, catalog, operators, **options)
    return _run(spec, failed_only=True, progress=progress)


def plan(
    source: str | Path | JobSpec,
    catalog: str | Path | None = None,
    operators: Sequence[str] | Mapping[str, Mapping[str, Any]] | None = None,
    **options: Any,
) -> PlanSummary:
    """What `run` with the same words would do. Writes nothing anywhere. Raises as `run` does."""
    spec = spec_of(source, catalog, operators, **options)
    made = create_operators(spec)
    listing = Listing(spec.source)
    try:
        there: Catalog | None = Catalog(spec.catalog)
    except NoCatalogError:
        there = None
    with make_plan(listing, source_url(spec.source), made, there) as found:
        return found.summary


def spec_of(
    source: str | Path | JobSpec,
    catalog: str | Path | None,
    operators: Sequence[str] | Mapping[str, Mapping[str, Any]] | None,
    **options: Any,
) -> JobSpec:
    """The job that the words mean. Raises SpecError."""
    if isinstance(source, JobSpec):
        return source
    words = {"catalog": None if catalog is None else str(catalog), "operators": operators, **options}
    if str(source).endswith((".yaml", ".yml")):
        return read_spec(source, **words)
    return make_spec(source=str(source), **words)


def create_operators(spec: JobSpec) -> dict[str, Operator]:
    """The job's operators, by name, `media` always among them. Raises ConfigError."""
    names = spec.operators if spec.operators is not None else {name: {} for name in sorted(available())}
    return {name: create(name, settings) for name, settings in {MEDIA: {}, **names}.items()}


def _run(spec: JobSpec, *, failed_only: bool, progress: Progress | None) -> RunSummary:
    progress = progress or Progress.silent()
    began = time.monotonic()
    operators = create_operators(spec)
    source = source_url(spec.source)
    listing = Listing(spec.source)
    catalog = Catalog(spec.catalog, create=True)
    catalog.finish()
    needed = {name for one in operators.values() for name in one.model_names()}
    models.pull_all(sorted(name for name in needed if not models.is_here(name)), report=progress.say)
    run_id = new_run_id()
    with _recorded(catalog, run_id, spec, source, operators) as record:
        progress.say(f"listing {source}")
        with make_plan(listing, source, operators, catalog, failed_only=failed_only) as plan:
            summary = RunSummary(run_id, "finished", catalog.url, plan.summary)
            if plan.summary.due:
                _look(spec, operators, catalog, plan, summary, progress, began)
            summary.seconds = time.monotonic() - began
        record(summary)
    return summary


def _look(
    spec: JobSpec,
    operators: Mapping[str, Operator],
    catalog: Catalog,
    plan: Plan,
    summary: RunSummary,
    progress: Progress,
    began: float,
) -> None:
    """Look at everything that is due and commit it as it comes."""
    tables = {table: columns for one in operators.values() for table, columns in one.tables.items()}
    committer = Committer(catalog.commit_log(summary.run_id, tables, plan.since), spec.commit_every_s, summary)
    progress.say("starting the workers")
    with connected(spec.workers) as workers:
        chunks = plan.write_chunks(catalog, summary.run_id, workers)
        workers = min(workers, len(chunks))
        job = Job(
            operators={name: one.config.model_dump(mode="json") for name, one in operators.items()},
            limits=Limits(max_pixels=int(spec.max_megapixels * 1e6), max_bytes=int(spec.max_megabytes * 1e6)),
            time_limit_s=spec.time_limit_s,
            memory_bytes=int(spec.worker_memory_gb * 2**30) if spec.worker_memory_gb else None,
            workers=workers,
        )
        source = SourceWatch(summary.plan.source, job.limits.max_bytes)
        dog = watchdog.start()
        try:
            with progress.counting(plan.summary.due) as advance:
                for items, rows in look_at(chunks, job, workers, dog):
                    summary.start_s = summary.start_s or time.monotonic() - began
                    if rows:
                        source.check(rows["ledger"])
                        committer.add(rows)
                    if done := committer.news():
                        dog.done_elsewhere.remote(done)
                    advance(items, summary.total("failed"))
        except KeyboardInterrupt:
            summary.status = "interrupted"
            progress.say("interrupted: committing what is finished")
        finally:
            catalog.storage.remove_folder(plan_folder(summary.run_id))
        committer.commit()
        if summary.status == "finished":
            looked = sum(sum(counts.values()) for counts in summary.looks.values())
            summary.done_by_others = sum(summary.plan.looks.values()) - looked + committer.dropped


class Committer:
    """Collects rows and commits them every so often."""

    def __init__(self, log: CommitLog, every_s: float, summary: RunSummary) -> None:
        self._log = log
        self._every_s = every_s
        self._summary = summary
        self._waiting: list[Tables] = []
        self._bytes = 0
        self._told = 0
        self._last = time.monotonic()

    def add(self, rows: Tables) -> None:
        """Take the rows of finished items; commit when it is time. Raises CatalogError."""
        with uninterrupted():
            self._waiting.append(rows)
            self._bytes += sum(table.nbytes for table in rows.values())
            self._summary.count(rows)
            if time.monotonic() - self._last >= self._every_s or self._bytes >= COMMIT_BYTES:
                self.commit()

    @property
    def dropped(self) -> int:
        """Looks of this run that another had committed first."""
        return self._log.dropped

    def news(self) -> list[str]:
        """The looks that other runs were found to have committed, since this was last asked."""
        found = self._log.done_by_others.slice(self._told)
        self._told += found.num_rows
        return [look_name(*look) for look in zip(*(column.to_pylist() for column in found.columns), strict=True)]

    def commit(self) -> None:
        """Commit what waits."""
        with uninterrupted():
            if self._waiting:
                if self._log.commit(concatenated(self._waiting)) is not None:
                    self._summary.commits += 1
            self._waiting, self._bytes, self._last = [], 0, time.monotonic()


class SourceWatch:
    """Tells files that cannot be fetched from a source that does not answer any more."""

    def __init__(self, source: str, max_bytes: int) -> None:
        self._source = source
        self._max_bytes = max_bytes
        self._readable: str | None = None
        self._in_a_row = 0

    def check(self, ledger: pa.Table) -> None:
        """Raises SourceError when the last items could not be fetched, nor one that could be before."""
        refused = pc.is_in(ledger["error_code"], pa.array(_ACCESS))
        answered = ledger.filter(pc.invert(refused))
        if answered.num_rows:
            read = answered.filter(pc.is_valid(answered["content_id"]))
            self._readable = read["uri"][-1].as_py() if read.num_rows else self._readable
            self._in_a_row = 0
            return
        self._in_a_row += pc.count_distinct(ledger["item_key"]).as_py()
        if self._in_a_row < DOUBTFUL:
            return
        try:
            if self._readable is not None:
                fetch(self._readable, self._max_bytes)
                self._in_a_row = 0
                return
        except MediaError:
            pass
        last = ledger["error_message"][-1].as_py()
        raise SourceError(
            f"{self._source} cannot be read: {self._in_a_row} files in a row were refused, the last with: {last}. "
            "What was committed is safe; check credentials and connection, and run again"
        )


@contextmanager
def _recorded(
    catalog: Catalog, run_id: str, spec: JobSpec, source: str, operators: Mapping[str, Operator]
) -> Iterator[Any]:
    """Write the run's first row, and its last one however it ends."""
    row = {
        "run_id": run_id,
        "job": spec.job,
        "source": source,
        "spec": spec.model_dump_json(),
        "operators": json.dumps(
            {name: {"model": one.model, "fingerprint": one.fingerprint} for name, one in operators.items()}
        ),
        "versions": json.dumps({name: version(name) for name in ("pinakes", "ray", "deltalake", "openvino")}),
        "host": platform.node(),
    }
    catalog.record_run({**row, "status": "started"})

    def record(summary: RunSummary) -> None:
        counts = {status: summary.total(status) for status in ("ok", "failed", "skipped")}
        catalog.record_run({**row, "status": summary.status, "items": summary.items, **counts})

    try:
        yield record
    except BaseException as error:
        status = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
        with suppress(Exception):  # the catalogue itself may be what failed; the first error is the one to tell
            catalog.record_run({**row, "status": status, "message": " ".join(str(error).split())[:1000]})
        raise
