"""What this process spends: its CPU time, cut at each step, so that every second is somebody's."""

import threading
import time
from pathlib import Path

import fsspec.asyn


class Meter:
    """The CPU time of this process; for one thread, which takes laps.

    A lap has what all threads have used since the last one, those of models among them; but not those that fetch, which
    work for items that come later: theirs is apart.
    """

    def __init__(self) -> None:
        #: All that laps have told of so far, in CPU seconds.
        self.told_s = 0.0
        self._at = 0.0  # from the start of the process on: imports are somebody's too
        self._fetched_at = 0.0
        self._fetchers: dict[int, int] = {}

    def fetching(self) -> None:
        """Called by a thread that fetches, and lives as long as the process."""
        thread = threading.get_ident()
        if hasattr(time, "pthread_getcpuclockid"):  # elsewhere its time is that of the step it falls in
            self._fetchers[thread] = time.pthread_getcpuclockid(thread)

    def lap(self) -> float:
        """CPU seconds of all threads but those that fetch, since the last lap."""
        now = time.process_time() - self._fetched()
        lap, self._at = max(0.0, now - self._at), now
        self.told_s += lap
        return lap

    def lap_of_fetching(self) -> float:
        """CPU seconds of the threads that fetch, since this was last asked."""
        now = self._fetched()
        lap, self._fetched_at = max(0.0, now - self._fetched_at), now
        self.told_s += lap
        return lap

    def _fetched(self) -> float:
        # fsspec has one thread of its own, which does all that goes over the network.
        network = fsspec.asyn.iothread[0]
        if network is not None and network.ident not in self._fetchers and hasattr(time, "pthread_getcpuclockid"):
            self._fetchers[network.ident] = time.pthread_getcpuclockid(network.ident)
        return sum(time.clock_gettime(clock) for clock in list(self._fetchers.values()))


class Reads:
    """What is read of a file in parts: bytes, and requests to a server for them."""

    def __init__(self) -> None:
        self.bytes = 0
        self.requests = 0


def bytes_read_here() -> int:
    """Bytes that this process has read from files; of whatever library. 0 where the system does not say."""
    try:
        first = Path("/proc/self/io").read_text().split("\n", 1)[0]
    except OSError:
        return 0
    return int(first.removeprefix("rchar: "))
