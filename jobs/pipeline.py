"""The Ray Data pipeline: chunks of the plan in, rows out. What it yields is committed by running.py.

A chunk is a row group of the plan's files. Each worker is one actor that reads chunks and looks at their items through
a process of its own (supervisor.py), so pixels never leave the process that decoded them, and what comes back through
the object store is rows. Operators that have GPUs are the exception: the worker prepares their inputs, some 150 kB a
picture, which travel with the rows through a pool of actors for each group of such operators (device_worker.py).
"""

import io
import time
import warnings
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.core import url_to_fs

from pinakes.catalog.metering import SPENT, of_run
from pinakes.cluster.connection import worker_memory_bytes
from pinakes.cluster.errors import ClusterError
from pinakes.cluster.files import Shared, receive
from pinakes.cluster.placement import pins, reserved
from pinakes.jobs.device_worker import THREADS, DeviceWorker
from pinakes.jobs.errors import JobError
from pinakes.jobs.looker_process import Job
from pinakes.jobs.piece import BROKEN, CONVICTED, Piece, broken
from pinakes.jobs.rows import WORK, Item, Rows, Tables, concatenated, without_operators, work_key
from pinakes.jobs.supervisor import BrokenWorkerError, Supervisor
from pinakes.operators import models
from pinakes.operators.errors import ErrorCode


@dataclass(frozen=True)
class Chunk:
    """A row group of one of the plan's files."""

    number: int
    file: str
    row_group: int


class Worker:
    """The actor of the pipeline."""

    def __init__(self, job: Job, watchdog_handle: Any, shared: Shared) -> None:
        self._watchdog = watchdog_handle
        self._job = replace(job, memory_bytes=job.memory_bytes or worker_memory_bytes(job.workers))
        self._shared = shared
        self._supervisor: Supervisor | None = None
        self._plan: tuple[str, pq.ParquetFile] | None = None
        self._spent_s = 0.0

    def __call__(self, chunks: Mapping[str, Any]) -> Iterator[pa.Table]:
        for number, file, row_group in zip(chunks["number"], chunks["file"], chunks["row_group"], strict=True):
            work = self._read(str(file)).read_row_group(int(row_group))
            # Each video, or window of one, comes back as soon as it is done; a chunk is of one kind.
            size = 1 if work["is_video"][0].as_py() else self._job.piece
            for start in range(0, work.num_rows, size):
                try:
                    tables = self._look((int(number), start), work.slice(start, size))
                except (BrokenWorkerError, ClusterError) as error:
                    tables = broken(error)
                yield Piece(int(number), start, min(size, work.num_rows - start), tables).to_row()

    def _read(self, file: str) -> pq.ParquetFile:
        if self._plan is None or self._plan[0] != file:
            filesystem, path = url_to_fs(file)
            self._plan = (file, pq.ParquetFile(io.BytesIO(filesystem.cat_file(path))))
        return self._plan[1]

    def _look(self, name: tuple[int, int], work: pa.Table) -> Tables:
        import ray

        if self._supervisor is None:
            receive(self._shared, models.cache_folder())
            self._supervisor = Supervisor(self._job)
        node = ray.get_runtime_context().get_node_id()
        items = work.to_pylist()
        advice = ray.get(
            self._watchdog.begin.remote(name, node, [look for item in items for look in self._looks(item)])
        )
        if advice.done:
            items = [left for item in items if (left := self._left(item, advice.done))]
            work = pa.Table.from_pylist(items, schema=WORK)
        if not advice.one_by_one:
            tables = self._supervisor.look(work)
        else:
            found = []
            for position, item in enumerate(items):
                if work_key(item) in advice.convicted:
                    found.append(self._convict(item))
                    continue
                ray.get(self._watchdog.note.remote(name, work_key(item)))
                found.append(self._supervisor.look(work.slice(position, 1)))
            tables = concatenated(found)
        ray.get(self._watchdog.end.remote(name))
        before, self._spent_s = self._spent_s, time.process_time()
        return concatenated([tables, {SPENT: of_run(self._spent_s - before)}])

    def _looks(self, item: Item) -> list[str]:
        pairs = zip(item["fingerprints"], item["attempts"], strict=True)
        return [look_name(item["item_key"], *pair, item["window_start_ms"]) for pair in pairs]

    def _left(self, item: Item, done: set[str]) -> Item | None:
        """The item with the operators that are still due."""
        return without_operators(item, [at for at, look in enumerate(self._looks(item)) if look in done])

    def _convict(self, item: Item) -> Tables:
        rows = Rows(self._job.operators)
        rows.fail(item, item["operators"], ErrorCode.OUT_OF_MEMORY, CONVICTED)
        return rows.tables()


