"""Look at videos: open one, look at it whole if it is short, else say which windows it has; look at a window.

A short video is an item like a still, of many pictures. Of a long one come back its windows, as work that any process
can do, and what is made of the whole is made when they are all in (finish.py).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from hashlib import blake2b
from typing import BinaryIO

import numpy as np
import pyarrow as pa

from pinakes.catalog.metering import DECODE, RUN, VIDEO_MINUTES
from pinakes.catalog.schema import TIMESTAMP
from pinakes.jobs.fetch import media_error, opened
from pinakes.jobs.meter import Meter, Reads
from pinakes.jobs.rows import WORK, Item, Rows, Sight, Tables, without_operators
from pinakes.operators.errors import ErrorCode, MediaError
from pinakes.operators.operator import Footage, MediaFacts, Operator, Picture, Sampling
from pinakes.operators.video import WINDOW_MS, Frame, Video, Window, open_video

#: Pictures in memory at once: what an operator gets as one batch.
BATCH = 8
#: With every frame in the sample windows are shorter, lest one take an hour.
DENSE_WINDOW_MS = 30_000
#: Of footage as many frames as this count as one picture where time is limited.
FOOTAGE_FRAMES = 500
MINUTE_MS = 60_000
#: What is hashed of a video, at its start and at its end.
HASHED_BYTES = 2**20

#: A table of this name has the videos that could be opened; one of the other the windows of the long ones, as WORK.
OPENED, WINDOWS = "_opened", "_windows"
#: And one of this how long it was that has been looked at.
WATCHED = "_watched"
#: What is carried along of what a container says.
FACTS = pa.schema(
    [
        pa.field("format", pa.string()),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("orientation", pa.int32()),
        pa.field("duration_ms", pa.int64()),
        pa.field("fps", pa.float64()),
        pa.field("codec", pa.string()),
        pa.field("captured_at", TIMESTAMP),
    ]
)
OPENED_SCHEMA = pa.schema(
    [
        *WORK,
        pa.field("window_starts", pa.list_(pa.int64())),  # none: it is short, and has been looked at
        pa.field("sampled", pa.list_(pa.int64())),  # of a short one the times of the sample
        *FACTS,
    ]
)

#: What could be opened: its item's position in the work, itself, its picture.
Seen = tuple[int, Sight, Picture]
Holding = Callable[[Sequence[int]], AbstractContextManager[None]]
Apply = Callable[[Operator, Sequence[Seen], Rows], None]

_NO_PIXELS = np.zeros((0, 0, 3), np.uint8)


class Watcher:
    """Looks at videos for a Looker, which applies operators to pictures and says what is in hand."""

    def __init__(
        self,
        operators: Mapping[str, Operator],
        max_pixels: int,
        sampling: Sampling,
        holding: Holding,
        apply: Apply,
        meter: Meter,
    ) -> None:
        self._operators = operators
        self._max_pixels = max_pixels
        self._sampling = sampling
        self._window_ms = DENSE_WINDOW_MS if sampling == "every-frame" else WINDOW_MS
        self._holding = holding
        self._apply = apply
        self._meter = meter

    def watch(self, position: int, item: Item) -> Tables:
        """A video or a window of one: rows, and of a whole video what it is (OPENED, WINDOWS)."""
        rows = Rows(self._operators)
        rows.spend(RUN, self._meter.lap())
        reads = Reads()
        found: Tables = {}
        content_id = item["content_id"]
        # Until it is open, what fails is the item; after that, what the container said stands.
        failing = item["operators"]
        try:
            if item["error_code"]:
                raise MediaError(ErrorCode(item["error_code"]), item["error_message"] or "")
            with ExitStack() as stack:
                with self._holding([position]):
                    source, size = stack.enter_context(opened(item["uri"], reads))
                    content_id = content_id or video_content_id(source, size)
                    video = stack.enter_context(open_video(source, item["uri"], size, self._max_pixels))
                rows.spend(DECODE, self._meter.lap(), VIDEO_MINUTES)
                failing = [name for name in item["operators"] if self._operators[name].sees != "container"]
                item = {**item, "content_id": content_id}
                if item["window_start_ms"] is None:
                    found = self._open(position, item, video, rows)
                else:
                    window = Window(item["window_start_ms"], item["window_end_ms"])
                    found = _watched(video, window, self._look(position, item, video, window, rows))
        except MediaError as error:
            rows.fail(item, failing, error.code, str(error), content_id)
        except OSError as error:
            said = media_error(error)
            rows.fail(item, failing, said.code, str(said), content_id)
        except MemoryError:
            rows.fail(item, failing, ErrorCode.OUT_OF_MEMORY, "not enough memory to decode it", content_id)
        except Exception as error:  # decoders raise all sorts on broken files
            message = f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]
            rows.fail(item, failing, ErrorCode.CORRUPT, message, content_id)
        watched_ms = sum(found[WATCHED]["ms"].to_pylist()) if WATCHED in found else 0
        cpu_s = self._meter.lap() + self._meter.lap_of_fetching()
        rows.spend(DECODE, cpu_s, VIDEO_MINUTES, watched_ms / MINUTE_MS, reads.bytes, reads.requests)
        return {**rows.tables(), **found}

    def _open(self, position: int, item: Item, video: Video, rows: Rows) -> Tables:
        windows = video.windows(self._window_ms)
        seeing = [*self._due(item, "pictures"), *self._due(item, "every frame")]
        whole = len(windows) == 1 and (not seeing or at_hand(item, self._operators))
        found: Tables = {}
        sampled = None
        if whole:
            # Of a long one that comes at its end, lest it take the place of an earlier version before that.
            look_at_container(item, video.facts, self._operators, rows)
            rows.lasts(item, (video.facts.duration_ms or 0) / MINUTE_MS)
            sampled = self._look(position, item, video, windows[0], rows)
            rows.lasts(item, (video.facts.duration_ms or max(sampled, default=0)) / MINUTE_MS)
            found |= _watched(video, windows[0], sampled) if seeing else {}
        about = {name: getattr(video.facts, name) for name in FACTS.names}
        starts = [] if whole else [window.start_ms for window in windows]
        row = {**item, **about, "size": video.facts.size, "window_starts": starts, "sampled": sampled}
        found[OPENED] = pa.Table.from_pylist([row], OPENED_SCHEMA)
        if not whole:
            found[WINDOWS] = pa.Table.from_pylist(list(self._work(item, windows)), WORK)
        return found

    def _work(self, item: Item, windows: Sequence[Window]) -> Iterator[Item]:
        """What is left to do in each window."""
        looked = {(one["operator"], one["window_start_ms"]) for one in item["looked"] or ()}
        for window in windows:
            done = [
                at
                for at, name in enumerate(item["operators"])
                if self._operators[name].sees in ("container", "rows") or (name, window.start_ms) in looked
            ]
            left = without_operators(item, done)
            if left is not None:
                yield {**left, "looked": None, "window_start_ms": window.start_ms, "window_end_ms": window.end_ms}

    def _due(self, item: Item, sees: str) -> list[Operator]:
        return [one for one in self._operators.values() if one.name in item["operators"] and one.sees == sees]

    def _look(self, position: int, item: Item, video: Video, window: Window, rows: Rows) -> list[int]:
        """Every operator that is due, on one pass over the frames. Returns the times of the sample."""
        picturing, watching = self._due(item, "pictures"), self._due(item, "every frame")
        if not picturing and not watching:
            return []
        frames = video.frames(
            window,
            self._sampling if picturing else None,
            every_frame=bool(watching),
            context_frames=max((one.context_frames for one in watching), default=0),
        )
        sampled: list[int] = []
        batch: list[Seen] = []
        footage: list[Frame] = []
        while True:
            with self._holding([position]):
                frame = next(frames, None)
            rows.spend(DECODE, self._meter.lap(), VIDEO_MINUTES)
            if frame is not None and frame.thumbnail is not None:
                # Without the picture, which would stay in memory with it.
                footage.append(Frame(frame.frame_ms, frame.keyframe, frame.inside, None, frame.thumbnail, frame.dark))
            if frame is not None and frame.pixels is not None:
                sampled.append(frame.frame_ms)
                batch.append((position, *self._seen(item, video.facts, frame)))
            if batch and (frame is None or len(batch) == BATCH):
                for operator in picturing:
                    if not rows.failed(operator, item):
                        self._apply(operator, batch, rows)
                batch = []
            if frame is None:
                break
        for operator in picturing if not sampled else ():
            rows.looked(operator, Sight(item, item["content_id"]))
        for operator in watching:
            self._footage(position, item, operator, footage, rows)
        return sampled

    def _seen(self, item: Item, facts: MediaFacts, frame: Frame) -> tuple[Sight, Picture]:
        assert frame.pixels is not None
        picture = Picture(
            frame.pixels,
            facts,
            item["item_key"],
            item["etag"],
            item["mtime"],
            frame.frame_ms,
            frame.keyframe,
            self._sampling,
        )
        return Sight(item, item["content_id"], frame.frame_ms), picture

    def _footage(self, position: int, item: Item, operator: Operator, frames: Sequence[Frame], rows: Rows) -> None:
        inside = [at for at, frame in enumerate(frames) if frame.inside]
        whole = Sight(item, item["content_id"])
        if not inside:
            rows.looked(operator, whole)
            return
        footage = Footage(
            frame_ms=np.array([frame.frame_ms for frame in frames], np.int64),
            thumbnails=np.stack([frame.thumbnail for frame in frames if frame.thumbnail is not None]),
            dark=np.array([frame.dark for frame in frames], np.float32),
            own=range(inside[0], inside[-1] + 1),
        )
        try:
            with self._holding([position] * (1 + len(frames) // FOOTAGE_FRAMES)):
                found = operator.watch(footage)
            shown = sorted({at for table in found.values() for at in table["picture"].to_pylist()} or {inside[0]})
            sights = [Sight(item, item["content_id"], int(footage.frame_ms[at])) for at in shown]
            place = np.zeros(len(frames), np.int32)
            place[shown] = np.arange(len(shown))
            for table, one in found.items():
                picture = pa.array(place[one["picture"].to_numpy()])
                found = {**found, table: one.set_column(one.column_names.index("picture"), "picture", picture)}
            rows.add(operator, sights, found)
        except Exception as error:  # an operator may be anyone's code
            rows.fail_look(operator, whole, error)
        rows.took(operator, [whole], self._meter.lap())


def at_hand(item: Item, operators: Mapping[str, Operator]) -> bool:
    """Whether all that the item's operators follow, as far as it is part of the job, is due too, and so comes along."""
    followed = {name for one in item["operators"] for name in operators[one].follows}
    return followed.intersection(operators) <= set(item["operators"])


