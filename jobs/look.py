"""Look at items: fetch, decode once, every operator that is due, rows for every table. No Ray, no Delta.

What goes in is a batch of the plan (`WORK`), what comes out the rows of one or more tables, the ledger's among them.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any

import numpy as np
import pyarrow as pa

from pinakes.catalog.schema import LEDGER, TIMESTAMP
from pinakes.jobs.fetch import fetch, too_large
from pinakes.operators.decode import decode
from pinakes.operators.device import DeviceOperator, Origin
from pinakes.operators.errors import ErrorCode, MediaError
from pinakes.operators.operator import Operator, Picture

#: The work of a run: an item, and the operators that are due with the number of the attempt.
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
        pa.field("attempts", pa.list_(pa.int32()), nullable=False),
    ]
)

#: Pictures in memory at once: what an operator gets as one batch.
BATCH = 8
#: Files that are fetched, at most, besides the picture in hand; and their bytes beyond which no more are asked for.
AHEAD = 3 * BATCH
AHEAD_BYTES = 128 * 2**20

#: What an operator of another device is to look at, as a table behind this and the operator's name.
INPUTS = "_inputs/"
INPUT_SCHEMA = pa.schema(
    [
        *(WORK.field(name) for name in ("uri", "item_key")),
        pa.field("content_id", pa.string()),
        pa.field("frame_ms", pa.int64()),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("attempt", pa.int32()),
        pa.field("kind", pa.string()),  # of the samples, as NumPy spells it
        pa.field("shape", pa.list_(pa.int32())),
        pa.field("samples", pa.large_binary()),
    ]
)

Item = dict[str, Any]
Tables = dict[str, pa.Table]


@dataclass(frozen=True, slots=True)
class Sight:
    """What is looked at, as far as its rows must know it."""

    item: Item
    content_id: str
    frame_ms: int | None = None


#: What could be opened: its item's position in the work, itself, its picture.
Seen = tuple[int, Sight, Picture]


@dataclass(frozen=True)
class Limits:
    """What one item may cost."""

    max_pixels: int
    max_bytes: int


class Looker:
    """Holds the loaded operators of a job and looks at items with them.

    `in_hand` is told the positions of the items that are about to be touched by native code, and an empty list after:
    should the process die, it was one of them. Of `elsewhere`, DeviceOperators that look on another device, only the
    inputs are prepared, into tables of INPUT_SCHEMA.
    """

    def __init__(
        self,
        operators: Mapping[str, Operator],
        limits: Limits,
        in_hand: Callable[[Sequence[int]], None],
        elsewhere: Collection[str] = (),
    ) -> None:
        self.operators = operators
        self.limits = limits
        self._in_hand = in_hand
        self._elsewhere = elsewhere
        self._fetchers = ThreadPoolExecutor(max_workers=8, thread_name_prefix="fetch")

    def look(self, work: pa.Table) -> Iterator[tuple[list[int], Tables]]:
        """Yield, batch by batch, the positions of the items that are finished, and their rows."""
        items: list[Item] = work.to_pylist()
        waiting: deque[tuple[Future[bytes], Item]] = deque()
        ahead = iter(items)
        for start in range(0, len(items), BATCH):
            batch = list(enumerate(items[start : start + BATCH], start))
            rows = Rows(self.operators)
            seen = []
            for position, item in batch:
                while not waiting or (len(waiting) < AHEAD and self._waiting_bytes(waiting) < AHEAD_BYTES):
                    if (coming := next(ahead, None)) is None:
                        break
                    waiting.append((self._fetchers.submit(self._fetch, coming), coming))
                opened = self._open(position, item, waiting.popleft()[0], rows)
                if opened is not None:
                    seen.append((position, *opened))
            for operator in self.operators.values():
                due = [one for one in seen if operator.name in one[1].item["operators"]]
                if due:
                    self._apply(operator, due, rows)
            yield [position for position, _ in batch], rows.tables()

    @contextmanager
    def _holding(self, positions: Sequence[int]) -> Iterator[None]:
        self._in_hand(positions)
        try:
            yield
        finally:
            self._in_hand([])

    def _fetch(self, item: Item) -> bytes:
        if item["error_code"]:
            raise MediaError(ErrorCode(item["error_code"]), item["error_message"] or "")
        if (item["size"] or 0) > self.limits.max_bytes:
            raise too_large(self.limits.max_bytes)
        return fetch(item["uri"], self.limits.max_bytes)

    @staticmethod
    def _waiting_bytes(waiting: "Iterable[tuple[Future[bytes], Item]]") -> int:
        """What has come, and what is on its way by its size in the listing, or a guess where that has none."""
        total = 0
        for coming, item in waiting:
            if not coming.done():
                total += item["size"] or AHEAD_BYTES // AHEAD
            elif coming.exception() is None:
                total += len(coming.result())
        return total

    def _open(self, position: int, item: Item, coming: "Future[bytes]", rows: "Rows") -> tuple[Sight, Picture] | None:
        content_id = None
        try:
            data = coming.result()
            content_id = blake2b(data, digest_size=16).hexdigest()
            with self._holding([position]):
                pixels, facts = decode(data, name=item["uri"], max_pixels=self.limits.max_pixels)
            picture = Picture(pixels, facts, item_key=item["item_key"], etag=item["etag"], mtime=item["mtime"])
            return Sight(item, content_id, picture.frame_ms), picture
        except MediaError as error:
            rows.fail(item, item["operators"], error.code, str(error), content_id)
        except MemoryError:
            rows.fail(item, item["operators"], ErrorCode.OUT_OF_MEMORY, "not enough memory to decode it", content_id)
        except Exception as error:  # decoders raise all sorts on broken files
            rows.fail(item, item["operators"], ErrorCode.CORRUPT, f"{type(error).__name__}: {error}"[:300], content_id)
        return None

    def _apply(self, operator: Operator, due: Sequence[Seen], rows: "Rows") -> None:
        """One operator on a batch; when it raises, one by one, so that only what it cannot take is failed."""
        try:
            pictures, sights = [picture for _, _, picture in due], [sight for _, sight, _ in due]
            with self._holding([position for position, _, _ in due]):
                if isinstance(operator, DeviceOperator) and operator.name in self._elsewhere:
                    inputs = [operator.prepare(picture) for picture in pictures]
                    rows.defer(operator, sights, inputs, [Origin.of(picture) for picture in pictures])
                    return
                found = operator.look(pictures)
            rows.add(operator, sights, found)
        except Exception as error:  # an operator may be anyone's code
            if len(due) == 1:
                rows.fail_look(operator, due[0][1], error)
                return
            for one in due:
                self._apply(operator, [one], rows)


class Rows:
    """Collects the rows of a batch of items, column by column."""

    def __init__(self, operators: Mapping[str, Operator]) -> None:
        self._operators = operators
        self._results: dict[str, list[pa.Table]] = {}
        self._ledger: list[dict[str, Any]] = []

    def add(self, operator: Operator, due: Sequence[Sight], found: Mapping[str, pa.Table]) -> None:
        """The results of one operator for a batch: shared columns before its own, and a ledger row for each item."""
        counts = np.zeros(len(due), np.int64)
        shared = pa.table(
            {
                "uri": [sight.item["uri"] for sight in due],
                "item_key": [sight.item["item_key"] for sight in due],
                "content_id": [sight.content_id for sight in due],
                "frame_ms": pa.array([sight.frame_ms for sight in due], pa.int64()),
                "model": [operator.model] * len(due),
                "fingerprint": [operator.fingerprint] * len(due),
                "attempt": pa.array([_attempt(sight.item, operator.name) for sight in due], pa.int32()),
            }
        )
        made = {}
        for table, columns in operator.tables.items():
            rows = found[table]
            picture = rows["picture"].to_numpy()
            counts += np.bincount(picture, minlength=len(due))
            own = rows.select(columns.names).cast(columns)
            made[table] = pa.table({**_columns(shared.take(picture)), **_columns(own)})
        # Only now, when nothing can raise any more: no rows without their ledger row.
        for table, rows in made.items():
            self._results.setdefault(table, []).append(rows)
        for sight, count in zip(due, counts.tolist(), strict=True):
            self._ledger.append(self._row(sight.item, operator.name, sight.content_id, "ok", count))

    def defer(
        self, operator: Operator, due: Sequence[Sight], inputs: Sequence[np.ndarray], origins: Sequence[Origin]
    ) -> None:
        """Inputs for an operator that looks on another device."""
        offsets = np.cumsum([0, *(one.nbytes for one in inputs)])
        samples = np.concatenate([np.ascontiguousarray(one).reshape(-1).view(np.uint8) for one in inputs])
        columns = [
            [sight.item["uri"] for sight in due],
            [sight.item["item_key"] for sight in due],
            [sight.content_id for sight in due],
            [sight.frame_ms for sight in due],
            [origin.width for origin in origins],
            [origin.height for origin in origins],
            [_attempt(sight.item, operator.name) for sight in due],
            [one.dtype.str for one in inputs],
            [list(one.shape) for one in inputs],
        ]
        arrays = [pa.array(values, kind) for values, kind in zip(columns, INPUT_SCHEMA.types, strict=False)]
        buffers = [None, pa.py_buffer(offsets.astype(np.int64)), pa.py_buffer(samples)]
        arrays.append(pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(due), buffers))
        self._results.setdefault(INPUTS + operator.name, []).append(pa.table(arrays, schema=INPUT_SCHEMA))

    def fail_look(self, operator: Operator, sight: Sight, error: Exception) -> None:
        """A ledger row for an operator that raised."""
        out_of_memory = isinstance(error, MemoryError)
        code = ErrorCode.OUT_OF_MEMORY if out_of_memory else ErrorCode.OPERATOR_FAILED
        message = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        self.fail(sight.item, [operator.name], code, message, sight.content_id)

    def fail(
        self, item: Item, operators: Sequence[str], code: ErrorCode, message: str, content_id: str | None = None
    ) -> None:
        """A ledger row for each operator that could not look."""
        status = "skipped" if code is ErrorCode.NOT_MEDIA else "failed"
        for name in operators:
            self._ledger.append(self._row(item, name, content_id, status, 0, code, message))

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
            "fingerprint": self._operators[operator].fingerprint,
            "window_start_ms": None,
            "attempt": _attempt(item, operator),
            "status": status,
            "results": results,
            "error_code": code and code.value,
            "error_message": message,
            "finished_at": datetime.now(UTC),
        }

    def tables(self) -> Tables:
        """All rows so far, by table, without the columns that the commit adds."""
        ledger = pa.Table.from_pylist(self._ledger, schema=uncommitted(LEDGER))
        return {**{table: pa.concat_tables(rows) for table, rows in self._results.items()}, "ledger": ledger}


def uncommitted(schema: pa.Schema) -> pa.Schema:
    """A table's schema before the commit adds the run and its own number."""
    return pa.schema([field for field in schema if field.name not in ("run_id", "n")])


def _attempt(item: Item, operator: str) -> int:
    attempt: int = item["attempts"][item["operators"].index(operator)]
    return attempt


def _columns(table: pa.Table) -> dict[str, pa.ChunkedArray]:
    return dict(zip(table.column_names, table.columns, strict=True))