def look_name(item_key: str, fingerprint: str, attempt: int, window_start_ms: int | None) -> str:
    """A look as the watchdog knows it."""
    return f"{item_key} {fingerprint} {attempt} {window_start_ms}"


def look_at(
    chunks: Iterable[Chunk], job: Job, workers: int, watchdog: Any, shared: "Shared | None" = None
) -> Generator[tuple[int, Tables], None, None]:
    """Look at every chunk and yield how many items are finished and their rows, in no order, each piece once.

    Items that the watchdog knows to be done elsewhere have no rows. Ray is connected; `watchdog` is an actor's handle;
    `shared` are folders for nodes that lack them. Raises JobError when the workers cannot start or Ray cannot go on.
    """
    import ray.data
    from ray.exceptions import RayError

    shared = shared or {}
    rows = [{"number": chunk.number, "file": chunk.file, "row_group": chunk.row_group} for chunk in chunks]
    results = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
        Worker,
        fn_constructor_args=(job, watchdog, shared),
        batch_size=None,
        num_cpus=1,
        compute=ray.data.ActorPoolStrategy(min_size=1, max_size=workers, initial_size=workers),
    )
    seen: set[tuple[int, int]] = set()
    block: pa.Table
    try:
        with _through_pools(results, job, watchdog, shared) as results:
            for block in results.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=1):
                for piece in Piece.of_rows(block):
                    if BROKEN in piece.tables:
                        raise JobError(piece.tables[BROKEN]["message"][0].as_py())
                    # Ray runs a lost worker's chunk again from its start: what had come already comes twice.
                    if piece.name not in seen:
                        seen.add(piece.name)
                        yield piece.items, piece.tables
    except RayError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise JobError(
            f"the workers cannot go on: {lines[-1][:300] if lines else ''}. What was committed is safe; "
            "see that every node has the same pinakes and operators, and reaches the source and the catalogue"
        ) from error


@contextmanager
def _through_pools(pieces: Any, job: Job, watchdog: Any, shared: Shared) -> Iterator[Any]:
    """The pieces, sent through the job's pools of GPUs one after the other."""
    import ray.data

    if not job.pools:
        yield pieces
        return
    with reserved(1 + max(gpu for pool in job.pools for gpu in pool.gpus)) as group:
        for pool in job.pools:
            with warnings.catch_warnings():
                # ray_remote_args_fn goes with Ray 2.64, and alone can say which GPU an actor gets (see placement.py).
                warnings.simplefilter("ignore")
                pieces = pieces.map_batches(
                    DeviceWorker,
                    fn_constructor_args=(job, pool, watchdog, shared),
                    batch_size=1,  # a piece
                    batch_format="pyarrow",
                    zero_copy_batch=True,
                    # It waits for its device most of the time, and takes what time it needs from the workers.
                    num_cpus=0,
                    num_gpus=pool.num_gpus,
                    compute=ray.data.ActorPoolStrategy(size=pool.actors),
                    ray_remote_args_fn=pins(pool, group),
                    # While one thread waits for the device, another unpacks what comes next.
                    max_concurrency=THREADS,
                )
        yield pieces
