"""How much of the bare speed of decoding and models a run over films keeps; and what memory a long film takes.

    python -m tests.benchmarks.video_job [FOLDER ...] [--films 12] [--workers 2] [--operators labels,objects]
    python -m tests.benchmarks.video_job --hours 2

Films are those of FOLDER, or of `video` of PINAKES_EVAL, or made; copies of them are given until there are enough.
(a) the bare loop: one process per core, each decodes a film once, at 1 frame a second, and shows the frames to every
    operator in batches of the size that a run has; those that watch every frame get every frame; no Ray, no tables;
(b) `pinakes run`.
(a) comes before and after (b), since machines are shared. Each runs twice, over a few films and over all of them: what
the second run took more than the first is what the films took (see pipeline.py).

--hours looks at one film of 1920 x 1080 at 25 frames a second, made of one minute again and again, and says what memory
its processes took at the most.
"""

import argparse
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import av
import numpy as np
import psutil

from pinakes.jobs import run
from pinakes.jobs.watch import BATCH
from pinakes.operators.operator import Footage, Operator, Picture, by_default, create
from pinakes.operators.video import Frame, Video, open_video
from tests.benchmarks.measure import Measured, Work, compare
from tests.benchmarks.photos import machine
from tests.benchmarks.pipeline import pinakes_run, side_by_side
from tests.films import write_film

MAX_PIXELS = 300_000_000


def bare_loop(work: Work) -> Iterator[None]:
    """(a)."""
    return side_by_side(work, look_at_films)


def look_at_films(files: list[Path], operators: list[Operator]) -> None:
    """Each decoded once."""
    for file in files:
        with open_video(str(file), file.name, file.stat().st_size, MAX_PIXELS) as video:
            look(video, operators)


def look(video: Video, operators: Sequence[Operator]) -> None:
    """At one film."""
    picturing = [one for one in operators if one.sees == "pictures"]
    watching = [one for one in operators if one.sees == "every frame"]
    (window,) = video.windows()
    batch: list[Picture] = []
    every: list[Frame] = []
    for frame in video.frames(window, "1fps" if picturing else None, every_frame=bool(watching)):
        if frame.pixels is not None:
            batch.append(Picture(frame.pixels, video.facts, item_key="0" * 32, frame_ms=frame.frame_ms))
        if frame.thumbnail is not None:
            every.append(Frame(frame.frame_ms, frame.keyframe, True, None, frame.thumbnail, frame.dark))
        if len(batch) == BATCH:
            for operator in picturing:
                operator.look(batch)
            batch = []
    for operator in picturing if batch else ():
        operator.look(batch)
    for operator in watching:
        footage = Footage(
            np.array([one.frame_ms for one in every]),
            np.stack([one.thumbnail for one in every if one.thumbnail is not None]),
            np.array([one.dark for one in every], np.float32),
            range(len(every)),
        )
        operator.watch(footage)


def films(folders: Sequence[Path], scratch: Path) -> list[Path]:
    """Films to copy, each short enough to be looked at whole."""
    given = list(folders)
    if not given and os.environ.get("PINAKES_EVAL"):
        given = [Path(os.environ["PINAKES_EVAL"]) / "video"]
    found = [path for folder in given for path in sorted(folder.iterdir()) if path.suffix in (".mp4", ".mkv", ".mov")]
    if not found:
        scratch.mkdir()
        for number, size in enumerate([(640, 360), (1920, 1080)]):
            found.append(scratch / f"{number}.mp4")
            write_film(found[-1], 20, size=size, noise=4, cuts=[120, 333])
    return found


def seconds_of(paths: Sequence[Path]) -> float:
    total = 0.0
    for path in paths:
        with open_video(str(path), path.name, path.stat().st_size, MAX_PIXELS) as video:
            total += (video.facts.duration_ms or 0) / 1000
    return total


def long_film(path: Path, hours: float) -> None:
    """One minute of 1080p, coded once, and its packets written again and again."""
    minute = path.with_name("minute.mp4")
    # 12 Mbit/s: what a good camera or a disc has.
    write_film(minute, 60, size=(1920, 1080), noise=3, cuts=[250, 900], gop=250, encoder_options={"crf": "26"})
    with av.open(str(path), "w") as output, av.open(str(minute)) as first:
        stream = output.add_stream_from_template(first.streams.video[0])
        for repeat in range(round(hours * 60)):
            with av.open(str(minute)) as source:
                track = source.streams.video[0]
                shift = round(repeat * 60 / track.time_base)
                for packet in source.demux(track):
                    if packet.dts is not None and packet.pts is not None:
                        packet.pts += shift
                        packet.dts += shift
                        packet.stream = stream
                        output.mux(packet)
    minute.unlink()


