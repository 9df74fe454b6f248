"""Decodes of a video what is asked for, and little else, and still gives the frames that reading it all would give.

Packets are read in pieces: from a key frame to before the next one, or as many as memory allows. What is wanted of a
piece follows from its packets' times, before anything is decoded. Of the first frame in each stretch of a second,
say, a packet is known not to be one when another packet of the same stretch is shown before it, and then

- it is not decoded if no other frame refers to it, which the decoder knows (skip_frame);
- what follows the last wanted packet of a piece is not decoded, and so may be the whole piece, if the next piece
  stands by itself: if no wanted frame of it is shown before its key frame, and so may refer to this one;
- pieces are not even read where the container has an index that says where the next wanted one begins.

A packet is skipped only for such a reason. So a damaged frame costs its own place in the sample at most.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import av
from av.packet import Packet
from av.video.stream import VideoStream

from pinakes.operators.errors import ErrorCode, MediaError
from pinakes.operators.video_opening import Opened
from pinakes.operators.video_packets import Packets, Piece, time_of

#: So many packets may come before the first frame that can be decoded.
MAX_LEADING = 1500

#: Codecs of which every packet is one frame that is shown, at the packet's time.
_ONE_FRAME_A_PACKET = frozenset(
    ["h264", "hevc", "vp9", "av1", "libdav1d", "prores", "mjpeg", "dnxhd", "ffv1", "mpeg2video"]
)

#: Codecs whose decoder can be told, from packet to packet, to skip frames that no other refers to.
_SKIPS = frozenset(["h264", "hevc", "mpeg2video"])


@dataclass(frozen=True, slots=True)
class Shown:
    """A decoded frame, when it is shown, and whether the container calls it a key frame."""

    ms: int
    frame: av.VideoFrame
    key: bool


class Decoder:
    """The decoder of one video's pictures, which reads the container as it needs to."""

    def __init__(self, opened: Opened, max_pixels: int) -> None:
        self._codec = opened.stream.codec_context
        self._codec.thread_count = 1  # processes side by side, not threads
        self._codec.options = {"max_pixels": str(max_pixels)}
        self._plans, self._skips = self._codec.name in _ONE_FRAME_A_PACKET, self._codec.name in _SKIPS
        self._packets = Packets(opened)
        self._first: av.VideoFrame | None = None
        self._reset()

    def _reset(self) -> None:
        self._packets.reset()
        self._keys: set[int] = set()
        self._shown_ms = -1
        self._tried_ms = -1
        self._last_ms = -1

    # What is asked for.

    def first(self) -> av.VideoFrame | None:
        """The first frame that can be decoded. To be called once, before all else."""
        for _ in range(MAX_LEADING):
            packet = self._packets.next()
            if packet is None:
                break
            if packet.has_sidedata("encryption_info"):
                raise MediaError(ErrorCode.UNSUPPORTED_FORMAT, "is encrypted")
            self._packets.learn(packet)
            if packet.size and (frames := self._decode(packet)):
                self._packets.reorder = max(self._packets.reorder, self._codec.reorder_depth)
                return self._begin(frames[0])
        frames = self._drain()
        return self._begin(frames[0]) if frames else None

    def _begin(self, first: av.VideoFrame) -> av.VideoFrame:
        if first.interlaced_frame or self._codec.field_order > 1:
            self._plans = False  # a packet may be one field, and its frame be shown at the time of another
        self._packets.begin_at(first.pts if first.pts is not None else first.dts)
        self._first = first
        return first

    def every(self, start_ms: int) -> Iterator[Shown]:
        """All frames from a key frame at or before that time on."""
        self._shown_ms = -1
        piece = self._packets.begin(start_ms)
        while piece is not None:
            for packet in piece.packets:
                yield from self._show(self._decode(packet))
            piece = self._packets.read()
        yield from self._show(self._drain())

    def keyframes(self, start_ms: int, end_ms: int | None) -> Iterator[Shown]:
        """The key frames from one time to another."""
        self._packets.only_keys = True
        try:
            piece = self._packets.begin(start_ms)
            while piece is not None:
                at = piece.ms[0]
                if at is not None and at >= start_ms:
                    if end_ms is not None and at >= end_ms:
                        return
                    yield from self._show(self._decode_key(piece.packets[0]))
                piece = self._packets.next_key(piece.packets[0])
        finally:
            self._packets.only_keys = False

    def first_of_each(self, step: int, start_ms: int, end_ms: int | None) -> Iterator[Shown]:
        """Frames between these times; among them, for each stretch of `step` ms that has any, its first."""
        if not self._plans:
            yield from self.every(start_ms)
            return
        firsts: dict[int, int] = {}
        piece = self._packets.begin(start_ms)
        _note(firsts, piece, step)
        while piece is not None and (end_ms is None or piece.first_ms < end_ms):
            due = (piece.last_ms // step + 1) * step
            jump = self._packets.jump(due)
            following = None if jump is not None else self._packets.read(end_ms)
            _note(firsts, following, step)

            def wanted(ms: int | None) -> bool:
                if ms is None:
                    return True
                return start_ms <= ms and (end_ms is None or ms < end_ms) and firsts[ms // step] == ms

            yield from self._decode_piece(piece, following, jump is not None, wanted)
            if jump is not None:
                yield from self._show(self._drain())
                following = self._packets.after_jump(jump, piece.last_ms, due)
                _note(firsts, following, step)
            piece = following
        yield from self._show(self._drain())

    @contextmanager
    def watched(self, start_ms: int, to_the_end: bool) -> Iterator[None]:
        """While frames are read; says afterwards what went wrong meanwhile. Raises MediaError."""
        self._reset()
        yield
        if self._last_ms < start_ms <= self._tried_ms:
            raise MediaError(ErrorCode.CORRUPT, "has no frame here that can be decoded")
        if self._packets.failure:
            raise MediaError(
                ErrorCode.CORRUPT, f"cannot be read beyond {_clock(max(0, self._last_ms))} ({self._packets.failure})"
            )
        # A file that was never filled to its end.
        lost = self._tried_ms - self._last_ms if to_the_end else 0
        if self._packets.cut or lost > max(2000, self._tried_ms // 20):
            said = f"its last frame is at {_clock(self._last_ms)} of {_clock(max(self._last_ms, self._tried_ms))}"
            raise MediaError(ErrorCode.TRUNCATED, f"ends early: {said}")

    # What is decoded.

    def _decode_piece(
        self, piece: Piece, following: Piece | None, alone: bool, wanted: Callable[[int | None], bool]
    ) -> Iterator[Shown]:
        """What is wanted of a piece, and what that refers to. `alone`: nothing after it will refer to it."""
        chosen = [wanted(ms) for ms in piece.ms]
        count = len(chosen)
        if alone or following is None or _stands_alone(following, wanted):
            while count and not chosen[count - 1]:
                count -= 1
        for packet, is_wanted in zip(piece.packets[:count], chosen, strict=False):
            yield from self._show(self._decode(packet, skip=not is_wanted))
        if count < len(chosen):
            yield from self._show(self._drain())

    def _decode(self, packet: Packet[VideoStream], skip: bool = False) -> list[av.VideoFrame]:
        at = time_of(packet)
        if at is not None and packet.is_keyframe:
            self._keys.add(at)
        if at is not None and not skip and not packet.is_discard:
            self._tried_ms = max(self._tried_ms, self._packets.ms_of(at))
        if self._skips:
            self._codec.skip_frame = "NONREF" if skip else "DEFAULT"
        try:
            return self._codec.decode(packet)
        except av.FFmpegError:  # a damaged packet: its neighbours may be well
            return []

    def _decode_key(self, packet: Packet[VideoStream]) -> list[av.VideoFrame]:
        """A key frame by itself. The first has been decoded already."""
        if self._first is not None and packet.is_keyframe and self._first.pts == packet.pts is not None:
            self._keys.add(packet.pts)
            return [self._first]
        return self._decode(packet) + self._drain()

    def _drain(self) -> list[av.VideoFrame]:
        """The frames that the decoder has put aside to give them in order; then it is ready to begin elsewhere."""
        frames: list[av.VideoFrame] = []
        with suppress(av.FFmpegError):
            frames = self._codec.decode(None)
        self._codec.flush_buffers()
        self._codec.reorder_depth = (
            self._packets.reorder
        )  # flushed, some decoders forget it, and give frames out of order
        return frames

    def _show(self, frames: list[av.VideoFrame]) -> Iterator[Shown]:
        for frame in frames:
            at = frame.pts if frame.pts is not None else frame.dts
            if at is None:
                continue
            ms = self._packets.ms_of(at)
            self._last_ms = max(self._last_ms, ms)
            if ms > self._shown_ms:
                self._shown_ms = ms
                yield Shown(ms, frame, at in self._keys)
            self._keys.discard(at)


def _note(firsts: dict[int, int], piece: Piece | None, step: int) -> None:
    """Keep what is shown first in each stretch."""
    for ms in piece.ms if piece is not None else ():
        if ms is not None and ms >= 0:
            firsts[ms // step] = min(ms, firsts.get(ms // step, ms))


def _stands_alone(piece: Piece, wanted: Callable[[int | None], bool]) -> bool:
    """Whether it begins with a key frame, and no frame that is wanted is shown before that."""
    key_ms = piece.key_ms
    return key_ms is not None and not any(ms is None or (ms < key_ms and wanted(ms)) for ms in piece.ms)


def _clock(ms: int) -> str:
    seconds, ms = divmod(ms, 1000)
    return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}.{ms // 100}"
