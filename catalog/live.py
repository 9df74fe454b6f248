"""Who is at work in a catalogue, so that a run and a forgetting keep out of each other's way.

Each has a file below `_pinakes/live` for as long as it works. It writes its own first, then looks for the other's, and
gives way: of two that start at once no more than one goes on, on any storage where a file that was written is seen. For
what is soon over a forgetting waits. A killed process leaves its file behind; it counts no more when that process is
not running any more, or, for one on another machine, when it was not refreshed for LAPSES_S. What a process writes that
was only asleep for so long cannot bring a face back either: see forgetting.py.
"""

import getpass
import json
import os
import platform
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

import psutil

from pinakes.catalog.errors import BusyCatalogError, CatalogError
from pinakes.catalog.storage import Storage

FOLDER = "_pinakes/live"
REFRESHED_S = 30
LAPSES_S = 180
#: What is worth waiting for, by the first word of its name.
SHORT = {
    "search": "a search",
    "name": "a command that gives or takes names",
    "people": "a command that groups faces into people",
    "load": "a command that loads a collection",
}
OPTIMIZES = "optimize"
WAITS_S = 10
#: Between two readings of when a process started; clocks are put right meanwhile.
SAME_START_S = 10
_thread = threading.local()


@dataclass(frozen=True)
class Live:
    """A process at work in a catalogue."""

    name: str  # of the run, or of the receipt
    forgets: bool  # or removes old files for another reason: nobody may begin meanwhile
    host: str
    machine: str  # as host, and where process ids mean the same
    pid: int
    started: float  # the process, in seconds since 1970
    refreshed_at: str  # ISO 8601, UTC

    @property
    def what(self) -> str:
        """What it does, in words."""
        if self.optimizes:
            return "a command that optimizes"
        kind = self.name.split("-")[0]
        return SHORT.get(kind) or ("another forgetting" if self.forgets else f"run {self.name}")

    @property
    def optimizes(self) -> bool:
        """Whether it drops rows and puts parts together: see optimizing.py."""
        return self.name.split("-")[0] == OPTIMIZES

    @property
    def is_short(self) -> bool:
        """Whether it is likely to be over in seconds."""
        return self.name.split("-")[0] in SHORT


@contextmanager
def live(storage: Storage, run_id: str) -> Iterator[None]:
    """For a run, or for any other command that writes to a catalogue, as long as it does. `run_id` names it.

    Raises BusyCatalogError while something is being forgotten, StorageError.
    """
    with _marked(storage, run_id, forgets=False):
        for other in at_work(storage):
            if other.forgets:
                what = "rows or files are being removed" if other.optimizes else "faces or names are being forgotten"
                raise BusyCatalogError(
                    f"{storage.url}: {what} from this catalogue (on {other.host}, process {other.pid}): "
                    "run again in a minute. Nothing was touched"
                )
        yield


@contextmanager
def forgetting(storage: Storage, receipt_id: str) -> Iterator[None]:
    """For a forgetting. Raises BusyCatalogError while a run is at work, or another forgetting; StorageError.

    For a search, and other commands that are soon over, it waits WAITS_S; nothing else begins meanwhile.
    """
    end = time.monotonic() + WAITS_S
    with _marked(storage, receipt_id, forgets=True):
        while others := [one for one in at_work(storage) if one.name != receipt_id]:
            other = min(others, key=lambda one: one.is_short)
            if other.is_short and time.monotonic() < end:
                time.sleep(0.2)
                continue
            raise BusyCatalogError(
                f"{storage.url}: {other.what} is at work in this catalogue (on {other.host}, process {other.pid}): "
                "wait until it has ended, or interrupt it, and forget again. If that machine is gone, it no longer "
                f"counts {LAPSES_S // 60} minutes after its last sign of life. Nothing was touched"
            )
        yield


@contextmanager
def alone(storage: Storage, name: str) -> Iterator[bool]:
    """Gives whether nobody is at work but who asks, nor can begin before the `with` ends. Raises StorageError.

    Other threads of this process are others too: they may be about to add files.
    """
    with _marked(storage, name, forgets=True):
        yield _entries(storage).keys() <= _mine()


def at_work(storage: Storage) -> list[Live]:
    """Every process at work in the catalogue, by name; the files of those that are not any more are removed."""
    return sorted(_entries(storage).values(), key=lambda one: one.name)


def _entries(storage: Storage) -> dict[str, Live]:
    """The same by the names of their files."""
    found = {}
    for entry in storage.entries(FOLDER):
        if not entry.endswith(".json"):
            continue
        try:
            one = Live(**json.loads(storage.read(f"{FOLDER}/{entry}")))
            lives = _lives(one)
        except FileNotFoundError:
            continue  # it ended just now
        except (ValueError, TypeError):
            lives = False  # not of this Pinakes
        if lives:
            found[entry] = one
        else:
            storage.remove(f"{FOLDER}/{entry}")
    return found


def _mine() -> set[str]:
    """The names of the files that this thread has written and not removed."""
    if not hasattr(_thread, "entries"):
        _thread.entries = set()
    entries: set[str] = _thread.entries
    return entries


def _lives(one: Live) -> bool:
    silent_s = (datetime.now(UTC) - datetime.fromisoformat(one.refreshed_at)).total_seconds()
    if one.machine != _machine():
        return silent_s < LAPSES_S
    try:
        started = psutil.Process(one.pid).create_time()
    except psutil.NoSuchProcess:
        return False
    except psutil.Error:
        return True
    return abs(started - one.started) < SAME_START_S


def user_at_host() -> str:
    """Who asks, for receipts and the record of searches."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError, ImportError):  # a container without names of users
        user = str(os.getuid()) if hasattr(os, "getuid") else "unknown"
    return f"{user}@{platform.node()}"


def _machine() -> str:
    """The host, and on Linux the namespace of process ids: two containers may share the name of a host."""
    space = ""
    with suppress(OSError):
        space = os.readlink("/proc/self/ns/pid")
    return f"{platform.node()} {space}".strip()


@contextmanager
def _marked(storage: Storage, name: str, *, forgets: bool) -> Iterator[None]:
    """The file is there, and is refreshed, until the `with` ends."""
    entry = f"{uuid.uuid4().hex}.json"  # two may have the same name
    path = f"{FOLDER}/{entry}"
    started = psutil.Process().create_time()

    def write() -> None:
        now = datetime.now(UTC).isoformat()
        one = Live(name, forgets, platform.node(), _machine(), os.getpid(), started, now)
        storage.write(path, json.dumps(asdict(one)).encode())

    def refresh() -> None:
        while not ended.wait(REFRESHED_S):
            with suppress(CatalogError):  # the run itself will say that the place does not answer
                write()

    ended = threading.Event()
    thread = threading.Thread(target=refresh, name="pinakes-live", daemon=True)
    write()
    _mine().add(entry)
    thread.start()
    try:
        yield
    finally:
        _mine().discard(entry)
        ended.set()
        thread.join()
        storage.remove(path)
