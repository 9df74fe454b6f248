"""The Ray Data pipeline: chunks of the plan in, rows out. What it yields is committed by running.py.

A chunk is a row group of the plan's files. Each worker is one actor that reads chunks and looks at their items through
a process of its own (supervisor.py), so pixels never leave the process that decoded them, and what comes back through
the object store is rows.
"""

import io
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.core import url_to_fs

from pinakes.cluster.connection import worker_memory_bytes
from pinakes.jobs.errors import JobError
from pinakes.jobs.look import WORK, Item, Rows, Tables
from pinakes.jobs.looker_process import Job
from pinakes.jobs.supervisor import BrokenWorkerError, Supervisor, concatenated
from pinakes.operators.errors import ErrorCode

#: Items that come back together: the most that is looked at twice when a worker is lost.
PIECE = 64
#: A table of this name carries the message of a worker that cannot work.
BROKEN = "_broken"


@dataclass(frozen=True)
class Chunk:
    """A row group of one of the plan's files."""

    number: int
    file: str
    row_group: int


class Worker:
    """The actor of the pipeline."""

    def __init__(self, job: Job, watchdog_handle: Any) -> None:
        self._watchdog = watchdog_handle
        self._job = replace(job, memory_bytes=job.memory_bytes or worker_memory_bytes(job.workers))
        self._fingerprints = {name: one.fingerprint for name, one in job.create().items()}
        self._supervisor: Supervisor | None = None
        self._plan: tuple[str, pq.ParquetFile] | None = None

    def __call__(self, chunks: Mapping[str, Any]) -> Iterator[dict[str, list[Any]]]:
        for number, file, row_group in zip(chunks["number"], chunks["file"], chunks["row_group"], strict=True):
            work = self._read(str(file)).read_row_group(int(row_group))
            for start in range(0, work.num_rows, PIECE):
                try:
                    tables = self._look((int(number), start), work.slice(start, PIECE))
                except BrokenWorkerError as error:
                    # As a row: an exception would be taken for a fault of Ray's, and tried again.
                    tables = {BROKEN: pa.table({"message": [str(error)]})}
                yield {
                    "chunk": [int(number)],
                    "start": [start],
                    "items": [min(PIECE, work.num_rows - start)],
                    "tables": [list(tables)],
                    "rows": [[_to_bytes(rows) for rows in tables.values()]],
                }

    def _read(self, file: str) -> pq.ParquetFile:
        if self._plan is None or self._plan[0] != file:
            filesystem, path = url_to_fs(file)
            self._plan = (file, pq.ParquetFile(io.BytesIO(filesystem.cat_file(path))))
        return self._plan[1]

    def _look(self, name: tuple[int, int], work: pa.Table) -> Tables:
        import ray

        if self._supervisor is None:
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
                if item["item_key"] in advice.convicted:
                    found.append(self._convict(item))
                    continue
                ray.get(self._watchdog.note.remote(name, item["item_key"]))
                found.append(self._supervisor.look(work.slice(position, 1)))
            tables = concatenated(found)
        ray.get(self._watchdog.end.remote(name))
        return tables

    def _looks(self, item: Item) -> list[str]:
        pairs = zip(item["operators"], item["attempts"], strict=True)
        return [look_name(item["item_key"], self._fingerprints[name], attempt) for name, attempt in pairs]

    def _left(self, item: Item, done: set[str]) -> Item | None:
        """The item with the operators that are still due."""
        due = [at for at, look in enumerate(self._looks(item)) if look not in done]
        return (
            {**item, **{column: [item[column][at] for at in due] for column in ("operators", "attempts")}}
            if due
            else None
        )

    def _convict(self, item: Item) -> Tables:
        rows = Rows(self._job.create())
        message = (
            "whole workers were killed while they looked at it, alone, twice: most likely it takes too much memory"
        )
        rows.fail(item, item["operators"], ErrorCode.OUT_OF_MEMORY, message)
        return rows.tables()


def look_name(item_key: str, fingerprint: str, attempt: int) -> str:
    """A look as the watchdog knows it."""
    return f"{item_key} {fingerprint} {attempt}"


def look_at(
    chunks: Iterable[Chunk], job: Job, workers: int, watchdog: Any
) -> Generator[tuple[int, Tables], None, None]:
    """Look at every chunk and yield how many items are finished and their rows, in no order, each piece once.

    Items that the watchdog knows to be done elsewhere have no rows. Ray is connected; `watchdog` is an actor's handle.
    Raises JobError when the workers cannot start or Ray cannot go on.
    """
    import ray.data
    from ray.exceptions import RayError

    rows = [{"number": chunk.number, "file": chunk.file, "row_group": chunk.row_group} for chunk in chunks]
    results = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
        Worker,
        fn_constructor_args=(job, watchdog),
        batch_size=None,
        num_cpus=1,
        compute=ray.data.ActorPoolStrategy(min_size=1, max_size=workers, initial_size=workers),
    )
    seen: set[tuple[int, int]] = set()
    block: pa.Table
    try:
        for block in results.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=1):
            for piece in block.to_pylist():
                tables = {name: _from_bytes(rows) for name, rows in zip(piece["tables"], piece["rows"], strict=True)}
                if BROKEN in tables:
                    raise JobError(tables[BROKEN]["message"][0].as_py())
                # Ray runs a lost worker's chunk again from its start: what had come already comes twice.
                name = (piece["chunk"], piece["start"])
                if name not in seen:
                    seen.add(name)
                    yield piece["items"], tables
    except RayError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise JobError(
            f"the workers cannot go on: {lines[-1][:300] if lines else ''}. What was committed is safe; "
            "see that every node has the same pinakes and operators, and reaches the source and the catalogue"
        ) from error


def _to_bytes(rows: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_table(rows)
    return bytes(sink.getvalue())


def _from_bytes(data: bytes) -> pa.Table:
    return pa.ipc.open_stream(data).read_all()
