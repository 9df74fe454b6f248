"""The actor of a pool of GPUs: rows of its operators out of inputs that the workers have prepared.

An operator that raises costs the picture that caused it, for this operator alone. Out of memory, the operator takes
smaller batches and goes on (operators/device.py). An error after which the GPU is of no more use to this process, or a
look that takes too long, ends it: Ray starts it anew with the same piece, which is then looked at picture by picture,
under the eyes of the watchdog.
"""

import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from pinakes.catalog.metering import RUN
from pinakes.cluster import gpus
from pinakes.cluster.errors import ClusterError
from pinakes.cluster.files import Shared, receive
from pinakes.cluster.placement import Pool
from pinakes.cluster.watchdog import Advice
from pinakes.jobs.looker_process import Job
from pinakes.jobs.meter import Meter
from pinakes.jobs.piece import BROKEN, CONVICTED, Piece, broken
from pinakes.jobs.rows import INPUTS, Rows, Sight, Tables, concatenated, work_key
from pinakes.jobs.watch import BATCH
from pinakes.operators import models
from pinakes.operators.device import DeviceOperator, Origin, is_lost
from pinakes.operators.errors import ErrorCode, ModelError, OperatorError
from pinakes.operators.hub_files import one_line

#: Pieces that an actor has in hand: one on the device, one that is unpacked or packed up.
THREADS = 2


@dataclass(frozen=True, slots=True)
class Due:
    """What is to be looked at."""

    sight: Sight
    origin: Origin
    input: np.ndarray
    cpu_s: float  # that preparing it took


class DeviceWorker:
    """Takes pieces in blocks and gives them back, inputs turned into rows. Safe in several threads."""

    def __init__(self, job: Job, pool: Pool, watchdog_handle: Any, shared: Shared) -> None:
        self._job = job
        self._pool = pool
        self._watchdog = watchdog_handle
        self._shared = shared
        self._stage = job.pools.index(pool) + 1
        self._operators: list[DeviceOperator] | None = None
        self._lock = threading.RLock()
        self._meter = Meter()
        #: The name of the GPU, if it has one.
        self._gpu: str | None = None

    def __call__(self, block: pa.Table) -> Iterator[pa.Table]:
        for piece in Piece.of_rows(block):
            if BROKEN in piece.tables:
                tables = piece.tables
            else:
                try:
                    tables = self._look(piece)
                except (OperatorError, ClusterError, OSError) as error:
                    tables = broken(error)
            yield Piece(piece.chunk, piece.start, piece.items, tables).to_row()

    def _look(self, piece: Piece) -> Tables:
        import ray

        with self._lock:
            if self._operators is None:
                self._operators = self._loaded()
        tables = dict(piece.tables)
        name = (*piece.name, self._stage)
        advice = ray.get(self._watchdog.begin.remote(name, ray.get_runtime_context().get_node_id(), []))
        rows = Rows(self._job.operators)
        with self._lock:
            rows.spend(RUN, self._meter.lap())
        for operator in self._operators:
            inputs = tables.pop(INPUTS + operator.name, None)
            if inputs is not None and inputs.num_rows:
                self._infer(name, operator, _unpacked(operator, inputs), advice if advice.one_by_one else None, rows)
        ray.get(self._watchdog.end.remote(name))
        return concatenated([tables, rows.tables()])

    def _loaded(self) -> list[DeviceOperator]:
        receive(self._shared, models.cache_folder())
        made = []
        for name in self._pool.operators:
            operator = self._job.operators[name]
            assert isinstance(operator, DeviceOperator)
            try:
                operator.fetch(self._job.device)
                operator.load(self._job.device, self._pool.num_gpus)
            except OperatorError:
                raise
            except Exception as error:  # no room for its weights, or a driver's own words
                raise ModelError(f"operator {name} cannot be opened on its GPU: {one_line(error)}") from error
            made.append(operator)
        if self._job.device == "cuda":
            self._gpu = gpus.name()
        return made

    def _infer(
        self, name: tuple[int, ...], operator: DeviceOperator, due: Sequence[Due], one_by_one: Advice | None, rows: Rows
    ) -> None:
        import ray

        if one_by_one is None:
            self._add(operator, due, rows)
            return
        for one in due:
            key = work_key(one.sight.item)
            if key in one_by_one.convicted:
                rows.fail(one.sight.item, [operator.name], ErrorCode.OUT_OF_MEMORY, CONVICTED, one.sight.content_id)
                continue
            # In one hold, lest another thread's item be in hand at this one's death.
            with self._lock:
                ray.get(self._watchdog.note.remote(name, key))
                self._add(operator, [one], rows)
                ray.get(self._watchdog.note.remote(name, None))

    def _add(self, operator: DeviceOperator, due: Sequence[Due], rows: Rows) -> None:
        try:
            with self._lock, _limited(self._job.time_limit_s * min(len(due), BATCH)):  # one at a time on the device
                began = time.monotonic()
                found = operator.infer([one.input for one in due], [one.origin for one in due])
                gpu_s = (time.monotonic() - began) * self._pool.num_gpus if self._job.device == "cuda" else 0.0
                # What the other thread unpacks meanwhile is theirs as well.
                cpu_s = self._meter.lap() + sum(one.cpu_s for one in due)
            rows.add(operator, [one.sight for one in due], found)
            rows.took(operator, [one.sight for one in due], cpu_s, gpu_s, self._gpu)
        except Exception as error:  # an operator may be anyone's code
            if is_lost(error):
                os._exit(1)
            if len(due) == 1:
                rows.fail_look(operator, due[0].sight, error)
                rows.took(operator, [due[0].sight], due[0].cpu_s)
                return
            for one in due:
                self._add(operator, [one], rows)


@contextmanager
def _limited(seconds: float) -> Iterator[None]:
    """Ends the process, which nothing else can get back from a device, when it takes longer."""
    timer = threading.Timer(seconds, os._exit, (1,))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _unpacked(operator: DeviceOperator, table: pa.Table) -> list[Due]:
    """Of a table of INPUT_SCHEMA; the samples are views of its memory."""
    found = []
    for samples, row in zip(table["samples"], table.drop_columns(["samples"]).to_pylist(), strict=True):
        item = {name: row[name] for name in ("uri", "item_key", "window_start_ms", "is_video")}
        item |= {"operators": [operator.name], "fingerprints": [row["fingerprint"]], "attempts": [row["attempt"]]}
        sight = Sight(item, row["content_id"], row["frame_ms"])
        origin = Origin(row["item_key"], row["frame_ms"], row["width"], row["height"])
        given = np.frombuffer(samples.as_buffer(), row["kind"]).reshape(row["shape"])
        found.append(Due(sight, origin, given, row["cpu_s"]))
    return found
