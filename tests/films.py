"""Films that tests make, so that they need none from elsewhere. Every frame carries its number, to be read from pixels.

write_film(path, seconds=10, cuts=(50, 120), black=((200, 224),))
number_in(pixels)  # of a frame, decoded at any size
"""

from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from av.video.reformatter import ColorRange, Colorspace

#: Blocks in a row along the lower edge, each black or white: a frame's number in binary.
BITS = 16
#: Height of that row, as a share of the frame's.
ROW = 1 / 8

#: Encoders by the codec's name, and what makes each of them quick.
ENCODERS: dict[str, tuple[str, dict[str, str]]] = {
    "h264": ("libx264", {"preset": "superfast", "crf": "20"}),
    "hevc": ("libx265", {"preset": "ultrafast", "x265-params": "log-level=none:pools=none:frame-threads=1"}),
    "vp9": ("libvpx-vp9", {"deadline": "realtime", "cpu-used": "8", "crf": "30"}),
    "vp8": ("libvpx", {"deadline": "realtime", "cpu-used": "8"}),
    "av1": ("libsvtav1", {"preset": "12", "svtav1-params": "lp=1"}),
    "mpeg4": ("mpeg4", {"qscale": "4"}),
    "mpeg2video": ("mpeg2video", {"qscale": "4"}),
    "prores": ("prores_ks", {"profile": "0"}),
    "mjpeg": ("mjpeg", {"qscale": "4"}),
    "wmv2": ("wmv2", {"qscale": "4"}),
    "flv1": ("flv", {"qscale": "4"}),
    "ffv1": ("ffv1", {}),
}
PIXEL_FORMATS = {"prores": "yuv422p10le", "mjpeg": "yuvj420p"}


