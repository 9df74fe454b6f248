"""What the steps of a run hand on to one another: work, and the rows of what was seen, column by column."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pinakes.catalog import metering
from pinakes.catalog.metering import IMAGES, METER, SPENT, VIDEO_MINUTES
from pinakes.catalog.schema import LEDGER, TIMESTAMP
from pinakes.operators.device import Origin
from pinakes.operators.errors import ErrorCode
from pinakes.operators.operator import Operator

#: A look at a window that is done: by which operator, and where the window starts.
LOOKED = pa.list_(pa.struct([pa.field("operator", pa.string()), pa.field("window_start_ms", pa.int64())]))

#: The work of a run: an item, or a window of one, and the operators that are due with the number of the attempt.
WORK = pa.schema(
    [
        pa.field("uri", pa.string(), nullable=False),
        pa.field("item_key", pa.string(), nullable=False),
        pa.field("size", pa.int64()),
        pa.field("mtime", TIMESTAMP),
        pa.field("etag", pa.string()),
        pa.field("error_code", pa.string()),
        pa.field("error_message", pa.string()),
        pa.field("operators", pa.list_(pa.string()), nullable=False),
        pa.field("fingerprints", pa.list_(pa.string()), nullable=False),
        pa.field("attempts", pa.list_(pa.int32()), nullable=False),
        pa.field("is_video", pa.bool_(), nullable=False),
        # Of a video of which an earlier run has seen some windows.
        pa.field("looked", LOOKED),
        # Of a window.
        pa.field("content_id", pa.string()),
        pa.field("window_start_ms", pa.int64()),
        pa.field("window_end_ms", pa.int64()),
    ]
)

#: What an operator of another device is to look at, as a table behind this and the operator's name.
INPUTS = "_inputs/"
INPUT_SCHEMA = pa.schema(
    [
        *(WORK.field(name) for name in ("uri", "item_key", "window_start_ms")),
        pa.field("content_id", pa.string()),
        pa.field("frame_ms", pa.int64()),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("fingerprint", pa.string()),
        pa.field("attempt", pa.int32()),
        pa.field("is_video", pa.bool_()),
        pa.field("cpu_s", pa.float64()),  # that preparing it took
        pa.field("kind", pa.string()),  # of the samples, as NumPy spells it
        pa.field("shape", pa.list_(pa.int32())),
        pa.field("samples", pa.large_binary()),
    ]
)

Item = dict[str, Any]
Tables = dict[str, pa.Table]
_Look = tuple[str, int | None, str]  # item key, start of the window, operator


@dataclass(frozen=True, slots=True)
class Sight:
    """What is looked at, as far as its rows must know it."""

    item: Item
    content_id: str | None
    frame_ms: int | None = None


class Rows:
    """Collects the rows of some items, or of the frames of windows: one row of the ledger for all frames of a window.

    An operator that fails on one frame fails on the window, and none of its rows stay.
    """

    def __init__(self, operators: Mapping[str, Operator]) -> None:
        self._operators = operators
        self._results: list[tuple[str, str, pa.Table]] = []
        self._ledger: dict[_Look, dict[str, Any]] = {}
        self._took: dict[_Look, tuple[float, float, str | None]] = {}
        self._spent: dict[tuple[str, str | None], list[float]] = {}
        self._minutes: dict[str, float] = {}

    def add(self, operator: Operator, due: Sequence[Sight], found: Mapping[str, pa.Table]) -> None:
        """The results of one operator for a batch: shared columns before its own, and a ledger row for each item."""
        counts = np.zeros(len(due), np.int64)
        shared = _shared(operator, due)
        made = {}
        for table, columns in operator.tables.items():
            rows = found[table]
            picture = rows["picture"].to_numpy()
            counts += np.bincount(picture, minlength=len(due))
            own = rows.select(columns.names).cast(columns)
            made[table] = pa.table({**_columns(shared.take(picture)), **_columns(own)})
        # Only now, when nothing can raise any more: no rows without their ledger row.
        self._results += [(operator.name, table, rows) for table, rows in made.items()]
        for sight, count in zip(due, counts.tolist(), strict=True):
            self.looked(operator, sight, count)

    def add_whole(self, operator: Operator, sight: Sight, found: Mapping[str, pa.Table], count: int) -> None:
        """What `finish` made of a video in whose windows the operator has found so many rows."""
        shared = _shared(operator, [sight])
        made = []
        for table, columns in operator.video_tables.items():
            own = found[table].select(columns.names).cast(columns)
            every = shared.take(pa.array(np.zeros(len(own), np.int64)))
            made.append((operator.name, table, pa.table({**_columns(every), **_columns(own)})))
        self._results += made
        self.looked(operator, sight, count + sum(len(rows) for _, _, rows in made))

    def looked(self, operator: Operator, sight: Sight, count: int = 0) -> None:
        """The operator has looked, and found so many rows."""
        row = self._ledger.setdefault(
            _look(sight.item, operator.name), self._row(sight.item, operator.name, sight.content_id, "ok", 0)
        )
        row["results"] += count

    def took(
        self, operator: Operator, due: Sequence[Sight], cpu_s: float, gpu_s: float = 0.0, device: str | None = None
    ) -> None:
        """What the operator took to look at them: CPU seconds, and seconds of the GPU of that name."""
        for sight in due:
            look = _look(sight.item, operator.name)
            before_cpu_s, before_gpu_s, before = self._took.get(look, (0.0, 0.0, None))
            self._took[look] = (before_cpu_s + cpu_s / len(due), before_gpu_s + gpu_s / len(due), device or before)

    def took_before(self, row: Mapping[str, Any]) -> None:
        """What a row of the ledger that is replaced by one of these has of it."""
        look = row["item_key"], row["window_start_ms"], row["operator"]
        self._took[look] = (row["cpu_s"], row["gpu_s"], row["device"])

    def spend(
        self,
        operator: str,
        cpu_s: float,
        unit: str | None = None,
        amount: float = 0,
        bytes_read: int = 0,
        requests: int = 0,
    ) -> None:
        """What belongs to no look: CPU seconds, units, bytes read, and requests for them."""
        more = [cpu_s, amount, math.ceil(amount), bytes_read, requests]
        before = self._spent.get((operator, unit), [0.0] * len(more))
        self._spent[operator, unit] = [one + other for one, other in zip(before, more, strict=True)]

    def lasts(self, item: Item, minutes: float) -> None:
        """How long the video is: the units of its looks as a whole."""
        self._minutes[item["item_key"]] = minutes

    def defer(
        self,
        operator: Operator,
        due: Sequence[Sight],
        inputs: Sequence[np.ndarray],
        origins: Sequence[Origin],
        cpu_s: float,
    ) -> None:
        """Inputs for an operator that looks on another device; preparing them took so many CPU seconds."""
        offsets = np.cumsum([0, *(one.nbytes for one in inputs)])
        samples = np.concatenate([np.ascontiguousarray(one).reshape(-1).view(np.uint8) for one in inputs])
        columns = [
            [sight.item["uri"] for sight in due],
            [sight.item["item_key"] for sight in due],
            [sight.item["window_start_ms"] for sight in due],
            [sight.content_id for sight in due],
            [sight.frame_ms for sight in due],
            [origin.width for origin in origins],
            [origin.height for origin in origins],
            [_of(sight.item, "fingerprints", operator.name) for sight in due],
            [_of(sight.item, "attempts", operator.name) for sight in due],
            [sight.item["is_video"] for sight in due],
            [cpu_s / len(due)] * len(due),
            [one.dtype.str for one in inputs],
            [list(one.shape) for one in inputs],
        ]
        arrays = [pa.array(values, kind) for values, kind in zip(columns, INPUT_SCHEMA.types, strict=False)]
        buffers = [None, pa.py_buffer(offsets.astype(np.int64)), pa.py_buffer(samples)]
        arrays.append(pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(due), buffers))
        self._results.append((operator.name, INPUTS + operator.name, pa.table(arrays, schema=INPUT_SCHEMA)))

    def fail_look(self, operator: Operator, sight: Sight, error: Exception) -> None:
        """A ledger row for an operator that raised."""
        out_of_memory = isinstance(error, MemoryError)
        code = ErrorCode.OUT_OF_MEMORY if out_of_memory else ErrorCode.OPERATOR_FAILED
        where = "" if sight.frame_ms is None else f"at {sight.frame_ms / 1000:.3f} s: "
        message = f"{where}{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        self.fail(sight.item, [operator.name], code, message, sight.content_id)

    def fail(
        self, item: Item, operators: Sequence[str], code: ErrorCode, message: str, content_id: str | None = None
    ) -> None:
        """A ledger row for each operator that could not look; the first reason is kept."""
        status = "skipped" if code is ErrorCode.NOT_MEDIA else "failed"
        for name in operators:
            before = self._ledger.get(_look(item, name))
            if before is None or before["status"] == "ok":
                self._ledger[_look(item, name)] = self._row(item, name, content_id, status, 0, code, message)

    def failed(self, operator: Operator, item: Item) -> bool:
        """Whether that look has failed."""
        row = self._ledger.get(_look(item, operator.name))
        return row is not None and row["status"] != "ok"

    def _row(
        self,
        item: Item,
        operator: str,
        content_id: str | None,
        status: str,
        results: int,
        code: ErrorCode | None = None,
        message: str | None = None,
    ) -> dict[str, Any]:
        return {
            "uri": item["uri"],
            "item_key": item["item_key"],
            "content_id": content_id,
            "operator": operator,
            "model": self._operators[operator].model,
            "fingerprint": _of(item, "fingerprints", operator),
            "window_start_ms": item["window_start_ms"],
            "attempt": _of(item, "attempts", operator),
            "status": status,
            "results": results,
            "error_code": code and code.value,
            "error_message": message,
            "finished_at": datetime.now(UTC),
            "unit": VIDEO_MINUTES if item["is_video"] else IMAGES,
        }

    def tables(self) -> Tables:
        """All rows so far, by table, without the columns that the commit adds."""
        spoilt = [look for look, row in self._ledger.items() if row["status"] != "ok"]
        found: dict[str, list[pa.Table]] = {}
        for operator, table, rows in self._results:
            for item_key, window_start_ms, name in spoilt:
                if name == operator:
                    rows = rows.filter(pc.invert(_is_of(rows, item_key, window_start_ms)))
            found.setdefault(table, []).append(rows)
        if self._spent:
            found[SPENT] = [metering.spent(self._spent)]
        looks = [{**row, **self._metered(look, row)} for look, row in self._ledger.items()]
        ledger = pa.Table.from_pylist(looks, schema=pa.schema([*uncommitted(LEDGER), *METER]))
        return {**{table: pa.concat_tables(rows) for table, rows in found.items()}, "ledger": ledger}

    def _metered(self, look: _Look, row: Mapping[str, Any]) -> dict[str, Any]:
        """The rest of METER. A window of a video is no unit: the whole is, once."""
        item_key, window_start_ms, _ = look
        cpu_s, gpu_s, device = self._took.get(look, (0.0, 0.0, None))
        whole = self._minutes.get(item_key, 0.0) if row["unit"] == VIDEO_MINUTES else 1.0
        amount = whole if row["status"] == "ok" and window_start_ms is None else 0.0
        return {"amount": amount, "cpu_s": cpu_s, "gpu_s": gpu_s, "device": device}


def result_tables(operators: Mapping[str, Operator], *, videos: bool) -> dict[str, pa.Schema]:
    """The tables that those operators fill, with their own columns; those of videos only if there are any."""
    tables: dict[str, pa.Schema] = {}
    for one in operators.values():
        if videos or "image" in one.media_types:
            tables.update(one.tables)
        if videos:
            tables.update(one.video_tables)
    return tables


def uncommitted(schema: pa.Schema) -> pa.Schema:
    """A table's schema before the commit adds the run and its own number."""
    return pa.schema([field for field in schema if field.name not in ("run_id", "n")])


