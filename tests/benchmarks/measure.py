"""What looking takes: of a pipeline, of processes side by side, and of a run of ours in its middle.

A pipeline of any kind runs in a process of its own, over a few photos and over all of them (`compare`). Processes side
by side are ready before they are given photos (`Team`). Of a run of ours its progress says more (`watched`).
"""

import math
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeVar

import psutil
from rich.console import Console

from pinakes.jobs import run
from pinakes.jobs.progress import Advance, Progress
from pinakes.jobs.summary import RunSummary

Answer = TypeVar("Answer")
#: Looks at files, one after the other or in batches.
Look = Callable[[list[Path]], object]

#: How often the processes are counted. One that ends takes with it what it used since the last time.
EVERY_S = 0.25


@dataclass(frozen=True)
class Work:
    """What every contender is given."""

    folder: Path
    out: Path
    operators: dict[str, dict[str, Any]]
    workers: int


#: Yields when its engine is up, and again when everything is written; then it may shut down.
Contender = Callable[[Work], Iterator[None]]


@dataclass(frozen=True)
class Taken:
    """Of one run: seconds until the engine was up, from then until all was written, and of CPU in that time."""

    engine_s: float
    seconds: float
    cpu_s: float


@dataclass(frozen=True)
class Measured:
    """Of two runs: what the photos took that the second had more than the first, so that start and end cancel out."""

    per_s: float
    cpu_ms: float
    engine_s: float
    start_s: float  # from the engine's start-up to the end, less what the photos took: processes, models, last commit
    whole_s: float


def compare(contender: Contender, few: Work, few_photos: int, full: Work, photos: int) -> Measured:
    """Run it over both. Raises SystemExit when it fails."""
    first, second = take(contender, few), take(contender, full)
    more, seconds = photos - few_photos, second.seconds - first.seconds
    per_s = more / seconds if seconds > 0 else float("nan")  # a machine so busy that more photos took less
    return Measured(
        per_s=per_s,
        cpu_ms=1000 * (second.cpu_s - first.cpu_s) / more,
        engine_s=second.engine_s,
        start_s=second.seconds - photos / per_s,
        whole_s=second.engine_s + second.seconds,
    )


def take(contender: Contender, work: Work) -> Taken:
    """Run it once, on as many cores as there are workers."""
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=_run, args=(contender, work, theirs))
    began = time.monotonic()
    process.start()
    theirs.close()
    with _Cpu(process.pid) as cpu:
        try:
            ours.recv()
            up, before = time.monotonic(), cpu.seconds()
            ours.send(None)
            ours.recv()
            written, after = time.monotonic(), cpu.seconds()
            ours.send(None)
        except EOFError:
            raise SystemExit(f"{contender.__name__} failed; what it said stands above") from None
        finally:
            process.join()
    return Taken(up - began, written - up, after - before)


def _run(contender: Contender, work: Work, pipe: Connection) -> None:
    _settle(work.workers)
    for _ in contender(work):
        pipe.send(None)
        pipe.recv()


def _settle(cores: int) -> None:
    """Make this process one that is measured."""
    os.dup2(2, 1)  # whatever the engine has to say: standard output is for the figures
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])


