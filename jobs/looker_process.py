"""The process that looks: everything native (decoders, models) runs here, so that a crash costs one item.

Started by supervisor.py with the number of a pipe's end. It is told the job once, then work; it answers with what it
has in hand, with rows, and with `done`. It ends when the pipe does.
"""

import faulthandler
import os
import signal
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import pyarrow as pa

from pinakes.jobs.look import Limits, Looker
from pinakes.operators import models
from pinakes.operators.decode import single_thread
from pinakes.operators.operator import Operator, create


@dataclass(frozen=True)
class Job:
    """What a looking process must know of the job."""

    operators: dict[str, dict[str, Any]]
    limits: Limits
    time_limit_s: float
    #: Of one looking process; None for its share of the node's.
    memory_bytes: int | None
    workers: int

    def create(self) -> dict[str, Operator]:
        """The operators, by name, their models not loaded."""
        return {name: create(name, settings) for name, settings in self.operators.items()}


def main(read_end: int, write_end: int, life_line: int) -> None:
    """Serve until the supervisor is gone. The life line is a pipe whose other end only the supervisor holds."""
    threading.Thread(target=_end_with, args=(life_line,), daemon=True).start()
    faulthandler.disable()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the driver's business
    # Not handled in Python: the kernel ends the process even when a decoder never comes back.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    _prefer_for_memory_kill()
    single_thread()
    inbox, outbox = Connection(read_end, writable=False), Connection(write_end, readable=False)
    job: Job = inbox.recv()

    def in_hand(positions: Sequence[int]) -> None:
        signal.setitimer(signal.ITIMER_REAL, job.time_limit_s * len(positions))
        outbox.send(("in_hand", list(positions)))

    try:
        operators = job.create()
        for operator in operators.values():
            # The driver's node has them; another may not.
            models.pull_all(name for name in operator.model_names() if not models.is_here(name))
            operator.load()
        looker = Looker(operators, job.limits, in_hand)
    except Exception as error:
        outbox.send(("broken", f"{type(error).__name__}: {' '.join(str(error).split())}"))
        return
    outbox.send(("ready", None))
    while True:
        try:
            work: pa.Table = inbox.recv()
        except EOFError:
            return
        for positions, tables in looker.look(work):
            outbox.send(("rows", (positions, tables)))
        outbox.send(("done", None))


def _end_with(life_line: int) -> None:
    """Wait for the end of a pipe that nobody writes to, and end at once."""
    os.read(life_line, 1)
    os._exit(0)


def _prefer_for_memory_kill() -> None:
    """Should the kernel run out of memory, let it take this process, which can be replaced."""
    try:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("1000")
    except OSError:
        pass


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:4]))
