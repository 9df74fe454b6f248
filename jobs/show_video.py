"""A video shown: frames of it on a contact sheet, or one of them in full, each looked at as a photo is."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from pinakes.jobs.errors import SpecError
from pinakes.jobs.findings import Finding, findings
from pinakes.jobs.listing import source_url
from pinakes.jobs.sheet import GAP, Cell, captions, file_name, lay_out, thumbnail
from pinakes.jobs.show import LIMITS, Shown, annotate, as_lists, created, load, look
from pinakes.jobs.stills import clock, frame_at, length_ms, opened_video, spread
from pinakes.operators.decode import single_thread
from pinakes.operators.operator import MediaFacts, Operator, Picture
from pinakes.operators.video import Frame, Video

#: Frames on a sheet that is not told how many.
FRAMES = 20

#: The long side of a frame on the sheet, in pixels.
SIDE = 400

#: How much wider than high a sheet is to be.
SHAPE = 1.6

Report = Callable[[str], None]


@dataclass(frozen=True)
class FrameShown:
    """A frame of the sheet, with what was found in it."""

    frame_ms: int
    tables: dict[str, pa.Table]  # the operators' own columns

    @property
    def findings(self) -> list[Finding]:
        return findings(self.tables)

    @property
    def summary(self) -> str:
        """What was found, in few words: names and how often, text in quotes."""
        named = [one for one in self.findings if one.titled or one.placed]
        counts = Counter(f'"{one.title}"' if one.slanted and one.titled else one.title for one in named)
        return ", ".join(name if count == 1 else f"{count} x {name}" for name, count in counts.items())


@dataclass(frozen=True)
class VideoShown:
    """A sheet of frames of a video. `tables` has what is of the film as a whole: what its container says."""

    uri: str
    image: Image.Image
    facts: MediaFacts
    frames: tuple[FrameShown, ...]
    tables: dict[str, pa.Table]
    errors: dict[str, str] = field(default_factory=dict)  # why an operator could not look, by its name

    @property
    def findings(self) -> list[Finding]:
        return [one for frame in self.frames for one in frame.findings]

    def as_dict(self) -> dict[str, Any]:
        """All of it for a script, vectors and pixels left out."""
        frames = [
            {"frame_ms": one.frame_ms, "time": clock(one.frame_ms), "tables": as_lists(one.tables)}
            for one in self.frames
        ]
        return {"uri": self.uri, "tables": as_lists(self.tables), "frames": frames, "errors": self.errors}


def show_video(
    uri: str | Path,
    operators: Sequence[str | Operator] | None = None,
    count: int = FRAMES,
    *,
    report: Report = lambda message: None,
    looked: Callable[[], None] = lambda: None,
) -> VideoShown:
    """Look at so many frames, evenly over a video anywhere fsspec reaches, and lay them out on a sheet.

    `operators` and `report` as of `show`; `looked` is called after each frame. A video of fewer frames has each once.
    Raises what `show` raises.
    """
    made = created(operators, "video", report)
    url = source_url(str(uri))
    cells, frames = [], []
    single_thread()
    with opened_video(url, LIMITS.max_pixels) as video:
        load(made, report)
        of_film, of_frames = ([one for one in made if (one.sees == "container") is whole] for whole in (True, False))
        tables, errors = look(of_film, _picture(video, None))
        seen = set()
        length, facts = length_ms(video), video.facts
        for ms in spread(length, count):
            frame = frame_at(video, ms)
            if frame.frame_ms not in seen:
                seen.add(frame.frame_ms)
                found, failed = look(of_frames, _picture(video, frame))
                for name, why in failed.items():
                    errors.setdefault(name, f"{why} (at {clock(frame.frame_ms)})")
                frames.append(FrameShown(frame.frame_ms, found))
                cells.append(_cell(url, frame, frames[-1]))
            looked()
    return VideoShown(url, _sheet(url, cells, facts, length), facts, tuple(frames), tables, errors)


def show_frame(
    uri: str | Path,
    at_ms: int,
    operators: Sequence[str | Operator] | None = None,
    *,
    report: Report = lambda message: None,
) -> Shown:
    """Look at the frame of a video that is on show at that time, as `show` does at a photo.

    Raises what `show` raises, and SpecError when the video is over by then.
    """
    made = created(operators, "video", report)
    url = source_url(str(uri))
    single_thread()
    with opened_video(url, LIMITS.max_pixels) as video:
        if at_ms > (length := length_ms(video)):
            raise SpecError(f"{url} is {clock(length)} long: there is no frame at {clock(at_ms)}")
        picture = _picture(video, frame_at(video, at_ms))
    load(made, report)
    tables, errors = look(made, picture)
    return Shown(url, annotate(Image.fromarray(picture.pixels), findings(tables)), tables, errors, picture.frame_ms)


def _picture(video: Video, frame: Frame | None) -> Picture:
    """Of a frame; of the film as a whole it has no pixels."""
    if frame is None or frame.pixels is None:
        return Picture(np.zeros((0, 0, 3), np.uint8), video.facts)
    return Picture(frame.pixels, video.facts, frame_ms=frame.frame_ms, keyframe=frame.keyframe)


def _cell(url: str, frame: Frame, shown: FrameShown) -> Cell:
    assert frame.pixels is not None
    picture = thumbnail(frame.pixels, (SIDE, SIDE))
    return Cell(url, clock(frame.frame_ms), picture, None, tuple(shown.findings), frame.frame_ms)


def _sheet(url: str, cells: Sequence[Cell], facts: MediaFacts, length: int) -> Image.Image:
    sizes = [one.picture.size for one in cells if one.picture]
    room = max(width for width, _ in sizes), max(height for _, height in sizes)
    wide, high = room[0] + GAP, room[1] + captions() + 2 * GAP
    columns = math.ceil(math.sqrt(len(cells) * SHAPE * high / wide))
    # Or one less or more, where that leaves fewer empty places.
    columns = min((columns, max(1, columns - 1), columns + 1), key=lambda number: -len(cells) % number)
    rate = "" if facts.fps is None else f", {facts.fps:g} frames a second"
    title = f"{file_name(url)}, {clock(length)}, {facts.width} x {facts.height}{rate}, {facts.codec}"
    return lay_out(cells, room, columns, title)
