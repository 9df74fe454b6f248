"""Reads videos: what their containers say, and the frames that are asked for, each decoded once.

A frame's picture is the canonical one of decode.py: as many times smaller, averaged by swscale while it turns the
decoder's samples into RGB, then upright. Pixels that are not square stay as they are stored: boxes are ratios, which
stretching would not change. Interlaced fields are not taken apart, and bright (HDR) films are not toned down. Times are
whole milliseconds, rounded down, from the video's first frame; of frames in the same millisecond the first is given.

What is skipped, and how it stays exact, is told in video_decoding.py.
"""

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import PurePosixPath
from typing import BinaryIO

import numpy as np

from pinakes.operators import video_opening
from pinakes.operators.errors import ErrorCode, MediaError
from pinakes.operators.operator import MediaFacts, Sampling
from pinakes.operators.video_decoding import Decoder, Shown
from pinakes.operators.video_pixels import Pixels

#: A longer video is cut into windows of this length, at multiples of it.
WINDOW_MS = 300_000

#: No more windows than this, whatever a container claims: about a month.
MAX_WINDOWS = 10_000

_STEP_MS = {"1fps": 1000, "2fps": 500}


@dataclass(frozen=True, slots=True)
class Window:
    """The frames from `start_ms` on, before `end_ms`; to the end of the video when that is None."""

    start_ms: int
    end_ms: int | None


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame as `Video.frames` gives it."""

    frame_ms: int  # presentation time in milliseconds, rounded down; that of the video's first frame is 0
    keyframe: bool
    #: Of the window itself; else of the context around it.
    inside: bool
    #: The canonical picture, upright, as decode.py describes it; None when the frame is not one of the sample.
    pixels: np.ndarray | None = None
    #: (27, 48, 3) uint8 RGB, not turned; and the share of the pixels that are black. None when not asked for.
    thumbnail: np.ndarray | None = None
    dark: float | None = None


class Video:
    """An open video. What `frames` returns is to be read to its end, or dropped, before it is called again."""

    def __init__(self, facts: MediaFacts, name: str, decoder: Decoder, pixels: Pixels) -> None:
        self.facts = facts
        self._name = name
        self._decoder = decoder
        self._pixels = pixels

    def windows(self, length_ms: int = WINDOW_MS) -> list[Window]:
        """The windows that it is cut into, in order; the last has no end. Whole seconds are the only lengths."""
        if length_ms < 1000 or length_ms % 1000:
            raise ValueError(f"a window of {length_ms} ms is not one of whole seconds")
        count = min(MAX_WINDOWS, max(1, -(-(self.facts.duration_ms or 0) // length_ms)))
        if self.facts.format == "mpegps":
            count = 1  # it says of few frames when they are shown, so the others' times depend on where reading begins
        starts = [number * length_ms for number in range(count)]
        return [Window(start, end) for start, end in zip(starts, [*starts[1:], None], strict=True)]

    def frames(
        self, window: Window, sampling: Sampling | None, *, every_frame: bool = False, context_frames: int = 0
    ) -> Iterator[Frame]:
        """The frames of a window in the order of presentation.

        Given are the sampled frames with their pixels; with `every_frame` also all others, with thumbnails, and up to
        so many frames of context on either side. At N frames a second, of every multiple of 1/N the first frame at or
        after it is in the sample. Raises MediaError; and OSError as the file does.
        """
        decoder, start, end = self._decoder, window.start_ms, window.end_ms
        with _named(self._name), decoder.watched(start, to_the_end=end is None):
            if every_frame:
                yield from self._every_frame(window, sampling, context_frames)
            elif sampling == "keyframes":
                yield from self._sampled(decoder.keyframes(start, end), window, 0)
            elif sampling == "every-frame":
                yield from self._sampled(decoder.every(start), window, 0)
            elif sampling is not None:
                step = _STEP_MS[sampling]
                yield from self._sampled(decoder.first_of_each(step, start, end), window, step)

    def _sampled(self, shown: Iterator[Shown], window: Window, step: int) -> Iterator[Frame]:
        """Of the frames those of the window; with a step, the first in each stretch of that length."""
        due = window.start_ms
        for one in shown:
            if window.end_ms is not None and one.ms >= window.end_ms:
                return
            if one.ms >= due:
                yield Frame(one.ms, one.key, True, self._pixels.canonical(one.frame))
                due = (one.ms // step + 1) * step if step else due

    def _every_frame(self, window: Window, sampling: Sampling | None, context: int) -> Iterator[Frame]:
        before, shown = self._approach(window.start_ms, context)
        yield from before
        step = _STEP_MS.get(sampling or "", 0)
        due, after = window.start_ms, context
        for one in shown:
            if window.end_ms is not None and one.ms >= window.end_ms:
                if after == 0:
                    return
                after -= 1
                yield self._small(one, inside=False)
            else:
                chosen = one.ms >= due if step else sampling == "every-frame" or (sampling == "keyframes" and one.key)
                if chosen and step:
                    due = (one.ms // step + 1) * step
                yield self._small(one, inside=True, chosen=chosen)

    def _approach(self, start_ms: int, context: int) -> tuple[list[Frame], Iterator[Shown]]:
        """The frames of context before that time, and then the frames from there on."""
        back = int(context * 1000 / (self.facts.fps or 25)) + 1 if context else 0
        while True:
            shown = self._decoder.every(max(0, start_ms - back))
            before: deque[Frame] = deque(maxlen=context)
            for one in shown:
                if one.ms >= start_ms:
                    break
                if context:
                    before.append(self._small(one, inside=False))
            else:
                return [], iter(())
            if len(before) == context or back >= start_ms:
                return list(before), chain([one], shown)
            back = max(1000, 2 * back)  # its rate varies

    def _small(self, one: Shown, inside: bool, chosen: bool = False) -> Frame:
        thumbnail, dark = self._pixels.small(one.frame)
        pixels = self._pixels.canonical(one.frame) if chosen else None
        return Frame(one.ms, one.key, inside, pixels, thumbnail, dark)


@contextmanager
def open_video(source: str | BinaryIO, name: str, size: int, max_pixels: int) -> Iterator[Video]:
    """A video from a local path, or an open file that can seek.

    `name` is what it is, or claims to be, and stands in the error's text; `size` is in bytes. Raises MediaError: EMPTY,
    NOT_MEDIA, UNSUPPORTED_FORMAT, TOO_MANY_PIXELS (from the header), TRUNCATED, CORRUPT; and OSError as the file does.
    """
    with _named(name):
        opened = video_opening.open_container(source, name, size, max_pixels)
    with opened:
        with _named(name):
            decoder = Decoder(opened, max_pixels)
            first = decoder.first()
            if first is None:
                raise MediaError(ErrorCode.CORRUPT, "has no frame that can be decoded")
            pixels = Pixels(first, max_pixels)
            facts = video_opening.facts(opened, first, pixels.orientation, size)
        yield Video(facts, name, decoder, pixels)


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Puts the file's name before what a MediaError says."""
    try:
        yield
    except MediaError as error:
        raise MediaError(error.code, f"{PurePosixPath(name).name or 'the file'}: {error}") from None
