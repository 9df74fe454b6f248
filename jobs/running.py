"""A run from end to end: list, plan, look, commit as it goes, and say how it went."""

import json
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext, suppress
from dataclasses import replace
from functools import partial
from importlib.metadata import distributions, version
from pathlib import Path
from typing import Any

from pinakes.catalog import Catalog
from pinakes.catalog.catalog import new_run_id
from pinakes.catalog.errors import NoCatalogError
from pinakes.catalog.live import live
from pinakes.cluster import gpus, watchdog
from pinakes.cluster.connection import connected
from pinakes.cluster.files import share
from pinakes.cluster.placement import Placement, Pool, place
from pinakes.jobs.budget import OWN, Budget, said, tariff_in_usd
from pinakes.jobs.collection_loader import CollectionLoader, model_of
from pinakes.jobs.committer import Committer
from pinakes.jobs.errors import SpecError
from pinakes.jobs.estimating import estimate
from pinakes.jobs.finish import Finisher
from pinakes.jobs.listing import Listing, source_url
from pinakes.jobs.look import Limits
from pinakes.jobs.looker_process import Job
from pinakes.jobs.pipeline import Chunk, look_at
from pinakes.jobs.planning import (
    Plan,
    PlanSummary,
    make_plan,
    plan_folder,
    sweep,
    video_fingerprints,
    write_windows,
)
from pinakes.jobs.progress import Progress
from pinakes.jobs.rows import result_tables
from pinakes.jobs.source_watch import SourceWatch
from pinakes.jobs.spec import JobSpec, make_spec, read_spec
from pinakes.jobs.summary import RunSummary
from pinakes.jobs.watch import BATCH, OPENED
from pinakes.operators.device import DeviceOperator
from pinakes.operators.errors import ConfigError
from pinakes.operators.operator import Device, Operator, by_default, create

#: Always part of a job: they say what an item is, and which frames of a video were looked at.
ALWAYS = ("media", "frames")

#: Items that go through the pipeline together; the most that is looked at twice when a worker is lost.
SMALL_PIECE, LARGE_PIECE = 64, 256
#: The inputs of a piece for GPUs, all of its operators together.
PIECE_BYTES = 64 * 2**20


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
    with settings; every one that needs no settings when not given. `options` are the other fields of JobSpec. An
    interrupt (KeyboardInterrupt) commits what is finished and returns with status `interrupted`.

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
        newest = "SELECT spec, source FROM runs ORDER BY recorded_at DESC, run_id DESC LIMIT 1"
        last = Catalog(str(catalog)).sql(newest).to_pylist()
        if not last:
            raise SpecError(f"{catalog} has no runs yet: nothing to try again")
        # The source as it is spelled in full: the run may have been started from another folder.
        fields = {**json.loads(last[0]["spec"]), "source": last[0]["source"], "catalog": str(catalog)}
        words = {"operators": operators, **options}
        spec = make_spec(**{**fields, **{name: value for name, value in words.items() if value is not None}})
    else:
        spec = spec_of(source, catalog, operators, **options)
    return _run(spec, failed_only=True, progress=progress)


def plan(
    source: str | Path | JobSpec,
    catalog: str | Path | None = None,
    operators: Sequence[str] | Mapping[str, Mapping[str, Any]] | None = None,
    *,
    progress: Progress | None = None,
    sample: bool = False,
    tariff: str = OWN,
    **options: Any,
) -> PlanSummary:
    """What `run` with the same words would do, how long it would take, and what it would cost by a tariff.

    Writes nothing to the catalogue. With `sample` it looks at a few items where nothing was metered yet, in a process
    of its own. A model of one's own that is not here yet is fetched: what it is can be told by its files only. Raises
    as `run` does.
    """
    say = (progress or Progress.silent()).say
    spec = spec_of(source, catalog, operators, **options)
    priced, budget = tariff_in_usd(tariff), Budget(spec.budget)
    made, device = create_operators(spec, say)
    listing = Listing(spec.source)
    try:
        there: Catalog | None = Catalog(spec.catalog)
    except NoCatalogError:
        there = None
    sampling = spec.video.sample
    with make_plan(listing, source_url(spec.source), made, there, sampling=sampling, most=budget.most) as found:
        remarks = [remark for one in made.values() for remark in one.remarks()]
        expected = estimate(found, made, there, spec, device, priced, sample=sample, report=say)
        return replace(found.summary, remarks=remarks, estimate=expected)


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