def alone(cores: int, function: Callable[..., Answer], *given: Any) -> Answer:
    """What the function returns, called in a process of its own on that many cores; what it took goes with it."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn, initializer=_settle, initargs=(cores,)) as process:
        return process.submit(function, *given).result()


@dataclass(frozen=True)
class Looked:
    """Photos that were looked at, in so many seconds, with so many of CPU."""

    photos: int
    seconds: float
    cpu_s: float

    @property
    def per_s(self) -> float:
        return self.photos / self.seconds

    @property
    def cpu_ms(self) -> float:
        """Of one photo."""
        return 1000 * self.cpu_s / self.photos


class Team:
    """Processes side by side, one for each core unless it is said how many, that wait for files to look at.

    `ready(*given)` is called once in each, before the first file, and returns the function that looks.
    """

    def __init__(self, cores: int, ready: Callable[..., Look], *given: Any, processes: int | None = None) -> None:
        spawn = multiprocessing.get_context("spawn")
        pipes = [spawn.Pipe() for _ in range(processes or cores)]
        self._pipes = [ours for ours, _ in pipes]
        self._processes = [
            spawn.Process(target=_serve, args=(cores, ready, given, theirs), daemon=True) for _, theirs in pipes
        ]
        for process, (_, theirs) in zip(self._processes, pipes, strict=True):
            process.start()
            theirs.close()
        self._answers()

    def __enter__(self) -> "Team":
        return self

    def __exit__(self, *error: object) -> None:
        for pipe in self._pipes:
            pipe.close()
        for process in self._processes:
            process.join()

    def look(self, files: Sequence[Path], processes: int | None = None) -> Looked:
        """Let all, or so many, of them look, each at its share of the files."""
        pipes = self._pipes[:processes]
        began = time.monotonic()
        for number, pipe in enumerate(pipes):
            pipe.send(list(files[number :: len(pipes)]))
        cpu_s = sum(self._answers(processes))
        return Looked(len(files), time.monotonic() - began, cpu_s)

    def look_for(self, seconds: float, files: Sequence[Path]) -> Looked:
        """Let them look at the files again and again, for about so many seconds."""
        first = self.look(files)
        return self.look(list(files) * math.ceil(seconds / first.seconds))

    def _answers(self, processes: int | None = None) -> list[float]:
        try:
            return [pipe.recv() for pipe in self._pipes[:processes]]
        except EOFError:
            raise SystemExit("a process of the benchmark failed; what it said stands above") from None


def _serve(cores: int, ready: Callable[..., Look], given: Sequence[Any], pipe: Connection) -> None:
    _settle(cores)
    look = ready(*given)
    pipe.send(0.0)
    while True:
        try:
            files = pipe.recv()
        except EOFError:
            return
        began = time.process_time()
        look(files)
        pipe.send(time.process_time() - began)


def watched(middle: tuple[float, float], source: Path, catalog: Path, **options: Any) -> tuple[RunSummary, Looked]:
    """`pinakes.jobs.run` with those options: its own summary, and what it took in its middle.

    `middle` is from when to when, in shares of the photos. Its start, where processes are opening their models, is not
    in it, and neither is its end, where some have nothing left to do: both are the same for any number of photos.
    Raises SystemExit when a look fails, or when there are too few photos to have a middle.
    """
    with _Cpu(os.getpid()) as cpu:
        progress = _Recorded(cpu)
        summary = run(source, catalog, progress=progress, **options)
    if summary.total("failed"):
        raise SystemExit(f"the run failed at photos: {summary.errors}, see `pinakes status --catalog {catalog}`")
    first, last = (next(at for at in progress.seen if at[0] >= share * summary.items) for share in middle)
    if first == last:
        raise SystemExit(f"{summary.items} photos are too few: the run was over before its speed could be seen")
    return summary, Looked(last[0] - first[0], last[1] - first[1], last[2] - first[2])


class _Recorded(Progress):
    """Keeps how many photos were finished when, and with how many seconds of CPU by then."""

    def __init__(self, cpu: "_Cpu") -> None:
        super().__init__(Console(quiet=True))
        self._cpu = cpu
        self.seen: list[tuple[int, float, float]] = []

    @contextmanager
    def counting(self, total: int, videos: bool = False) -> Iterator[Advance]:
        done = 0

        def advance(items: int, failed: int, video_s: float = 0, all_s: float = 0) -> None:
            nonlocal done
            done += items
            # Counting the processes takes milliseconds, and a GPU finishes a piece every few of them.
            if done == total or not self.seen or time.monotonic() - self.seen[-1][1] >= EVERY_S:
                self.seen.append((done, time.monotonic(), self._cpu.seconds()))

        yield advance


class _Cpu:
    """CPU seconds of a process and all that descend from it, those that have ended among them."""

    def __init__(self, pid: int | None) -> None:
        self._root = psutil.Process(pid)
        self._used: dict[psutil.Process, float] = {}
        self._lock, self._over = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "_Cpu":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    def seconds(self) -> float:
        """So far. Ray ignores the end of its children, so that the system does not add them up: we do."""
        with self._lock:
            try:
                for process in (self._root, *self._root.children(recursive=True)):
                    try:
                        times = process.cpu_times()
                    except psutil.Error:
                        continue
                    self._used[process] = times.user + times.system
            except psutil.Error:  # the root has ended
                pass
            return sum(self._used.values())

    def _watch(self) -> None:
        while not self._over.wait(EVERY_S):
            self.seconds()
