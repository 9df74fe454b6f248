"""The process that looks: everything native (decoders, models) runs here, so that a crash costs one item.

Started by supervisor.py with the numbers of pipes' ends. It is told the job once, then work; it notes what it has in
hand where the supervisor finds it, and answers with rows and with `done`. It ends when the pipe does.
"""

import faulthandler
import os
import signal
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection

import pyarrow as pa

from pinakes.cluster.placement import Pool
from pinakes.jobs.channel import Receiver, Sender
from pinakes.jobs.in_hand import InHand
from pinakes.jobs.look import Limits, Looker
from pinakes.operators.decode import single_thread
from pinakes.operators.device import DeviceOperator
from pinakes.operators.operator import Device, Operator, Sampling


@dataclass(frozen=True)
class Job:
    """What a looking process must know of the job."""

    #: By name, not loaded.
    operators: dict[str, Operator]
    limits: Limits
    time_limit_s: float
    #: Of one looking process; None for its share of the node's.
    memory_bytes: int | None
    workers: int
    #: Of videos.
    sampling: Sampling = "1fps"
    #: What the operators in `pools` run on.
    device: Device = "cpu"
    #: Operators that are given a device of their own; the others look where the pictures are decoded.
    pools: tuple[Pool, ...] = ()
    #: Items that come back together: the most that is looked at twice when a worker is lost.
    piece: int = 64

    @property
    def elsewhere(self) -> frozenset[str]:
        """The operators in pools."""
        return frozenset(name for pool in self.pools for name in pool.operators)


def main(read_end: int, write_end: int, life_line: int, in_hand_memory: int) -> None:
    """Serve until the supervisor is gone. The life line is a pipe whose other end only the supervisor holds."""
    threading.Thread(target=_end_with, args=(life_line,), daemon=True).start()
    faulthandler.disable()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the driver's business
    # Not handled in Python: the kernel ends the process even when a decoder never comes back.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    _prefer_for_memory_kill()
    single_thread()
    inbox, outbox = Receiver(Connection(read_end, writable=False)), Sender(Connection(write_end, readable=False))
    held = InHand(in_hand_memory)
    job: Job = inbox.receive()

    def in_hand(positions: Sequence[int]) -> None:
        signal.setitimer(signal.ITIMER_REAL, job.time_limit_s * len(positions))
        held.set(sorted(set(positions)))

    try:
        for operator in job.operators.values():
            if isinstance(operator, DeviceOperator) and operator.name in job.elsewhere:
                operator.load_preparing()
            else:
                operator.fetch("cpu")  # the driver's node has it; another may not
                operator.load()
        looker = Looker(job.operators, job.limits, in_hand, job.elsewhere, job.sampling)
    except Exception as error:
        outbox.send(("broken", f"{type(error).__name__}: {' '.join(str(error).split())}"))
        return
    outbox.send(("ready", None))
    while True:
        try:
            work: pa.Table = inbox.receive()
        except EOFError:
            return
        for positions, tables in looker.look(work):
            outbox.send(("rows", (positions, tables, looker.meter.told_s)))
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
    main(*(int(argument) for argument in sys.argv[1:5]))