def create_operators(
    spec: JobSpec, report: Callable[[str], None] = lambda line: None
) -> tuple[dict[str, Operator], Device]:
    """The job's operators, by name, resolved, with those of ALWAYS; and what those with the choice run on.

    Raises ConfigError, ModelError, ClusterError.
    """
    names = spec.operators if spec.operators is not None else {name: {} for name in by_default()}
    operators = {name: create(name, settings) for name, settings in {**{name: {} for name in ALWAYS}, **names}.items()}
    for one in operators.values():
        if one.sees == "rows" and not operators.keys() & set(one.follows):
            raise ConfigError(
                f"operator {one.name} makes its rows of those of {', '.join(one.follows)}: name one of them as well"
            )
    have_the_choice = any(isinstance(one, DeviceOperator) for one in operators.values())
    device = gpus.choose(spec.device) if have_the_choice or spec.device == "cuda" else "cpu"
    for one in operators.values():
        one.resolve(device, report)
    return operators, device


def _run(spec: JobSpec, *, failed_only: bool, progress: Progress | None) -> RunSummary:
    progress = progress or Progress.silent()
    began, spent_s = time.monotonic(), time.process_time()
    budget = Budget(spec.budget)
    operators, device = create_operators(spec, progress.say)
    for remark in [remark for one in operators.values() for remark in one.remarks()]:
        progress.say(remark)
    source = source_url(spec.source)
    listing = Listing(spec.source)
    catalog = Catalog(spec.catalog, create=True)
    catalog.finish()
    sweep(catalog)
    loading = CollectionLoader(catalog, spec.faces, model_of(operators), progress.say) if spec.faces else nullcontext()
    run_id = new_run_id()
    with (
        live(catalog.storage, run_id),
        loading as loader,
        _recorded(catalog, run_id, spec, source, operators) as record,
    ):
        progress.say(f"listing {source}")
        sampling = spec.video.sample
        with make_plan(
            listing, source, operators, catalog, sampling=sampling, failed_only=failed_only, most=budget.most
        ) as plan:
            summary = RunSummary(run_id, "finished", catalog.url, plan.summary)
            if plan.summary.due:
                for one in operators.values():
                    one.fetch(device, progress.say)
                _look(spec, operators, device, catalog, plan, summary, progress, began, spent_s, loader, budget)
            if plan.summary.beyond and summary.status == "finished":
                summary.status = "budget"
            summary.budget = budget.as_dict()
            if loader:
                progress.say("loading faces into the collection")
                summary.collection = loader.finish(wait=summary.status != "interrupted")
            summary.seconds = time.monotonic() - began
        record(summary)
    return summary


def _look(
    spec: JobSpec,
    operators: dict[str, Operator],
    device: Device,
    catalog: Catalog,
    plan: Plan,
    summary: RunSummary,
    progress: Progress,
    began: float,
    spent_s: float,
    loader: CollectionLoader | None,
    budget: Budget,
) -> None:
    """Look at everything that is due and commit it as it comes."""
    sampling = spec.video.sample
    for_videos = video_fingerprints(operators, sampling)
    tables = result_tables(operators, videos=plan.summary.videos > 0)
    fingerprints = [*(one.fingerprint for one in operators.values()), *for_videos.values()]
    log = catalog.commit_log(summary.run_id, tables, plan.since, fingerprints, spec.job)
    committer = Committer(log, spec.commit_every_s, summary, spent_s)
    finisher = Finisher(catalog, log, operators, for_videos, sampling, summary)
    first = came = 0
    budget.open(catalog)
    progress.say("starting the workers")
    on_gpus = {name: one for name, one in operators.items() if isinstance(one, DeviceOperator) and device == "cuda"}
    with connected(spec.workers, pixels_travel=bool(on_gpus)) as workers:
        try:
            pools = _pools(on_gpus, spec.placement)
            piece = _piece(on_gpus)
            workers = _beside(pools, workers) if spec.workers is None else workers
            chunks = plan.write_chunks(catalog, summary.run_id, workers, piece)
            job = Job(
                operators=operators,
                limits=Limits(spec.max_pixels, spec.max_bytes),
                time_limit_s=spec.time_limit_s,
                memory_bytes=int(spec.worker_memory_gb * 2**30) if spec.worker_memory_gb else None,
                workers=workers,
                sampling=sampling,
                device=device,
                pools=pools,
                piece=piece,
            )
            folders = {name: files for one in operators.values() for name, files in one.folders().items()}
            shared = share(folders) if folders else {}
            source = SourceWatch(summary.plan.source, job.limits.max_bytes, plan.readable)
            dog = watchdog.start()
            with progress.counting(plan.summary.due, plan.summary.videos > 0) as advance:

                def through(chunks: list[Chunk], are_items: bool) -> None:
                    """Look at those chunks, of items or of windows of videos."""
                    nonlocal first, came
                    in_all = None
                    ours = replace(job, workers=min(workers, len(chunks)))
                    budget.begin()
                    # Closed before Ray is: shut down under a pipeline that still runs, it may end this process without
                    # a word.
                    with closing(look_at(chunks, ours, ours.workers, dog, shared)) as pieces:
                        for items, rows in pieces:
                            if not summary.start_s:
                                summary.start_s, first = time.monotonic() - began, items
                            finished = items if are_items else 0
                            before = summary.video_s
                            looked = OPENED in rows or bool("ledger" in rows and rows["ledger"].num_rows)
                            if "ledger" not in rows:
                                committer.spend(rows)
                            else:
                                rows, unfinished = finisher.take(rows)
                                source.check(rows["ledger"])
                                committed = committer.add(rows)
                                finished += finisher.committed(committed) - unfinished
                                if loader and committed:
                                    loader.more()
                            if done := committer.news():
                                dog.done_elsewhere.remote(done)
                            all_s = 0 if are_items else finisher.opened_s
                            advance(finished, summary.total("failed"), summary.video_s - before, all_s)
                            # Those that come after the stop without any looks were not taken up.
                            came += in_all is None or looked
                            in_hand = partial(watchdog.in_hand, dog, came)
                            if in_all is None and budget.take(committer.usage, summary.video_s, in_hand):
                                progress.say("at the end of its budget: finishing what is in hand")
                                in_all = watchdog.stop(dog)
                            if in_all is not None and came >= in_all:
                                break

                through(chunks, True)
                # A budget that opening the films has used up must not keep every run from looking at some of them.
                if finisher.windows and not (budget.reached and summary.items):
                    finisher.committed(committer.commit())
                    windows = write_windows(catalog, summary.run_id, finisher.windows, len(chunks))
                    through(windows, False)
                finisher.committed(committer.commit())
                finisher.finish_left()
        except KeyboardInterrupt:
            summary.status = "interrupted"
            progress.say("interrupted: committing what is finished")
        finally:
            catalog.storage.remove_folder(plan_folder(summary.run_id))
        committer.end()
        budget.measure(committer.usage, summary.video_s)
        if budget.reached and summary.status == "finished":
            summary.status = "budget"
        summary.measure(log.measures)
        if summary.start_s:
            summary.per_s = max(0, summary.items - first) / (time.monotonic() - began - summary.start_s)
        if summary.status == "finished":
            looked = sum(sum(counts.values()) for counts in summary.looks.values())
            summary.done_by_others = sum(summary.plan.looks.values()) - looked + committer.dropped


