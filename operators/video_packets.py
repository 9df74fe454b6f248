"""Reads the packets of a video in pieces, from wherever it is told to begin, and finds its way by the index."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

import av
from av.packet import Packet
from av.video.stream import VideoStream

from pinakes.operators.errors import ErrorCode, MediaError
from pinakes.operators.video_opening import Opened

#: The largest piece: so much of the file is in memory at a time, twice.
MAX_PACKETS, MAX_BYTES = 300, 32 << 20

#: Containers whose index holds when a frame is decoded, not when it is shown.
_INDEX_BY_DECODING = frozenset(["mp4", "mov"])


@dataclass(slots=True)
class Piece:
    """Packets that follow one another; from a key frame on, unless it is a later part of what was too large."""

    packets: list[Packet[VideoStream]] = field(default_factory=list)
    ms: list[int | None] = field(default_factory=list)  # when each is shown; None is not known

    @property
    def key_ms(self) -> int | None:
        """When the key frame is shown that it begins with; None where it begins with none."""
        return self.ms[0] if self.packets[0].is_keyframe else None

    @property
    def last_ms(self) -> int:
        return max((ms for ms in self.ms if ms is not None), default=-1)

    @property
    def first_ms(self) -> int:
        return min((ms for ms in self.ms if ms is not None), default=-1)


class Packets:
    """The packets of one video's pictures, and the clock that says when each is shown."""

    def __init__(self, opened: Opened) -> None:
        self._opened = opened
        self._container, self._stream = opened.container, opened.stream
        self._codec = self._stream.codec_context
        #: When the first frame is shown, in the stream's units.
        self.start = self._stream.start_time
        base = self._stream.time_base or Fraction(1, av.time_base)
        self._numerator, self._denominator = 1000 * base.numerator, base.denominator
        #: How many frames the decoder puts aside to give them in order.
        self.reorder = self._codec.reorder_depth
        self.only_keys = False  # reading no others; not by FFmpeg's own means, which mistakes the times in an MP4
        self._jumps = True
        #: The container has said from the start where each frame is; one in fragments does not.
        self._indexed = opened.format in _INDEX_BY_DECODING and self._stream.frames > 0
        #: By how much the container's index is early.
        self._early = 0
        self.reset()

    def reset(self) -> None:
        """Forget what was read."""
        self._reader = self._container.demux(self._stream)
        self._ahead: Packet[VideoStream] | None = None
        self._ended = False
        #: Why reading stopped before the end of the file; and whether that has cut the last packet.
        self.failure = ""
        self.cut = False

    def learn(self, packet: Packet[VideoStream]) -> None:
        """From a packet of the film's beginning, how its index is to be read."""
        is_early = self._opened.format in _INDEX_BY_DECODING and packet.is_keyframe
        if is_early and packet.pts is not None and packet.dts is not None:
            self._early = max(self._early, packet.pts - packet.dts)

    def begin_at(self, first: int | None) -> None:
        """Take the first frame's time for the film's beginning."""
        said = self._stream.start_time
        # Some containers are a few frames off; but a film whose first minute is lost begins at its second.
        near = first is not None and (said is None or abs(first - said) * self._numerator < 1000 * self._denominator)
        self.start = first if near else said

    def begin(self, ms: int) -> Piece | None:
        """The piece whose key frame is shown at or before that time; else the first."""
        back = 0
        while True:
            at = ms - back
            if at > 0:
                self._seek(self._pts_at(at))
            else:
                self._rewind()
            piece = self.read()
            while at > 0 and piece is not None and piece.key_ms is None:  # MPEG-TS: it may be anywhere
                piece = self.read()
            if at <= 0 or (piece is not None and piece.key_ms is not None and piece.key_ms <= ms):
                return piece
            back = max(1000, 2 * back)

    def next_key(self, key: Packet[VideoStream]) -> Piece | None:
        """The next key frame; without reading what is between where the container's index is known to name them all."""
        if self._indexed and key.dts is not None:
            entries = self._stream.index_entries
            number = entries.search_timestamp(key.dts + 1, backward=False)
            if number < 0:
                return None
            self._seek(entries[number].timestamp + self._early)
            packet = self.next()
            if packet is not None and packet.dts == entries[number].timestamp:
                piece = Piece()
                self._append(piece, packet)  # damaged, it may not be known for one any more
                return piece
            self._indexed = False  # the index is not what it seems
            self._seek(key.dts)
        return self.read()

    def jump(self, ms: int) -> int | None:
        """Where in the container's index to go on, so as not to read what is shown before that time."""
        if not self._jumps or self._ahead is None:
            return None
        entries = self._stream.index_entries
        number = entries.search_timestamp(self._pts_at(ms) - self._early)
        reached = max((at for at in (self._ahead.pts, self._ahead.dts) if at is not None), default=None)
        if number < 0 or reached is None or entries[number].timestamp <= reached:
            return None
        return entries[number].timestamp + self._early

    def after_jump(self, timestamp: int, last_ms: int, due_ms: int) -> Piece | None:
        """The piece at that place, if it begins in time for the frame that is due."""
        self._seek(timestamp)
        piece = self.read()
        if piece is not None and piece.key_ms is not None and last_ms < piece.key_ms <= due_ms:
            return piece
        self._jumps = False  # the index is not what it seems
        return self.begin(due_ms)

    def _rewind(self) -> None:
        try:
            self._seek(self._pts_at(-10_000))  # MPEG-TS would begin at its second key frame otherwise
        except MediaError:
            self._seek(self._pts_at(0))  # and others know of no time before their first

    def _seek(self, timestamp: int) -> None:
        try:
            self._container.seek(timestamp, stream=self._stream)
        except av.FFmpegError as error:
            raise MediaError(ErrorCode.CORRUPT, f"cannot be read from {timestamp} on ({error})") from None
        self._codec.reorder_depth = self.reorder
        self._reader = self._container.demux(self._stream)
        self._ahead, self._ended = None, False

    def read(self, end_ms: int | None = None) -> Piece | None:
        """The next piece; if its key frame comes after the end, only as far as frames may be shown before that."""
        piece = Piece()
        if self._ahead is not None:
            self._append(piece, self._ahead)
            self._ahead = None
        size = 0
        while not self._ended:
            packet = self.next()
            if packet is None:
                self._ended = True
            elif packet.size == 0 or (self.only_keys and not packet.is_keyframe):
                continue
            elif packet.is_keyframe and piece.packets:
                self._ahead = packet
                break
            else:
                self._append(piece, packet)
                size += packet.size
                key_ms = piece.key_ms
                if end_ms is not None and key_ms is not None and end_ms <= key_ms < (piece.ms[-1] or 0):
                    break
                if self.only_keys or len(piece.packets) >= MAX_PACKETS or size >= MAX_BYTES:
                    break
        return piece if piece.packets else None

    def next(self) -> Packet[VideoStream] | None:
        try:
            packet = next(self._reader, None)
        except av.FFmpegError as error:
            self.failure = " ".join(str(error.strerror).split())
            return None
        if packet is None or (packet.size == 0 and packet.pts is None and packet.dts is None):
            return None
        # Of a last packet that the end of the file has cut; a transport stream says it of any damaged one.
        self.cut = packet.is_corrupt and self._opened.format not in ("mpegts", "mpegps")
        return packet

    def _append(self, piece: Piece, packet: Packet[VideoStream]) -> None:
        at = time_of(packet)
        piece.packets.append(packet)
        # An edit list may hide frames that others refer to: decoded, the decoder does not give them.
        piece.ms.append(None if at is None else -1 if packet.is_discard else self.ms_of(at))

    def ms_of(self, at: int) -> int:
        return (at - (self.start or 0)) * self._numerator // self._denominator

    def _pts_at(self, ms: int) -> int:
        """The last time, in the stream's units, that falls into that millisecond."""
        return (self.start or 0) + ((ms + 1) * self._denominator - 1) // self._numerator


def time_of(packet: Packet[VideoStream]) -> int | None:
    return packet.pts if packet.pts is not None else packet.dts