def write_film(
    path: Path | str,
    seconds: float = 10,
    fps: int | Fraction = 25,
    size: tuple[int, int] = (320, 180),
    *,
    codec: str = "h264",
    gop: int = 50,
    b_frames: int = 2,
    cuts: Sequence[int] = (),
    black: Sequence[tuple[int, int]] = (),
    numbers: bool = True,
    rotation: int = 0,
    times: Sequence[int] | None = None,
    start_ms: int = 0,
    audio: bool | float = False,
    noise: float = 0,
    pixel_format: str | None = None,
    full_range: bool = False,
    bt709: bool = False,
    aspect: Fraction | None = None,
    metadata: Mapping[str, str] | None = None,
    container: str | None = None,
    container_options: Mapping[str, str] | None = None,
    encoder_options: Mapping[str, str] | None = None,
) -> list[int]:
    """Make a film, and say at which millisecond each of its frames is shown, the first at 0.

    seconds, fps    how long, and how many frames a second; `fps` may be a Fraction(30000, 1001)
    size            width and height, as shown: upright
    codec           one of ENCODERS; the container is what the path's suffix, or `container`, says
    gop, b_frames   frames from key frame to key frame at most (a new scene may have one of its own), and B-frames
    cuts            numbers of the frames that each begin a new scene; within one, things move slowly
    black           first and last number of stretches that are all black, and so carry no number
    numbers         whether the frame's number is in its picture, in digits and for `number_in`
    rotation        0, 90, 180 or 270: degrees clockwise by which a player has to turn what is stored
    times           when each frame is shown, in ms, the first 0: variable frame rate, for MP4, MOV, MKV and WebM
    start_ms        the time that the container gives to the first frame
    audio           a tone as long as the film, or so many seconds long
    noise           of a camera, in grey levels
    full_range, bt709  how the colours are coded, and that the file says so; else BT.601 limited, unsaid
    aspect          of a pixel
    container_options  of FFmpeg's muxer; an MP4 or MOV has its index at the front unless they say otherwise
    """
    frames = len(times) if times is not None else round(seconds * fps)
    encoder, options = ENCODERS[codec]
    if codec == "h264" and b_frames:
        options = options | {"b-adapt": "0"}
    shown = [Fraction(at, 1000) for at in times] if times is not None else [Fraction(n) / fps for n in range(frames)]
    time_base = Fraction(1, 1000) if times is not None else 1 / Fraction(fps) / (1000 if start_ms else 1)
    muxer = {} if container_options is None else dict(container_options)
    if str(container or Path(path).suffix[1:]) in ("mp4", "mov", "m4v") and container_options is None:
        muxer["movflags"] = "+faststart"
    start = Fraction(start_ms, 1000)
    with av.open(str(path), "w", format=container, container_options=muxer) as output:
        output.metadata.update(metadata or {})
        # A rate that frames with times of their own can all be told apart at.
        rate = fps if times is None else 1000
        stream = output.add_stream(encoder, rate=rate, options=options | dict(encoder_options or {}))
        stream.width, stream.height = size if rotation % 180 == 0 else size[::-1]
        stream.pix_fmt = pixel_format or PIXEL_FORMATS.get(codec, "yuv420p")
        context = stream.codec_context
        context.time_base, context.gop_size, context.thread_count = time_base, gop, 1
        if codec in ("h264", "hevc", "mpeg4", "mpeg2video"):
            context.max_b_frames = b_frames
        if full_range:
            context.color_range = ColorRange.JPEG
        if bt709:
            context.colorspace = 1
        if aspect is not None:
            context.sample_aspect_ratio = aspect
        if rotation:
            stream.set_display_rotation(-rotation)
        sound = _Sound(output, Path(path).suffix, start, shown[-1] + 1 / Fraction(fps) if audio is True else audio)
        for number, pixels in enumerate(scenes(frames, size, cuts, black, numbers, noise)):
            stored = np.ascontiguousarray(np.rot90(pixels, rotation // 90))
            frame = av.VideoFrame.from_ndarray(stored, "rgb24").reformat(
                format=stream.pix_fmt,
                dst_colorspace=Colorspace.ITU709 if bt709 else Colorspace.ITU601,
                dst_color_range=ColorRange.JPEG if full_range or codec == "mjpeg" else ColorRange.MPEG,
            )
            frame.pts, frame.time_base = round((shown[number] + start) / time_base), time_base
            output.mux(stream.encode(frame))
            sound.write(until=shown[number])
        output.mux(stream.encode(None))
        sound.write(until=None)
    return [int(at * 1000) for at in shown]


def scenes(
    frames: int,
    size: tuple[int, int],
    cuts: Sequence[int] = (),
    black: Sequence[tuple[int, int]] = (),
    numbers: bool = True,
    noise: float = 0,
) -> Iterator[np.ndarray]:
    """The frames of a film, (height, width, 3) RGB; see write_film."""
    width, height = size
    starts = [0, *sorted(cuts), frames]
    grain = np.random.default_rng(0).normal(0, noise, (height + 64, width + 64, 1)) if noise else None
    scene, backdrop = -1, np.empty(0)
    for number in range(frames):
        if any(first <= number <= last for first, last in black):
            yield np.zeros((height, width, 3), np.uint8)
            continue
        while number >= starts[scene + 1] and scene + 2 < len(starts):
            scene += 1
            backdrop = _backdrop(scene, size)
        into = number - starts[scene]
        pixels = backdrop[into // 2 % height :][:height].copy()  # the camera moves down
        random = np.random.default_rng(scene)
        for _ in range(3):  # and things across
            (x, y, dx, dy), colour = random.random(4), random.integers(0, 256, 3).tolist()
            at = int((x + dx * into / 100) % 1 * width), int((y + dy * into / 200) % 1 * height * (1 - ROW))
            cv2.circle(pixels, at, height // 9, colour, -1)
        if grain is not None:
            down, across = np.random.default_rng(number).integers(0, 64, 2)
            pixels = (pixels + grain[down : down + height, across : across + width]).clip(0, 255).astype(np.uint8)
        if numbers:
            _write_number(pixels, number)
        yield pixels


def number_in(pixels: np.ndarray) -> int:
    """The number of the frame that these upright pixels, of any size, show."""
    height, width = pixels.shape[:2]
    row = pixels[int(height * (1 - ROW / 2))].mean(axis=1)
    blocks = [row[int((bit + 0.5) * width / BITS)] for bit in range(BITS)]
    return sum(1 << bit for bit, grey in enumerate(blocks) if grey > 127)


def _write_number(pixels: np.ndarray, number: int) -> None:
    height, width = pixels.shape[:2]
    cv2.putText(
        pixels, str(number), (width // 20, height // 3), cv2.FONT_HERSHEY_SIMPLEX, height / 90, (255, 255, 255), 2
    )
    top = height - int(height * ROW)
    for bit in range(BITS):
        left, right = bit * width // BITS, (bit + 1) * width // BITS
        pixels[top:, left:right] = 255 if number >> bit & 1 else 0


def _backdrop(scene: int, size: tuple[int, int]) -> np.ndarray:
    """Soft blotches around a colour of the scene's own, twice as high as a frame."""
    width, height = size
    random = np.random.default_rng(1000 + scene)
    colour = random.integers(40, 216, 3)
    blotches = random.normal(0, 30, (9, 9, 3)) + colour
    blotches[-1] = blotches[0]
    half = cv2.resize(blotches.clip(0, 255).astype(np.uint8), (width, height), interpolation=cv2.INTER_CUBIC)
    return np.concatenate([half, half])


class _Sound:
    """A tone beside a film, written in step with it."""

    RATE = 48_000

    def __init__(self, output: av.container.OutputContainer, suffix: str, start: Fraction, seconds: float | Fraction):
        self._output, self._start, self._end = output, start, seconds
        self._stream = None
        if seconds:
            codec = {".webm": "libopus", ".avi": "libmp3lame", ".flv": "libmp3lame", ".wmv": "libmp3lame"}.get(
                suffix, "aac"
            )
            self._stream = output.add_stream(codec, rate=self.RATE, layout="stereo")
        self._at = 0

    def write(self, until: Fraction | None) -> None:
        """As far as the film has come; None is to the end of the tone."""
        if self._stream is None:
            return
        end = self._end if until is None else min(until, self._end)
        while self._at < end * self.RATE:
            wave = 0.2 * np.sin(np.arange(self._at, self._at + 1024) * (440 * 2 * np.pi / self.RATE), dtype=np.float32)
            frame = av.AudioFrame.from_ndarray(np.stack([wave, wave]), "fltp", "stereo")
            frame.sample_rate, frame.time_base = self.RATE, Fraction(1, self.RATE)
            frame.pts = self._at + round(self._start * self.RATE)
            self._output.mux(self._stream.encode(frame))
            self._at += 1024
        if until is None:
            self._output.mux(self._stream.encode(None))
