"""Rows of the table `usage`, made up."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
from deltalake import write_deltalake

from pinakes.catalog import Catalog
from pinakes.catalog.metering import USAGE

USUAL: Mapping[str, Any] = {
    "n": 1,
    "run_id": "20261003T120000-000000",
    "job": "nightly",
    "recorded_at": datetime(2026, 10, 3, 12, tzinfo=UTC),
    "unit": "images",
    "amount": 0.0,
    "cpu_s": 0.0,
    "gpu_s": 0.0,
    "device": None,
    "bytes": 0,
    "requests": 0,
}


def usage(*rows: Mapping[str, Any]) -> pa.Table:
    """The rows; what one does not say is as usual, and its rounded amount that of one item."""
    full = [{**USUAL, "rounded_amount": math.ceil(row.get("amount", 0)), **row} for row in rows]
    return pa.Table.from_pylist(full, schema=USAGE)


def images(operator: str, count: float, **other: Any) -> dict[str, Any]:
    return {"operator": operator, "amount": float(count), **other}


def minutes(operator: str, count: float, **other: Any) -> dict[str, Any]:
    return {"operator": operator, "amount": float(count), "unit": "video_minutes", **other}


def add_usage(url: Path | str, *rows: Mapping[str, Any]) -> Catalog:
    """A catalogue with these rows, made if there is none."""
    catalog = Catalog(str(url), create=True)
    write_deltalake(catalog.table("usage", USAGE), usage(*rows), mode="append")
    return catalog
