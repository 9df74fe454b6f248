"""What a pipeline takes beyond its start: each runs in a process of its own, over a few photos and over all of them."""

import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil

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
    os.dup2(2, 1)  # whatever the engine has to say: standard output is for the figures
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: work.workers])
    for _ in contender(work):
        pipe.send(None)
        pipe.recv()


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
