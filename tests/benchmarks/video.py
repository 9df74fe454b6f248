"""What reading a video costs: sampled frames per second of CPU, beside decord and a bare PyAV loop.

    python -m tests.benchmarks.video [FILM ...] [--seconds 30] [--rounds 5]

Without films, two are made: 360p and 1080p, H.264 as x264 makes it (key frames at cuts and every 250 frames, B-frames),
with things that move and a camera's noise. Everyone gives the same frames as RGB arrays, opens the film anew each time,
and has one thread. Of decord and PyAV the better of two ways counts: in the film's own size, and in ours. The rounds
take turns, so a ratio is of two runs that followed each other; the medians are told, and the ratios' range.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import av
import decord
import numpy as np
from av.video.reformatter import VideoReformatter
from rich.console import Console
from rich.table import Table

from pinakes.operators.decode import MAX_PIXELS
from pinakes.operators.video import Sampling, Window, open_video
from tests.benchmarks.photos import machine
from tests.films import write_film

SIZES = {"360p": (640, 360), "1080p": (1920, 1080)}
X264 = {"preset": "medium", "b-adapt": "1", "crf": "23"}

#: Frames that decord is asked for at a time: more does not make it quicker, and is memory.
BATCH = 16

#: Size of a frame, or None for the film's own.
Size = tuple[int, int] | None


def ours(film: Path, sampling: Sampling) -> list[tuple[int, np.ndarray]]:
    found = []
    with open_video(str(film), film.name, film.stat().st_size, MAX_PIXELS) as video:
        for frame in video.frames(Window(0, None), sampling):
            assert frame.pixels is not None
            found.append((frame.frame_ms, frame.pixels))
    return found


def every_frame(film: Path) -> int:
    """Ours, of what operators that watch a film see: thumbnails of all frames."""
    with open_video(str(film), film.name, film.stat().st_size, MAX_PIXELS) as video:
        return sum(1 for _ in video.frames(Window(0, None), None, every_frame=True))


def with_decord(film: Path, numbers: list[int], keyframes: bool, size: Size) -> int:
    width, height = size or (-1, -1)
    reader = decord.VideoReader(str(film), ctx=decord.cpu(0), width=width, height=height, num_threads=1)
    if keyframes:
        numbers = reader.get_key_indices()
    return sum(len(reader.get_batch(numbers[at : at + BATCH]).asnumpy()) for at in range(0, len(numbers), BATCH))


def with_pyav(film: Path, numbers: list[int], keyframes: bool, size: Size) -> int:
    wanted, found, scaler = frozenset(numbers), [], VideoReformatter()
    with av.open(str(film)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        if keyframes:
            stream.codec_context.skip_frame = "NONKEY"
        for number, frame in enumerate(container.decode(stream)):
            if keyframes or number in wanted:
                width, height = size or (frame.width, frame.height)
                found.append(scaler.reformat(frame, width, height, "rgb24", threads=1).to_ndarray())
            if not keyframes and number >= numbers[-1]:
                break
    return len(found)


def decode_all(film: Path) -> int:
    with av.open(str(film)) as container:
        container.streams.video[0].codec_context.thread_count = 1
        return sum(1 for _ in container.decode(video=0))


def taken(call: Callable[[], int], expected: int) -> float:
    """Seconds of CPU. Raises SystemExit when it gives another number of frames."""
    began = time.process_time()
    found = call()
    seconds = time.process_time() - began
    if found != expected:
        raise SystemExit(f"{found} frames instead of {expected}: not the same work")
    return seconds


def measure(film: Path, sampling: Sampling, rounds: int) -> dict[str, list[float]]:
    """Seconds of CPU of each round, by who took them; and under `frames` how many they gave."""
    frames = ours(film, sampling)
    height, width = frames[0][1].shape[:2]
    with av.open(str(film)) as container:
        stream = container.streams.video[0]
        base, start = stream.time_base, stream.start_time
        assert base is not None
        assert start is not None
        times = [int((frame.pts - start) * base * 1000) for frame in container.decode(stream) if frame.pts is not None]
    numbers = [times.index(at) for at, _ in frames]
    keys, sizes = sampling == "keyframes", (None, (width, height))
    spent: dict[str, list[float]] = {"frames": [len(frames)], "ours": [], "decord": [], "PyAV": []}
    for _ in range(rounds):
        spent["ours"].append(taken(lambda: len(ours(film, sampling)), len(frames)))
        for name, peer in (("decord", with_decord), ("PyAV", with_pyav)):
            ways = [
                taken(lambda peer=peer, size=size: peer(film, numbers, keys, size), len(frames))  # type: ignore[misc]
                for size in dict.fromkeys(sizes)
            ]
            spent[name].append(min(ways))
    return spent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("film", nargs="*", type=Path)
    parser.add_argument("--seconds", type=int, default=30, help="length of the films that are made")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    console = Console(width=120)
    with tempfile.TemporaryDirectory() as scratch:
        films = {film.name: film for film in arguments.film}
        for name, size in SIZES.items() if not films else ():
            films[name] = Path(scratch) / f"{name}.mp4"
            cuts = range(170, arguments.seconds * 25, 170)
            write_film(films[name], arguments.seconds, 25, size, gop=250, b_frames=3, cuts=cuts, noise=4,
                       audio=True, encoder_options=X264)  # fmt: skip
        table = Table("film", "frames", "given", "ours: frames per CPU s", "decord: ratio", "PyAV: ratio",
                      title=f"av {version('av')}, decord {version('decord')}, {machine()}")  # fmt: skip
        for name, film in films.items():
            samplings: tuple[Sampling, ...] = ("1fps", "keyframes")
            for sampling in samplings:
                spent = measure(film, sampling, arguments.rounds)
                given = int(spent["frames"][0])
                ratios = [_ratio(spent["ours"], spent[peer]) for peer in ("decord", "PyAV")]
                speed = given / statistics.median(spent["ours"])
                table.add_row(name, sampling, str(given), f"{speed:.1f}", *ratios)
            count = every_frame(film)
            watching = [taken(lambda film=film: every_frame(film), count) for _ in range(arguments.rounds)]  # type: ignore[misc]
            decoding = [taken(lambda film=film: decode_all(film), count) for _ in range(arguments.rounds)]  # type: ignore[misc]
            speed = count / statistics.median(watching)
            table.add_row(
                name, "all, small", str(count), f"{speed:.1f}", "", _ratio(watching, decoding) + " (decoding)"
            )
        console.print(table)
        console.print("A ratio is our speed over theirs, the median of the rounds (and its range).")


def _ratio(mine: list[float], theirs: list[float]) -> str:
    ratios = [their / my for my, their in zip(mine, theirs, strict=True)]
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} - {max(ratios):.2f})"


if __name__ == "__main__":
    main()
