"""The actor of a GPU pool in this process: two threads, one GPU, and only one item in hand when it matters."""

import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pytest
import ray

from pinakes.cluster.placement import Pool
from pinakes.cluster.watchdog import Advice, Watchdog
from pinakes.jobs.device_worker import DeviceWorker, Due
from pinakes.jobs.looker_process import Job
from pinakes.jobs.rows import Rows, Sight
from pinakes.operators.device import DeviceOperator, Origin
from pinakes.operators.operator import PICTURE, Device, Picture, Results
from tests.jobs.small_run import LIMITS

SCHEMA = pa.schema([pa.field("key", pa.string())])


class Slow(DeviceOperator):
    """Fills `slow`; says what the watchdog knows to be in hand while it looks."""

    name = "slow"
    tables: ClassVar = {"slow": SCHEMA}
    memory_bytes = input_bytes = 1

    def __init__(self, in_hand: Callable[[], dict[Any, str]]) -> None:
        super().__init__()
        self.in_hand, self.seen = in_hand, []

    def load_preparing(self) -> None: ...

    def load(self, device: Device = "cpu", share: float = 1) -> None: ...

    def prepare(self, picture: Picture) -> np.ndarray:
        return picture.pixels

    def infer(self, inputs: Any, origins: Any) -> Results:
        time.sleep(0.005)
        self.seen.append((set(self.in_hand().values()), {origin.item_key for origin in origins}))
        if any(origin.item_key.endswith("3") for origin in origins):
            raise MemoryError("no room")
        columns = [range(len(inputs)), [origin.item_key for origin in origins]]
        return {"slow": pa.table(columns, schema=pa.schema([PICTURE, *SCHEMA]))}


def due(start: int) -> list[Due]:
    keys = [f"{number:032x}" for number in range(start, start + 8)]
    items = [
        {
            "uri": key,
            "item_key": key,
            "operators": ["slow"],
            "fingerprints": ["0"],
            "attempts": [1],
            "window_start_ms": None,
            "is_video": False,
        }
        for key in keys
    ]
    return [Due(Sight(item, "c"), Origin(item["item_key"], None, 1, 1), np.zeros(1), 0.5) for item in items]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> tuple[DeviceWorker, Slow, Watchdog]:
    dog = Watchdog()
    handle = SimpleNamespace(note=SimpleNamespace(remote=dog.note))
    monkeypatch.setattr(ray, "get", lambda done: done)
    operator, pool = Slow(lambda: dict(dog._in_hand)), Pool(("slow",), 1, 1.0, (0,))
    job = Job({"slow": operator}, LIMITS, 60, None, 1, pools=(pool,))
    return DeviceWorker(job, pool, handle, {}), operator, dog


def test_one_by_one_nothing_else_is_in_hand(made: tuple[DeviceWorker, Slow, Watchdog]) -> None:
    """What dies with a process is held against all that was in hand: a neighbour's item must not be."""
    worker, operator, dog = made
    rows = [Rows({"slow": operator}) for _ in range(2)]
    threads = [
        threading.Thread(
            target=worker._infer, args=((number, 0, 1), operator, due(16 * number), Advice(True), rows[number])
        )
        for number in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(operator.seen) == 16
    assert all(in_hand == looked_at for in_hand, looked_at in operator.seen)
    assert dog._in_hand == {}
    for one in rows:
        ledger = one.tables()["ledger"].to_pylist()
        assert [row["status"] for row in ledger].count("ok") == 7
        assert [row["error_code"] for row in ledger if row["status"] == "failed"] == ["out_of_memory"]


def test_what_cannot_be_taken_together_is_taken_one_by_one(made: tuple[DeviceWorker, Slow, Watchdog]) -> None:
    worker, operator, _ = made
    rows = Rows({"slow": operator})
    worker._infer((0, 0, 1), operator, due(0), None, rows)
    tables = rows.tables()
    assert len(tables["slow"]) == 7
    assert {row["uri"][-1]: row["status"] for row in tables["ledger"].to_pylist()}["3"] == "failed"
