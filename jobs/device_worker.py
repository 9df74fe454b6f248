"""The actor of a pool of GPUs: rows of its operators out of inputs that the workers have prepared.

An operator that raises costs the picture that caused it, for this operator alone. Out of memory, the operator takes
smaller batches and goes on (operators/device.py). An error after which the GPU is of no more use to this process ends
it: Ray starts it anew with the same piece, which is then looked at picture by picture, under the eyes of the watchdog.
"""

import os
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from pinakes.cluster.errors import ClusterError
from pinakes.cluster.files import Shared, receive
from pinakes.cluster.placement import Pool
from pinakes.cluster.watchdog import Advice
from pinakes.jobs.look import INPUTS, Rows, Sight, Tables
from pinakes.jobs.looker_process import Job
from pinakes.jobs.piece import BROKEN, CONVICTED, Piece, broken
from pinakes.jobs.supervisor import concatenated
from pinakes.operators import models
from pinakes.operators.device import DeviceOperator, is_lost
from pinakes.operators.errors import ErrorCode, OperatorError

#: Pieces that an actor has in hand: one on the device, one that is unpacked or packed up.
THREADS = 2


class DeviceWorker:
    """Takes pieces in blocks and gives them back, inputs turned into rows. Safe in several threads."""

    def __init__(self, job: Job, pool: Pool, watchdog_handle: Any, shared: Shared) -> None:
        self._job = job
        self._pool = pool
        self._watchdog = watchdog_handle
        self._shared = shared
        self._stage = job.pools.index(pool) + 1
        self._operators: list[DeviceOperator] | None = None
        self._lock = threading.Lock()

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
        for operator in self._operators:
            inputs = tables.pop(INPUTS + operator.name, None)
            if inputs is not None:
                self._infer(name, operator, *_unpacked(operator, inputs), advice, rows)
        ray.get(self._watchdog.end.remote(name))
        return concatenated([tables, rows.tables()])

    def _loaded(self) -> list[DeviceOperator]:
        receive(self._shared, models.cache_folder())
        made = []
        for name in self._pool.operators:
            operator = self._job.operators[name]
            assert isinstance(operator, DeviceOperator)
            operator.fetch(self._job.device)
            operator.load(self._job.device, self._pool.num_gpus)
            made.append(operator)
        return made

    def _infer(
        self,
        name: tuple[int, ...],
        operator: DeviceOperator,
        due: Sequence[Sight],
        inputs: Sequence[np.ndarray],
        advice: Advice,
        rows: Rows,
    ) -> None:
        import ray

        if not advice.one_by_one:
            self._add(operator, due, inputs, rows)
            return
        for sight, one in zip(due, inputs, strict=True):
            key = sight.item["item_key"]
            if key in advice.convicted:
                rows.fail(sight.item, [operator.name], ErrorCode.OUT_OF_MEMORY, CONVICTED, sight.content_id)
                continue
            ray.get(self._watchdog.note.remote(name, key))
            self._add(operator, [sight], [one], rows)

    def _add(self, operator: DeviceOperator, due: Sequence[Sight], inputs: Sequence[np.ndarray], rows: Rows) -> None:
        try:
            with self._lock:  # one at a time on the device
                found = operator.infer(inputs, [sight.item["item_key"] for sight in due])
            rows.add(operator, due, found)
        except Exception as error:  # an operator may be anyone's code
            if is_lost(error):
                os._exit(1)
            if len(due) == 1:
                rows.fail_look(operator, due[0], error)
                return
            for sight, one in zip(due, inputs, strict=True):
                self._add(operator, [sight], [one], rows)


def _unpacked(operator: DeviceOperator, table: pa.Table) -> tuple[list[Sight], list[np.ndarray]]:
    """Of a table of INPUT_SCHEMA; the samples are views of its memory."""
    plain = table.drop_columns(["samples"]).to_pylist()
    sights = [
        Sight(
            {
                "uri": row["uri"],
                "item_key": row["item_key"],
                "operators": [operator.name],
                "attempts": [row["attempt"]],
            },
            row["content_id"],
            row["frame_ms"],
        )
        for row in plain
    ]
    inputs = [
        np.frombuffer(samples.as_buffer(), row["kind"]).reshape(row["shape"])
        for samples, row in zip(table["samples"], plain, strict=True)
    ]
    return sights, inputs
