"""A driver without Ray: plans against the ledger, "looks" at made-up items, commits, and can be killed at any step."""

import os
import random
import signal
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from pinakes.catalog import Catalog, commits
from pinakes.catalog.catalog import new_run_id
from pinakes.catalog.metering import METER
from pinakes.catalog.schema import LEDGER, SHARED

OPERATORS = ("colours", "shapes")
TABLES = {name: pa.schema([("name", pa.string())]) for name in OPERATORS}
#: Rows that each operator finds in each item.
FOUND = 2
#: Seconds that each takes for an item.
CPU_S = 0.5


def made_rows(items: list[int], seed: int) -> dict[str, pa.Table]:
    """What operators would find in those items; `seed` marks whose work it is."""
    shared = {
        "uri": [f"file:///archive/{item}.jpg" for item in items],
        "item_key": [f"{item:032x}" for item in items],
        "content_id": [f"{item:032x}" for item in items],
        "attempt": [1] * len(items),
    }
    ledger, results = [], {}
    for name in OPERATORS:
        own = {"operator": name, "model": name, "fingerprint": f"{name:>16}", "window_start_ms": None}
        done = {"status": "ok", "results": FOUND, "error_code": None, "error_message": None}
        took = {"unit": "images", "amount": 1.0, "cpu_s": CPU_S, "gpu_s": 0.0, "device": None}
        for position in range(len(items)):
            row = {column: values[position] for column, values in shared.items()}
            ledger.append({**row, **own, **done, **took, "finished_at": datetime.now(UTC)})
        repeated = {column: [value for value in values for _ in range(FOUND)] for column, values in shared.items()}
        count = len(items) * FOUND
        columns = {
            **repeated,
            **dict.fromkeys(("frame_ms", "window_start_ms"), [None] * count),
            "model": [name] * count,
            "name": [str(seed)] * count,
        }
        columns["fingerprint"] = [own["fingerprint"]] * count
        schema = pa.schema([field for field in [*SHARED, *TABLES[name]] if field.name not in ("run_id", "n")])
        results[name] = pa.table(columns).select(schema.names).cast(schema)
    schema = pa.schema([*(field for field in LEDGER if field.name not in ("run_id", "n")), *METER])
    return {**results, "ledger": pa.Table.from_pylist(ledger, schema=schema)}


def drive(url: str, items: int, seed: int, die_at: int | None = None) -> None:
    """Commit every item that the ledger lacks, seven at a time, in an order of its own.

    Kills itself at the `die_at`-th step: before or after a part, a row of the commit log, a table's commit.
    """
    if die_at is not None:
        _arm(die_at)
    catalog = Catalog(url, create=True)
    catalog.finish()
    ledger, pending, since = catalog.ledger()
    done = {key for rows in (ledger.to_table(), pending) for key in rows["item_key"].to_pylist()}
    left = [item for item in range(items) if f"{item:032x}" not in done]
    random.Random(seed).shuffle(left)
    log = catalog.commit_log(new_run_id(), TABLES, since)
    for start in range(0, len(left), 7):
        log.commit(made_rows(left[start : start + 7], seed))
    log.commit_rest()


def _arm(die_at: int) -> None:
    steps = 0

    def step() -> None:
        nonlocal steps
        steps += 1
        if steps == die_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def between(function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **named: Any) -> Any:
            step()
            answer = function(*arguments, **named)
            step()
            return answer

        return wrapped

    # Every part, every transaction of the log and of the tables goes through these two.
    commits.write_part = between(commits.write_part)  # type: ignore[assignment]
    commits._add = between(commits._add)  # type: ignore[assignment]
