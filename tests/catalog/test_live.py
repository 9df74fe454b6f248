"""A run and a forgetting keep out of each other's way, and a process that was killed keeps nobody out."""

import json
import os
import platform
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pinakes.catalog import Catalog, live
from pinakes.catalog.errors import BusyCatalogError
from pinakes.catalog.storage import Storage
from pinakes.jobs import run
from tests.jobs.photos import write_photos
from tests.s3 import Bucket

SLEEPER = """
import sys, time
from pinakes.catalog.live import live
from pinakes.catalog.storage import Storage
with live(Storage(sys.argv[1]), "run-of-another-process"):
    print("there", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Catalog(str(tmp_path / "catalog"), create=True).storage


def files(storage: Storage) -> list[str]:
    """Whose files are there, dead or alive."""
    return sorted(json.loads(storage.read(path)).get("name") for path in paths(storage))


def paths(storage: Storage) -> list[str]:
    return [f"{live.FOLDER}/{name}" for name in storage.entries(live.FOLDER)]


@contextmanager
def another(storage: Storage) -> Iterator["subprocess.Popen[str]"]:
    """A process that is at work in the catalogue."""
    command = [sys.executable, "-c", SLEEPER, storage.url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "there\n"
        yield process
        process.kill()


def test_a_run_is_seen_as_long_as_it_works(storage: Storage) -> None:
    assert live.at_work(storage) == []
    with live.live(storage, "two"), live.live(storage, "one"):
        with live.live(storage, "one"):
            assert [one.name for one in live.at_work(storage)] == ["one", "one", "two"]
        assert [one.name for one in live.at_work(storage)] == ["one", "two"]
        assert live.at_work(storage)[0].pid == os.getpid()
    with pytest.raises(ZeroDivisionError), live.live(storage, "three"):
        raise ZeroDivisionError
    assert live.at_work(storage) == []
    assert files(storage) == []


def test_forgetting_names_the_run_that_is_in_its_way_and_not_one_that_was_killed(storage: Storage) -> None:
    with another(storage) as process:
        with (
            pytest.raises(BusyCatalogError, match=f"run run-of-another-process .*{process.pid}.*wait until") as error,
            live.forgetting(storage, "receipt"),
        ):
            pass
        assert "\n" not in str(error.value)
        assert files(storage) == ["run-of-another-process"]
        process.kill()
        process.wait()
    assert files(storage) == ["run-of-another-process"]
    with live.forgetting(storage, "receipt"):
        assert files(storage) == ["receipt"]


@pytest.mark.parametrize("name", ["search-1", "load-1", "name-all", "people-all"])
def test_forgetting_waits_for_what_is_soon_over(storage: Storage, name: str) -> None:
    with ExitStack() as search:
        search.enter_context(live.live(storage, name))
        threading.Timer(0.5, search.close).start()
        began = time.monotonic()
        with live.forgetting(storage, "receipt"):
            assert 0.4 < time.monotonic() - began < 5
            assert files(storage) == ["receipt"]


def test_forgetting_waits_for_who_removes_old_files(storage: Storage) -> None:
    with ExitStack() as unnaming:
        unnaming.enter_context(live.alone(storage, "name-1"))
        threading.Timer(0.3, unnaming.close).start()
        with live.forgetting(storage, "receipt"):
            assert files(storage) == ["receipt"]


def test_it_says_truly_what_is_in_its_way(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    for waits_s, names, said in (
        (0.3, ["load-1"], "a command that loads a collection is at work"),
        (60, ["search-1", "20261124-1"], "run 20261124-1 is at work"),
    ):
        monkeypatch.setattr(live, "WAITS_S", waits_s)
        began = time.monotonic()
        with ExitStack() as others:
            for name in names:
                others.enter_context(live.live(storage, name))
            with pytest.raises(BusyCatalogError, match=said):
                live.forgetting(storage, "receipt").__enter__()
        assert time.monotonic() - began < 5
        assert files(storage) == []


def test_who_is_alone_knows_it(storage: Storage) -> None:
    def is_alone() -> bool:
        with live.alone(storage, "name-1") as answer:
            return answer

    with live.live(storage, "name-all"):
        assert is_alone()
        with ThreadPoolExecutor(1) as another_thread:
            assert not another_thread.submit(is_alone).result()
    with another(storage):
        assert not is_alone()
    assert is_alone()


def test_who_asks_has_a_number_where_there_are_no_names(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found: 4711")

    monkeypatch.setattr("getpass.getuser", nobody)
    assert live.user_at_host() == f"{os.getuid()}@{platform.node()}"


def test_a_run_does_not_start_while_something_is_forgotten(storage: Storage, tmp_path: Path) -> None:
    write_photos(tmp_path / "archive", 1)
    with live.forgetting(storage, "receipt"):
        with pytest.raises(BusyCatalogError, match=r"being forgotten from this catalogue.*again in a minute"):
            run(tmp_path / "archive", storage.url, ["media"])
        with pytest.raises(BusyCatalogError, match="another forgetting"), live.forgetting(storage, "other"):
            pass
        assert files(storage) == ["receipt"]
    assert Catalog(storage.url).sql("FROM runs").num_rows == 0


def alter(storage: Storage, **fields: object) -> None:
    (path,) = paths(storage)
    storage.write(path, json.dumps({**json.loads(storage.read(path)), **fields}).encode())


def test_of_another_machine_the_last_sign_of_life_counts(storage: Storage) -> None:
    with live.live(storage, "far"):
        for minutes, lives in ((2.5, True), (3.5, False)):
            silent_since = datetime.now(UTC) - timedelta(minutes=minutes)
            # A process id that nobody has here.
            alter(storage, machine="far away", pid=2**30, refreshed_at=silent_since.isoformat())
            assert bool(live.at_work(storage)) == lives
        assert files(storage) == []


def test_another_process_with_the_same_number_is_another(storage: Storage) -> None:
    with live.live(storage, "old"):
        old = (datetime.now(UTC) - timedelta(days=1)).isoformat()
        alter(storage, refreshed_at=old)
        assert len(live.at_work(storage)) == 1  # it was asleep, and lives
        alter(storage, started=time.time() - 86_400)
        assert live.at_work(storage) == []


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"{}", b'{"name": "x"}'])
def test_a_file_that_is_none_of_ours_keeps_nobody_out(storage: Storage, data: bytes) -> None:
    storage.write(f"{live.FOLDER}/strange.json", data)
    with live.forgetting(storage, "receipt"):
        assert files(storage) == ["receipt"]


def test_a_sign_of_life_is_given_again_and_again(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "REFRESHED_S", 0.02)
    with live.live(storage, "one"):
        first = live.at_work(storage)[0].refreshed_at
        # Also when somebody took it for dead.
        storage.remove(paths(storage)[0])
        until = time.monotonic() + 10
        while not live.at_work(storage) and time.monotonic() < until:
            time.sleep(0.02)
        assert live.at_work(storage)[0].refreshed_at > first
    assert files(storage) == []


def never_both(storage: Storage, rounds: int) -> int:
    """Start a run and a forgetting at once, again and again. Returns how often one of them went on."""
    inside: list[str] = []
    both = []
    went_on = []

    def enter(what: Callable[[Storage, str], AbstractContextManager[None]], name: str) -> None:
        barrier.wait()
        try:
            with what(storage, name):
                inside.append(name)
                both.append(len(set(inside)) > 1)
                went_on.append(name)
                time.sleep(0.002)
                inside.remove(name)
        except BusyCatalogError:
            pass

    for _ in range(rounds):
        barrier = threading.Barrier(2)
        two = [threading.Thread(target=enter, args=one) for one in ((live.live, "run"), (live.forgetting, "receipt"))]
        for one in two:
            one.start()
        for one in two:
            one.join()
    assert not any(both)
    assert files(storage) == []
    return len(went_on)


def test_of_two_that_start_at_once_never_both_go_on(storage: Storage) -> None:
    never_both(storage, 100)


def test_the_same_in_a_bucket(s3: Bucket) -> None:
    storage = Catalog(f"{s3.url}/catalog", create=True).storage
    never_both(storage, 10)
    with live.live(storage, "one"), pytest.raises(BusyCatalogError, match="run one"), live.forgetting(storage, "two"):
        pass
    assert live.at_work(storage) == []