class Memory:
    """The most that each looking process takes, looked at every tenth of a second."""

    def __init__(self) -> None:
        self.most: dict[int, int] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "Memory":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.1):
            for process in psutil.Process().children(recursive=True):
                try:
                    if "pinakes.jobs.looker_process" in process.cmdline():
                        used = process.memory_info().rss
                        self.most[process.pid] = max(used, self.most.get(process.pid, 0))
                except psutil.Error:
                    continue


def measure_memory(hours: float, names: list[str], workers: int) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        archive = Path(scratch) / "archive"
        archive.mkdir()
        long_film(archive / "film.mp4", hours)
        size = (archive / "film.mp4").stat().st_size
        print(f"a film of {hours:g} h, 1920 x 1080, 25 frames a second, {size / 1e6:.0f} MB; {', '.join(names)}")
        with Memory() as memory:
            summary = run(archive, Path(scratch) / "catalog", {name: {} for name in names}, workers=workers)
        assert summary.total("failed") == 0, summary.errors
        print(
            f"{summary.seconds:.0f} s, {summary.video_s / summary.seconds:.1f} times its speed; at the most "
            f"{max(memory.most.values()) / 2**30:.2f} GiB in one of {len(memory.most)} looking processes"
        )


def measure_speed(arguments: argparse.Namespace, names: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        sources = films(arguments.folder, scratch / "made")
        archive, start = scratch / "archive", scratch / "start"
        for place, count in ((start, arguments.workers), (archive, arguments.films)):
            place.mkdir()
            for number in range(count):
                # Each process of the bare loop gets one of each.
                source = sources[number // arguments.workers % len(sources)] if place is archive else sources[0]
                shutil.copy(source, place / f"{number:03d}{source.suffix}")
        few, all_s = seconds_of(sorted(start.iterdir())), seconds_of(sorted(archive.iterdir()))
        print(f"{arguments.films} films, {all_s:.0f} s, copies of {', '.join(path.name for path in sources)}")
        print(f"\n{'':20}  times its speed  ms of CPU a second of film  whole s")
        found: dict[str, Measured] = {}
        for letter, (name, contender) in {
            "a": ("bare loop", bare_loop),
            "b": ("pinakes run", pinakes_run),
            "A": ("bare loop again", bare_loop),
        }.items():
            operators: dict[str, dict[str, Any]] = {name: {} for name in names}
            works = [Work(one, scratch / letter / one.name, operators, arguments.workers) for one in (start, archive)]
            found[letter] = one = compare(contender, works[0], round(few), works[1], round(all_s))
            print(
                f"({letter.lower()}) {name:16}  {one.per_s:15.1f}  {one.cpu_ms:26.1f}  {one.whole_s:7.1f}", flush=True
            )
        bare_cpu = (found["a"].cpu_ms + found["A"].cpu_ms) / 2
        bare_per_s = (found["a"].per_s + found["A"].per_s) / 2
        ours = found["b"]
        print(f"\n(b) / (a)  {ours.per_s / bare_per_s:.2f} by wall time, {bare_cpu / ours.cpu_ms:.2f} by CPU")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="*", type=Path)
    parser.add_argument("--films", type=int, default=12)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument(
        "--operators", help="names, with commas between; every one that needs no settings when not given"
    )
    parser.add_argument("--hours", type=float, help="measure the memory that one film of that length takes")
    arguments = parser.parse_intermixed_args()
    made = {name: create(name) for name in by_default()}
    every = [name for name, one in made.items() if one.sees in ("pictures", "every frame") and name != "frames"]
    names = arguments.operators.split(",") if arguments.operators else every
    print(machine())
    print(f"Ray {version('ray')}, OpenVINO {version('openvino')}, PyAV {version('av')}; {arguments.workers} workers")
    print(", ".join(names))
    if arguments.hours:
        measure_memory(arguments.hours, names, arguments.workers)
    else:
        measure_speed(arguments, names)


if __name__ == "__main__":
    main()
