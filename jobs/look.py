"""Look at items: fetch, decode once, every operator that is due, rows for every table. No Ray, no Delta.

What goes in is a batch of the plan (`WORK`), what comes out the rows of one or more tables, the ledger's among them.
Videos are opened and looked at by watch.py.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b

import pyarrow as pa

from pinakes.catalog.metering import DECODE, IMAGES, RUN
from pinakes.jobs.fetch import fetch, requests, too_large
from pinakes.jobs.meter import Meter
from pinakes.jobs.rows import Item, Rows, Sight, Tables
from pinakes.jobs.watch import BATCH, Seen, Watcher
from pinakes.operators.decode import decode
from pinakes.operators.device import DeviceOperator, Origin
from pinakes.operators.errors import ErrorCode, MediaError
from pinakes.operators.operator import Operator, Picture, Sampling

#: Files that are fetched, at most, besides the picture in hand; and their bytes beyond which no more are asked for.
AHEAD = 3 * BATCH
AHEAD_BYTES = 128 * 2**20


@dataclass(frozen=True)
class Limits:
    """What one item may cost."""

    max_pixels: int
    max_bytes: int


class Looker:
    """Holds the loaded operators of a job and looks at items with them.

    `in_hand` is told the positions of the items that are about to be touched by native code, and an empty list after:
    should the process die, it was one of them. Of `elsewhere`, DeviceOperators that look on another device, only the
    inputs are prepared, into tables of INPUT_SCHEMA. A position stands in the list once for every picture of it.
    """

    def __init__(
        self,
        operators: Mapping[str, Operator],
        limits: Limits,
        in_hand: Callable[[Sequence[int]], None],
        elsewhere: Collection[str] = (),
        sampling: Sampling = "1fps",
    ) -> None:
        self.operators = operators
        self.limits = limits
        self._in_hand = in_hand
        self._elsewhere = elsewhere
        self.meter = Meter()
        self._watcher = Watcher(operators, limits.max_pixels, sampling, self._holding, self._apply, self.meter)
        self._fetchers = ThreadPoolExecutor(8, thread_name_prefix="fetch", initializer=self.meter.fetching)

    def look(self, work: pa.Table) -> Iterator[tuple[list[int], Tables]]:
        """Yield, batch by batch, the positions of the items that are finished, and their rows."""
        items: list[Item] = work.to_pylist()
        yield from self._look_at_stills([(at, item) for at, item in enumerate(items) if not item["is_video"]])
        for position, item in enumerate(items):
            if item["is_video"]:
                yield [position], self._watcher.watch(position, item)

    def _look_at_stills(self, items: list[tuple[int, Item]]) -> Iterator[tuple[list[int], Tables]]:
        waiting: deque[tuple[Future[bytes], Item]] = deque()
        ahead = iter([item for _, item in items])
        for start in range(0, len(items), BATCH):
            batch = items[start : start + BATCH]
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
            rows.spend(DECODE, self.meter.lap_of_fetching(), IMAGES)
            rows.spend(RUN, self.meter.lap())
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
    def _waiting_bytes(waiting: Iterable[tuple[Future[bytes], Item]]) -> int:
        """What has come, and what is on its way by its size in the listing, or a guess where that has none."""
        total = 0
        for coming, item in waiting:
            if not coming.done():
                total += item["size"] or AHEAD_BYTES // AHEAD
            elif coming.exception() is None:
                total += len(coming.result())
        return total

    def _open(self, position: int, item: Item, coming: Future[bytes], rows: Rows) -> tuple[Sight, Picture] | None:
        content_id = None
        data = b""
        decoded = False
        rows.spend(RUN, self.meter.lap())
        try:
            data = coming.result()
            content_id = blake2b(data, digest_size=16).hexdigest()
            with self._holding([position]):
                pixels, facts = decode(data, name=item["uri"], max_pixels=self.limits.max_pixels)
            picture = Picture(pixels, facts, item_key=item["item_key"], etag=item["etag"], mtime=item["mtime"])
            decoded = True
            return Sight(item, content_id, picture.frame_ms), picture
        except MediaError as error:
            rows.fail(item, item["operators"], error.code, str(error), content_id)
        except MemoryError:
            rows.fail(item, item["operators"], ErrorCode.OUT_OF_MEMORY, "not enough memory to decode it", content_id)
        except Exception as error:  # decoders raise all sorts on broken files
            rows.fail(item, item["operators"], ErrorCode.CORRUPT, f"{type(error).__name__}: {error}"[:300], content_id)
        finally:
            asked = 0 if item["error_code"] else requests(item["uri"])
            rows.spend(DECODE, self.meter.lap(), IMAGES, int(decoded), len(data), asked)
        return None

    def _apply(self, operator: Operator, due: Sequence[Seen], rows: Rows) -> None:
        """One operator on a batch; when it raises, one by one, so that only what it cannot take is failed."""
        pictures, sights = [picture for _, _, picture in due], [sight for _, sight, _ in due]
        rows.spend(RUN, self.meter.lap())
        try:
            with self._holding([position for position, _, _ in due]):
                if isinstance(operator, DeviceOperator) and operator.name in self._elsewhere:
                    inputs = [operator.prepare(picture) for picture in pictures]
                    origins = [Origin.of(picture) for picture in pictures]
                    rows.defer(operator, sights, inputs, origins, self.meter.lap())
                    return
                found = operator.look(pictures)
            rows.add(operator, sights, found)
            rows.took(operator, sights, self.meter.lap())
        except Exception as error:  # an operator may be anyone's code
            rows.took(operator, sights, self.meter.lap())
            if len(due) == 1:
                rows.fail_look(operator, due[0][1], error)
                return
            for one in due:
                self._apply(operator, [one], rows)
