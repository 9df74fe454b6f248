"""Start Ray on this machine, or join the cluster that RAY_ADDRESS names."""

import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import psutil

from pinakes.cluster.errors import ClusterError

#: Of a Ray that we start ourselves; rows are small, and pixels go there only on their way to GPUs.
OBJECT_STORE_BYTES = 256 * 2**20
PIXEL_STORE_BYTES = 2 * 2**30
#: Ray prints these, whatever it is told of logs: the deaths of workers and nodes, which are dealt with here.
DEATHS = "worker died or was killed|retries remaining|workers? killed|killed due to|Raylet is terminated|marked dead"
#: In which a cluster's head must take a connection.
ANSWER_S = 10
#: Of a node's memory, what its workers may take together.
WORKERS_SHARE = 0.75


@contextmanager
def connected(workers: int | None = None, *, pixels_travel: bool = False) -> Iterator[int]:
    """Ray for the length of a `with`; yields the number of workers: those asked for, or one per free core.

    `pixels_travel`: they go through the object store, which then is larger.
    A Ray that is already there (RAY_ADDRESS, or an earlier `ray.init`) is joined and left running.
    Raises ClusterError.
    """
    # Before the import: Ray reads them then.
    os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", DEATHS)
    import ray

    ours = not ray.is_initialized()
    if ours:
        address = os.environ.get("RAY_ADDRESS")
        here: dict[str, Any] = {
            # Else Ray would join whatever `ray start` has started on this machine.
            "address": "local",
            "num_cpus": workers or available_cores(),
            "object_store_memory": PIXEL_STORE_BYTES if pixels_travel else OBJECT_STORE_BYTES,
            "include_dashboard": False,
            "_node_ip_address": "127.0.0.1",
        }
        try:
            if address:
                _knock(address)
            with _silent_stderr(), _own_sigterm():
                ray.init(logging_level=logging.ERROR, log_to_driver=False, **({} if address else here))
        except (ConnectionError, RuntimeError, ValueError, TimeoutError, OSError) as error:
            where = f"the Ray cluster at {address}" if address else "Ray on this machine"
            raise ClusterError(f"{where} cannot be reached or started: {' '.join(str(error).split())[:300]}") from error
    try:
        quiet()
        cores = int(ray.cluster_resources().get("CPU", 1))
        # Whatever else Ray has to say, standard output is for answers.
        with redirect_stdout(sys.stderr):
            yield min(workers, cores) if workers else max(1, int(ray.available_resources().get("CPU", 1)))
    finally:
        if ours:
            ray.shutdown()


def _knock(address: str) -> None:
    """Raises OSError when nobody listens there: Ray itself would try for minutes, and then end the process."""
    import ray.util

    host, _, port = address.rpartition("://")[2].rpartition(":")
    if host and port.isdigit() and int(port) < 2**16:
        # As Ray does: its own nodes do not listen on the loopback address.
        host = ray.util.get_node_ip_address() if host in ("localhost", "127.0.0.1", "[::1]") else host.strip("[]")
        socket.create_connection((host, int(port)), timeout=ANSWER_S).close()


@contextmanager
def _silent_stderr() -> Iterator[None]:
    """Ray's C++ side writes of its own log level there, whatever the level is."""
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


@contextmanager
def _own_sigterm() -> Iterator[None]:
    """Ray's own handlers of SIGTERM end the process on the spot, with what is finished not committed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    kept = signal.getsignal(signal.SIGTERM)
    try:
        yield
    except SystemExit as error:
        raise KeyboardInterrupt from error
    finally:
        signal.signal(signal.SIGTERM, kept or signal.SIG_DFL)


def quiet() -> None:
    """No progress bars and no chatter of Ray Data's: the job has its own."""
    import ray

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)


def available_cores() -> int:
    """Cores that this process may use; in a container, its share."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    match _of_container("cpu.max"):
        case [quota, period] if quota.isdigit():
            return max(1, min(cores, round(int(quota) / int(period))))
    return cores


def _of_container(limit: str) -> list[str]:
    """The words of a limit of control groups, version 2; none outside a container."""
    try:
        return Path("/sys/fs/cgroup", limit).read_text().split()
    except OSError:
        return []


def worker_memory_bytes(workers: int) -> int:
    """A worker's share of this node's memory, when the job does not say; `workers` of the whole job."""
    memory = psutil.virtual_memory().total
    match _of_container("memory.max"):
        case [limit] if limit.isdigit():
            memory = min(memory, int(limit))
    return int(memory * WORKERS_SHARE / min(workers, available_cores()))