def concatenated(tables: Sequence[Tables]) -> Tables:
    """The rows of several batches, by table."""
    names = sorted({name for one in tables for name in one})
    return {name: pa.concat_tables([one[name] for one in tables if name in one]) for name in names}


def work_key(item: Item) -> str:
    """What an item, or a window of one, is known by while it is looked at."""
    key: str = item["item_key"]
    return key if item["window_start_ms"] is None else f"{key} {item['window_start_ms']}"


def without_operators(item: Item, done: Sequence[int]) -> Item | None:
    """The item with the operators that are still due, which are all but those positions; None if there are none."""
    due = [at for at in range(len(item["operators"])) if at not in done]
    lists = ("operators", "fingerprints", "attempts")
    return {**item, **{column: [item[column][at] for at in due] for column in lists}} if due else None


def _shared(operator: Operator, due: Sequence[Sight]) -> pa.Table:
    """The shared columns, a row for each sight, without those that the commit adds."""
    return pa.table(
        {
            "uri": [sight.item["uri"] for sight in due],
            "item_key": [sight.item["item_key"] for sight in due],
            "content_id": pa.array([sight.content_id for sight in due], pa.string()),
            "frame_ms": pa.array([sight.frame_ms for sight in due], pa.int64()),
            "window_start_ms": pa.array([sight.item["window_start_ms"] for sight in due], pa.int64()),
            "model": [operator.model] * len(due),
            "fingerprint": [_of(sight.item, "fingerprints", operator.name) for sight in due],
            "attempt": pa.array([_of(sight.item, "attempts", operator.name) for sight in due], pa.int32()),
        }
    )


def _look(item: Item, operator: str) -> _Look:
    return item["item_key"], item["window_start_ms"], operator


def _of(item: Item, column: str, operator: str) -> Any:
    return item[column][item["operators"].index(operator)]


def _is_of(rows: pa.Table, item_key: str, window_start_ms: int | None) -> pa.ChunkedArray:
    start = rows["window_start_ms"]
    in_window = pc.is_null(start) if window_start_ms is None else pc.fill_null(pc.equal(start, window_start_ms), False)
    return pc.and_(pc.equal(rows["item_key"], item_key), in_window)


def _columns(table: pa.Table) -> dict[str, pa.ChunkedArray]:
    return dict(zip(table.column_names, table.columns, strict=True))
