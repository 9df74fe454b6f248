"""Opens the containers of videos, refuses what cannot be read, and takes from them what they say."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import BinaryIO

import av
from av.container import InputContainer
from av.stream import Discard, Disposition
from av.video.stream import VideoStream

from pinakes.operators import formats
from pinakes.operators.errors import ErrorCode, MediaError
from pinakes.operators.operator import MediaFacts

# FFmpeg's own lines name no file.
av.logging.set_level(None)

#: So many bytes say what a file is.
HEAD = 4096

#: Bytes that are read of an open file at a time.
BUFFER = 1 << 16

#: FFmpeg's readers by the container. No other is reachable: not those of playlists, which open files and addresses.
_READERS = {
    "mp4": "mov",
    "mov": "mov",
    "mkv": "matroska",
    "webm": "matroska",
    "avi": "avi",
    "mpegts": "mpegts",
    "mpegps": "mpeg",
    "flv": "flv",
    "asf": "asf",
    "ogg": "ogg",
    "mxf": "mxf",
}
_READABLE = ", ".join(_READERS)

#: Containers that say how many frames a stream has.
_COUNTED = frozenset(["mp4", "mov"])

#: Cameras whose clock was never set say 1904, 1970 or 1980.
_EARLIEST = datetime(1980, 1, 2, tzinfo=UTC)

ReadAt = Callable[[int, int], bytes]


@dataclass(frozen=True, slots=True)
class Opened:
    """A container that is open, and its stream of pictures."""

    container: InputContainer
    stream: VideoStream
    format: str

    def __enter__(self) -> "Opened":
        return self

    def __exit__(self, *error: object) -> None:
        self.container.close()


def open_container(source: str | BinaryIO, name: str, size: int, max_pixels: int) -> Opened:
    """Raises MediaError, OSError."""
    if size == 0:
        raise MediaError(ErrorCode.EMPTY, "has zero bytes")
    with _reading(source) as read_at:
        head = read_at(0, HEAD)
        kind = formats.container(head)
        if kind not in _READERS:
            raise _not_a_video(head, name)
        ends = _says_it_ends(kind, read_at, size)
    if ends is not None and ends > size:
        raise MediaError(ErrorCode.TRUNCATED, f"ends early: {size} bytes of {ends}")
    container = _open(source, kind, {"max_pixels": str(max_pixels), "threads": "1"})
    try:
        stream = _pictures(container)
        for other in container.streams:
            if other is not stream:
                other.discard = Discard.all
        width, height = stream.codec_context.width, stream.codec_context.height
        if width * height == 0:  # what it looks like when it is too large for the decoder to be tried on it
            with _open(source, kind, {"probesize": "32", "analyzeduration": "0", "threads": "1"}) as unlimited:
                again = _pictures(unlimited).codec_context
                width, height = again.width, again.height
        if width * height > max_pixels:
            said, limit = f"{width} x {height} = {width * height / 1e6:.0f}", f"{max_pixels / 1e6:.0f}"
            raise MediaError(ErrorCode.TOO_MANY_PIXELS, f"{said} megapixels are over the limit of {limit}")
        return Opened(container, stream, kind)
    except BaseException:
        container.close()
        raise


def _open(source: str | BinaryIO, kind: str, options: dict[str, str]) -> InputContainer:
    if not isinstance(source, str):
        source.seek(0)
    try:
        return av.open(
            f"file:{source}" if isinstance(source, str) else source,
            "r",
            format=_READERS[kind],
            options=options,
            container_options={"protocol_whitelist": "file"},
            metadata_errors="replace",
            buffer_size=BUFFER,
        )
    except av.FFmpegError as error:
        raise MediaError(ErrorCode.CORRUPT, f"its {kind} header cannot be read ({_text(error)})") from None


def facts(opened: Opened, first: av.VideoFrame, orientation: int, size: int) -> MediaFacts:
    """What the container says, and the first frame of its size."""
    width, height = first.width, first.height
    if orientation >= 5:
        width, height = height, width
    duration_ms = _duration_ms(opened)
    return MediaFacts(
        "video",
        opened.format,
        width,
        height,
        orientation,
        size,
        _captured_at(opened),
        duration_ms,
        _fps(opened, duration_ms),
        opened.stream.codec_context.codec.canonical_name,
    )


@contextmanager
def _reading(source: str | BinaryIO) -> Iterator[ReadAt]:
    """A function: some bytes from a place in the file."""
    if isinstance(source, str):
        with open(source, "rb") as file:
            yield lambda at, count: os.pread(file.fileno(), count, at)
    else:

        def read_at(at: int, count: int) -> bytes:
            source.seek(at)
            return source.read(count)

        yield read_at


def _not_a_video(head: bytes, name: str) -> MediaError:
    kind = formats.sniff(head)
    if kind == "video":
        return MediaError(ErrorCode.UNSUPPORTED_FORMAT, f"is a video of a kind that is not read (read: {_READABLE})")
    if kind is not None:
        others = formats.not_read(kind)
        what = f"one of the {others}" if others else f"a picture ({kind})"
        return MediaError(ErrorCode.UNSUPPORTED_FORMAT, f"is no video but {what}")
    if not formats.claims_media(name):
        return MediaError(ErrorCode.NOT_MEDIA, "is not a video, and its name does not say so")
    what = "is HTML and not a video" if formats.is_html(head) else "is not a video"
    return MediaError(ErrorCode.UNSUPPORTED_FORMAT, f"{what} of a kind that is read ({_READABLE})")


def _pictures(container: InputContainer) -> VideoStream:
    """The stream of pictures that a player would choose. Raises MediaError where there is none that can be read."""
    films = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
    if not films:
        what = "only sound" if container.streams.audio else "and no sound either"
        raise MediaError(ErrorCode.UNSUPPORTED_FORMAT, f"has no video, {what}")
    readable = [stream for stream in films if stream.codec_context is not None]
    if not readable:
        raise MediaError(ErrorCode.UNSUPPORTED_FORMAT, "its codec is none that is read")
    best = container.streams.best("video")
    stream = best if isinstance(best, VideoStream) and best in readable else readable[0]
    if "enc_key_id" in stream.metadata:  # Matroska's; MP4 says it of its packets
        raise MediaError(ErrorCode.UNSUPPORTED_FORMAT, "is encrypted")
    return stream


def _says_it_ends(kind: str, read_at: ReadAt, size: int) -> int | None:
    """The size that a container says its file has, or at least has. None where it says nothing."""
    if kind in ("mp4", "mov"):
        return _boxes_end(read_at, size)
    head = read_at(0, HEAD)
    if kind in ("mkv", "webm"):
        at = head.find(b"\x18\x53\x80\x67") + 4  # the segment, in which everything else is
        if at < 4 or at >= len(head) or not head[at]:
            return None
        length = 9 - head[at].bit_length()
        said = int.from_bytes(head[at : at + length], "big") & ((1 << 7 * length) - 1)
        return None if said == (1 << 7 * length) - 1 else at + length + said
    if kind == "avi":
        said = int.from_bytes(head[4:8], "little")
        return said if 0 < said < 0xFFFFFFFF else None  # its end is eight bytes later, or seven
    if kind == "asf":
        at = head.find(bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365"))  # file properties
        if at < 0 or at + 92 > len(head) or head[at + 88] & 1:  # being broadcast, it could not say
            return None
        return int.from_bytes(head[at + 40 : at + 48], "little")
    return None


_BOXES = frozenset([b"ftyp", b"moov", b"mdat", b"moof", b"free", b"skip", b"wide", b"uuid", b"sidx", b"mfra", b"meta"])


def _boxes_end(read_at: ReadAt, size: int) -> int | None:
    """Of the boxes of an MP4 (ISO/IEC 14496-12, 4.2); of one in fragments, the first of them. Raises MediaError."""
    at, seen = 0, set()
    for _ in range(64):
        head = read_at(at, 16)
        kind = head[4:8]
        if len(head) < 8 or kind not in _BOXES:
            break
        length = int.from_bytes(head[:4], "big")
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        seen.add(kind)
        if length == 0:
            at = size
            break
        if length < 8:
            return None
        at += length
        if at > size:
            return at
    if at >= size and b"moov" not in seen:
        raise MediaError(ErrorCode.TRUNCATED, "has no index (moov): it was never finished")
    return None


def _ms(at: int | None, stream: VideoStream) -> int | None:
    if at is None or at <= 0 or not stream.time_base:
        return None
    return int(at * stream.time_base * 1000)


def _duration_ms(opened: Opened) -> int | None:
    container, stream = opened.container, opened.stream
    duration = _ms(stream.duration, stream)
    if duration is None and container.duration is not None:
        duration = container.duration // 1000
        if opened.format in ("mkv", "webm"):  # they say when it ends, not how long it is
            begins = _ms(stream.start_time, stream) or 0
            duration = duration - begins if duration > begins else duration
    return duration if duration is not None and duration > 0 else None


def _fps(opened: Opened, duration_ms: int | None) -> float | None:
    stream = opened.stream
    if opened.format in _COUNTED and stream.frames > 1 and duration_ms:
        rate = stream.frames * 1000 / duration_ms
    else:
        rate = float(stream.average_rate or stream.guessed_rate or 0)
    return round(rate, 3) if 0 < rate <= 1000 else None


def _captured_at(opened: Opened) -> datetime | None:
    """When it was taken, as far as that can be true."""
    for metadata in (opened.container.metadata, opened.stream.metadata):
        for key in ("com.apple.quicktime.creationdate", "creation_time"):
            try:
                at = datetime.fromisoformat(metadata[key])
            except (KeyError, ValueError):
                continue
            at = at.replace(tzinfo=at.tzinfo or UTC).astimezone(UTC)
            if _EARLIEST < at < datetime.now(UTC) + timedelta(days=1):
                return at
    return None


def _text(error: av.FFmpegError) -> str:
    return " ".join(str(error.strerror).split())
