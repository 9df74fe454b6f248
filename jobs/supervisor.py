"""Keeps one looking process alive, and finds the item that kills it.

An item that the process had in hand when it died is a suspect: it is looked at alone, in a fresh process. Should that
die as well, the item gets a failed row and is not touched again; else the first death was not its fault. If nothing was
in hand (the process was killed from outside, or files fetched ahead took the memory), all that was left is suspect.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing import Pipe
from typing import Any

import psutil
import pyarrow as pa

from pinakes.catalog.metering import SPENT, of_run
from pinakes.jobs.channel import Receiver, Sender
from pinakes.jobs.in_hand import InHand
from pinakes.jobs.looker_process import Job
from pinakes.jobs.rows import Rows, Tables, concatenated
from pinakes.operators.errors import ErrorCode

#: How often the process's memory is looked at.
POLL_S = 0.1
#: A process that dies before it has any work is started so many times in all.
STARTS = 3


class BrokenWorkerError(Exception):
    """The process that looks cannot start: no item is to blame."""


class _DeathError(Exception):
    """The process died with these positions in hand."""

    def __init__(self, in_hand: Sequence[int], code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.in_hand = list(in_hand)
        self.code = code


class Supervisor:
    """Looks at work through a process of its own."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._process: _Process | None = None

    def look(self, work: pa.Table) -> Tables:
        """The rows of every item of the work. Raises BrokenWorkerError."""
        found: list[Tables] = []
        done: set[int] = set()
        suspects: list[int] = []
        while True:
            left = [position for position in range(work.num_rows) if position not in done and position not in suspects]
            if not left:
                break
            try:
                self._look(work, left, found, done)
            except _DeathError as death:
                suspects += death.in_hand or [position for position in left if position not in done]
        for position in suspects:
            try:
                self._look(work, [position], found, done)
            except _DeathError as death:
                if position in done:
                    continue
                rows = Rows(self._job.operators)
                item = work.slice(position, 1).to_pylist()[0]
                rows.fail(item, item["operators"], death.code, str(death))
                found.append(rows.tables())
        return concatenated(found)

    def _look(self, work: pa.Table, positions: list[int], found: list[Tables], done: set[int]) -> None:
        """Send those items and take what comes back, up to the end or a death."""
        if self._process is None:
            self._process = self._start()
        try:
            self._process.send(work.take(pa.array(positions)))
            while True:
                kind, content = self._process.receive()
                if kind == "rows":
                    finished, tables, self._process.told_s = content
                    done.update(positions[position] for position in finished)
                    found.append(tables)
                elif kind == "done":
                    return
        except (EOFError, OSError):
            in_hand = [positions[position] for position in self._process.in_hand.get()]
            code, message = self._process.died()
            found.append({SPENT: of_run(self._process.untold_s)})
            self._process = None
            raise _DeathError(in_hand, code, message) from None

    def _start(self) -> "_Process":
        for start in range(1, STARTS + 1):
            try:
                return _Process(self._job)
            except _DeathError as death:
                if start == STARTS:
                    raise BrokenWorkerError(f"a worker died as it loaded its models, {start} times: {death}") from None
        raise AssertionError("unreachable")

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.close()
            self._process = None


class _Process:
    """One looking process and the pipes to it. Raises _DeathError when it dies as it starts, BrokenWorkerError."""

    def __init__(self, job: Job) -> None:
        self._memory_bytes = job.memory_bytes
        self._over_memory = False
        #: CPU seconds of the process that its rows have told of; and, once it is dead, those that they have not.
        self.told_s = self.untold_s = 0.0
        theirs_in, outbox = Pipe(duplex=False)
        inbox, theirs_out = Pipe(duplex=False)
        self._inbox, self._outbox = Receiver(inbox), Sender(outbox)
        life_line, self._life_line = os.pipe()
        self.in_hand = InHand()
        ends = [theirs_in.fileno(), theirs_out.fileno(), life_line, self.in_hand.descriptor]
        self._popen = subprocess.Popen(
            [sys.executable, "-m", "pinakes.jobs.looker_process", *map(str, ends)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=ends,
        )
        theirs_in.close()
        theirs_out.close()
        os.close(life_line)
        self._memory = psutil.Process(self._popen.pid)
        try:
            self._outbox.send(job)
            kind, content = self.receive()
        except (EOFError, OSError):
            raise _DeathError([], *self.died()) from None
        if kind == "broken":
            self.close()
            raise BrokenWorkerError(content)

    def send(self, work: pa.Table) -> None:
        self._outbox.send(work)

    def receive(self) -> tuple[str, Any]:
        """The next message. Raises EOFError when the process is dead; kills it when it takes too much memory."""
        while not self._inbox.poll(POLL_S):
            try:
                used = self._memory.memory_info().rss
            except psutil.Error:
                continue
            if self._memory_bytes is not None and used > self._memory_bytes:
                self._over_memory = True
                self._popen.kill()
        message: tuple[str, Any] = self._inbox.receive()
        return message

    def died(self) -> tuple[ErrorCode, str]:
        """Why, after the end of the pipe."""
        with suppress(psutil.Error):
            spent = self._memory.cpu_times()
            self.untold_s = max(0.0, spent.user + spent.system - self.told_s)
        self.close()
        status = self._popen.returncode
        if self._over_memory and self._memory_bytes is not None:
            return (
                ErrorCode.OUT_OF_MEMORY,
                f"looking at it took more than {self._memory_bytes / 2**30:.1f} GiB (worker_memory_gb)",
            )
        if status == -signal.SIGALRM:
            return ErrorCode.TIME_LIMIT, "looking at it took longer than the job allows (time_limit_s)"
        if status == -signal.SIGKILL:
            return ErrorCode.OUT_OF_MEMORY, "the process was killed on it, as the kernel does when memory runs out"
        reason = signal.Signals(-status).name if status < 0 else f"exit status {status}"
        return ErrorCode.CRASHED, f"the process died on it, alone: {reason}"

    def close(self) -> None:
        """Let the process end with its life line, and take its exit status."""
        if self._life_line >= 0:
            os.close(self._life_line)
            self.in_hand.close()
        self._life_line = -1
        for pipe in (self._inbox, self._outbox):
            pipe.close()
        try:
            self._popen.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()
