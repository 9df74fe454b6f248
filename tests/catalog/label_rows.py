"""Rows of labels and objects, written as a run would, without looking at anything."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from pinakes.catalog import Catalog
from pinakes.catalog.schema import LEDGER, result_schema
from pinakes.operators.label_rows import SCHEMA as LABELS
from pinakes.operators.object_rows import SCHEMA as OBJECTS

TABLES = {"labels": LABELS, "objects": OBJECTS}
BOX = {"left": 0.1, "top": 0.2, "width": 0.3, "height": 0.4}


def label(name: str, confidence: float, *ancestors: str, categories: tuple[str, ...] = ()) -> dict[str, Any]:
    return {"name": name, "confidence": confidence, "ancestors": [*ancestors], "categories": [*categories]}


def thing(name: str, confidence: float, *ancestors: str) -> dict[str, Any]:
    return {"name": name, "confidence": confidence, "ancestors": [*ancestors], "box": BOX}


def commit(
    catalog: Catalog,
    found: Mapping[str, Mapping[str, list[dict[str, Any]]]],
    fingerprint: str = "one",
    failed: Mapping[str, str] | None = None,
) -> int:
    """Commit what was found, by table and uri, in a run of its own; `failed` are codes by uri, of both operators."""
    run = {"run_id": f"run-{fingerprint}", "job": "test", "source": "here", "spec": "{}", "versions": "{}", "host": "h"}
    operators = {name: {"model": name, "fingerprint": f"{name}-{fingerprint}"} for name in found}
    catalog.record_run({**run, "status": "started", "operators": json.dumps(operators)})
    log = catalog.commit_log(run["run_id"], {name: TABLES[name] for name in found}, since=1_000_000)
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in (*found, "ledger")}
    for name, by_uri in found.items():
        for uri in [*by_uri, *(failed or ())]:
            look = {
                "uri": uri,
                "item_key": uri * 2,
                "model": name,
                "fingerprint": f"{name}-{fingerprint}",
                "attempt": 1,
            }
            rows[name] += [look | row for row in by_uri.get(uri, [])]
            code = (failed or {}).get(uri)
            status = {"status": "failed" if code else "ok", "error_code": code, "error_message": code}
            ledger = {"operator": name, "results": len(by_uri.get(uri, [])), "finished_at": datetime.now(UTC)}
            rows["ledger"].append(look | ledger | status)
    full = {**{name: result_schema(TABLES[name]) for name in found}, "ledger": LEDGER}
    made = {
        name: pa.Table.from_pylist(some, pa.schema([one for one in full[name] if one.name not in ("run_id", "n")]))
        for name, some in rows.items()
    }
    n = log.commit(made)
    assert n is not None
    return n
