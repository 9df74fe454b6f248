"""Single frames of a video, for eyes: of the film only what leads to them is read and decoded."""

import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import PurePosixPath

from pinakes.jobs.errors import SpecError
from pinakes.jobs.fetch import opened
from pinakes.operators.errors import ErrorCode, MediaError
from pinakes.operators.formats import VIDEOS
from pinakes.operators.video import Frame, Video, Window, open_video

#: How far before a moment the frame that is on show then is looked for first; what is slower than five frames a second
#: is looked for further back.
BACK_MS = 200


def is_video(uri: str) -> bool:
    """Whether it is taken for a video: by its name, as planning.py does for a whole listing."""
    path = re.split("[?#]", uri, maxsplit=1)[0] if uri.startswith(("http://", "https://")) else uri
    return PurePosixPath(path.lower()).suffix.lstrip(".") in VIDEOS


@contextmanager
def opened_video(url: str, max_pixels: int) -> Iterator[Video]:
    """The video there; what is wrong with it is said with its name. Raises MediaError."""
    try:
        with opened(url) as (source, size), open_video(source, url, size, max_pixels) as video:
            yield video
    except MediaError as error:
        said = "there is no such file" if error.code is ErrorCode.NOT_FOUND else str(error)
        raise MediaError(error.code, f"{url}: {said}") from None
    except OSError as error:
        raise MediaError(ErrorCode.UNREACHABLE, f"{url}: {error.strerror or error}") from None


def length_ms(video: Video) -> int:
    """How long it is; where its container does not say it, when its last key frame is shown, and that takes a while."""
    if video.facts.duration_ms is not None:
        return video.facts.duration_ms
    return max((frame.frame_ms for frame in video.frames(Window(0, None), "keyframes")), default=0)


def frame_at(video: Video, ms: int) -> Frame:
    """The frame on show at that time: the last one whose time has come. Raises MediaError.

    Where the film is damaged that is the last one before which can be decoded; before the first one it is the first.
    """
    back = BACK_MS
    found: Frame | None = None
    while True:
        start, failed = max(0, ms - back), None
        try:
            for frame in video.frames(Window(start, ms + 1), "every-frame"):
                found = frame
        except MediaError as error:
            failed = error
        if found is None and start == 0:
            found = next(video.frames(Window(0, None), "every-frame"), None)
            if found is None:
                raise failed or MediaError(ErrorCode.CORRUPT, "has no frame that can be decoded")
        if found is not None:
            return found
        back *= 10


def spread(length: int, count: int) -> Sequence[int]:
    """So many times, evenly over a film of that length: in the middle of each part."""
    return [(2 * number + 1) * length // (2 * count) for number in range(count)]


def clock(ms: int) -> str:
    """Minutes, seconds and tenths: 1:02.5, and 2:01:02.5 from an hour on."""
    seconds, tenths = divmod(ms // 100, 10)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}.{tenths}" if hours else f"{minutes}:{seconds:02}.{tenths}"


def moment(text: str) -> int:
    """Milliseconds of a time as one writes it: 62.5, or 1:02.5, or 0:01:02.5. Raises SpecError."""
    try:
        parts = [float(part) for part in text.split(":")]
    except ValueError:
        parts = []
    if not 1 <= len(parts) <= 3 or not all(math.isfinite(part) and part >= 0 for part in parts):
        raise SpecError(f"{text!r} is not a time in a film: seconds as 62.5, or as 1:02.5")
    seconds = 0.0
    for part in parts:
        seconds = 60 * seconds + part
    return round(1000 * seconds)