def _pools(on_gpus: Mapping[str, DeviceOperator], placement: Placement) -> tuple[Pool, ...]:
    """Where the operators with GPUs run. Raises ClusterError when they do not fit."""
    if not on_gpus:
        return ()
    there = gpus.found()
    needs = {name: one.memory_bytes for name, one in on_gpus.items()}
    return place(needs, there.count, there.memory_bytes, placement)


def _piece(on_gpus: Mapping[str, DeviceOperator]) -> int:
    """Items that go through the pipeline together: for a GPU as many as make a good batch, within PIECE_BYTES."""
    if not on_gpus:
        return SMALL_PIECE
    fit = PIECE_BYTES // max(1, sum(one.input_bytes for one in on_gpus.values()))
    return max(BATCH, min(LARGE_PIECE, fit // BATCH * BATCH))


def _beside(pools: Sequence[Pool], cores: int) -> int:
    """Workers that decode while each actor with a GPU has a core to feed it."""
    return max(1, cores - sum(pool.actors for pool in pools))


@contextmanager
def _recorded(
    catalog: Catalog, run_id: str, spec: JobSpec, source: str, operators: Mapping[str, Operator]
) -> Iterator[Any]:
    """Write the run's first row, and its last one however it ends."""
    for_videos = video_fingerprints(operators, spec.video.sample)
    row = {
        "run_id": run_id,
        "job": spec.job,
        "source": source,
        "spec": spec.model_dump_json(),
        "operators": json.dumps(
            {
                name: {"model": one.model, "fingerprint": one.fingerprint, "video_fingerprint": for_videos.get(name)}
                for name, one in operators.items()
            }
        ),
        "versions": json.dumps({name: version(name) for name in _packages(operators)}),
        "host": platform.node(),
    }
    catalog.record_run({**row, "status": "started"})

    def record(summary: RunSummary) -> None:
        counts = {status: summary.total(status) for status in ("ok", "failed", "skipped")}
        stopped = summary.status == "budget" and summary.budget
        message = f"stopped at its budget of {said(stopped)}: the next run goes on" if stopped else None
        ended = {"status": summary.status, "items": summary.items, "message": message}
        catalog.record_run({**row, **ended, **counts})

    try:
        yield record
    except BaseException as error:
        status = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
        with suppress(Exception):  # the catalogue itself may be what failed; the first error is the one to tell
            catalog.record_run({**row, "status": status, "message": " ".join(str(error).split())[:1000]})
        raise


def _packages(operators: Mapping[str, Operator]) -> list[str]:
    """Whose versions can matter to an answer."""
    on_devices = any(isinstance(one, DeviceOperator) for one in operators.values())
    theirs = ("torch", "transformers", "onnxruntime-gpu") if on_devices else ()
    return ["pinakes", "ray", "deltalake", "openvino", *(name for name in theirs if any(distributions(name=name)))]