def look_at_container(item: Item, facts: MediaFacts, operators: Mapping[str, Operator], rows: Rows) -> None:
    """What the container says, by the operators that are due and see no more."""
    picture = Picture(_NO_PIXELS, facts, item["item_key"], item["etag"], item["mtime"])
    sight = Sight(item, item["content_id"])
    for operator in operators.values():
        if operator.sees == "container" and operator.name in item["operators"]:
            try:
                rows.add(operator, [sight], operator.look([picture]))
            except Exception as error:  # an operator may be anyone's code
                rows.fail_look(operator, sight, error)


def _watched(video: Video, window: Window, sampled: Sequence[int]) -> Tables:
    """How much of the video that was."""
    end = window.end_ms or video.facts.duration_ms or max(sampled, default=window.start_ms)
    return {WATCHED: pa.table({"ms": pa.array([max(0, end - window.start_ms)], pa.int64())})}


def video_content_id(source: str | BinaryIO, size: int) -> str:
    """A hash of the number of bytes and of the first and the last of them: where containers keep their index."""
    hashed = blake2b(str(size).encode(), digest_size=16)
    with ExitStack() as stack:
        file = stack.enter_context(open(source, "rb")) if isinstance(source, str) else source
        for start in (0, max(HASHED_BYTES, size - HASHED_BYTES)):
            file.seek(start)
            hashed.update(file.read(HASHED_BYTES))
        file.seek(0)
    return hashed.hexdigest()
