"""The command `pinakes run` as a process of its own session, on an archive of small photos, and what it must leave."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
import yaml

from pinakes.catalog import Catalog, commits

INJECTED = Path(__file__).parent / "injected"
PINAKES = Path(sys.executable).with_name("pinakes")
OPERATORS = ("halves", "media")
#: Of the operator `halves`, per picture.
HALVES = 2
#: Longer than anything takes on a busy machine; what is not over then never ends.
NEVER_S = 240


def add_photos(folder: Path, count: int, fault: str | None = None, square: bool = False) -> None:
    """Add that many JPEGs, no two alike, on which the injected decoder commits `fault`."""
    folder.mkdir(exist_ok=True)
    first = len(list(folder.iterdir()))
    for number in range(first, first + count):
        noise = np.random.default_rng(number).integers(0, 255, (6, 6 if square else 9, 3), np.uint8)
        pixels = cv2.resize(noise, None, fx=16, fy=16, interpolation=cv2.INTER_CUBIC)
        data = cv2.imencode(".jpg", pixels)[1].tobytes()
        if fault:
            comment = f"fault:{fault};".encode()
            data = data[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + data[2:]
        (folder / f"{number:04d}{f'-{fault}' if fault else ''}{'-square' if square else ''}.jpg").write_bytes(data)


class Job:
    """A job file in `folder` over the photos in `folder/archive`, and the catalogue `folder/catalog`."""

    def __init__(self, folder: Path, seconds: float = 0, **fields: Any) -> None:
        self.folder = folder
        self.archive = folder / "archive"
        self.url = str(folder / "catalog")
        self.file = folder / "job.yaml"
        operators = {"media": {}, "halves": {"seconds": seconds}}
        spec = {"source": "archive", "catalog": "catalog", "operators": operators, "commit_every_s": 0.1, **fields}
        self.file.write_text(yaml.safe_dump(spec))

    def start(self, *inside: str) -> "Run":
        """`inside` is a command that runs another one, in front of it."""
        return Run(self, inside)

    def commits(self) -> int:
        """How many there are; 0 also while the catalogue is being made."""
        try:
            return commits.applied(commits.open_table(Catalog(self.url).storage, "commits"))
        except Exception:
            return 0

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        return [tuple(row.values()) for row in Catalog(self.url).sql(query).to_pylist()]

    def check(self) -> None:
        """Everything once: each photo's looks in the ledger, their rows in the tables, and each commit everywhere."""
        photos = len(list(self.archive.iterdir()))
        for name in OPERATORS:
            looks = self.rows(
                "SELECT count(*), count(DISTINCT uri), count(DISTINCT (item_key, fingerprint, attempt)), max(attempt) "
                f"FROM ledger WHERE operator = '{name}'"
            )
            assert looks == [(photos, photos, photos, 1)], name
            wrong = self.rows(
                f"SELECT uri, ledger.status, ledger.results, count({name}.uri) FROM ledger LEFT JOIN {name} "
                f"USING (uri, item_key, fingerprint, attempt, run_id, n) WHERE operator = '{name}' GROUP BY ALL "
                f"HAVING count({name}.uri) <> results OR (status = 'ok') <> (results > 0)"
            )
            assert wrong == []
            stray = self.rows(
                f"SELECT uri FROM {name} ANTI JOIN (FROM ledger WHERE operator = '{name}') "
                "USING (uri, item_key, fingerprint, attempt, run_id, n)"
            )
            assert stray == []
            metered = f"SELECT sum(amount), sum(rounded_amount) FROM usage WHERE operator = '{name}'"
            (ok,) = self.rows(f"SELECT count(*) FROM ledger WHERE operator = '{name}' AND status = 'ok'")[0]
            assert self.rows(metered) == [(ok, ok)], "units are metered as often as they are committed"
        assert self.rows("SELECT uri, side FROM halves GROUP BY ALL HAVING count(*) > 1") == []

        storage = Catalog(self.url).storage
        named = {
            (action["table"], action["path"])
            for commit in commits.read_commits(storage, 0).to_pylist()
            for action in commit["actions"]
        }
        assert named == {
            (name, Path(path).name)
            for name in (*OPERATORS, "ledger", "usage")
            for path in commits.open_table(storage, name).file_uris()
        }
        numbers = [n for (n,) in self.rows("SELECT n FROM commits ORDER BY n")]
        assert numbers == list(range(1, len(numbers) + 1))

    def check_all_ok(self) -> None:
        self.check()
        assert self.rows("SELECT uri, operator, error_message FROM ledger WHERE status <> 'ok'") == []


class Run:
    """A running `pinakes run`, the leader of a session to which all that it starts belongs."""

    def __init__(self, job: Job, inside: Sequence[str] = ()) -> None:
        self.log = job.folder / "faults.log"
        self._out = job.folder / f"out-{time.monotonic_ns()}"
        path = os.pathsep.join(filter(None, [str(INJECTED), os.environ.get("PYTHONPATH")]))
        environment = {**os.environ, "PYTHONPATH": path, "FAULTS_LOG": str(self.log), "PINAKES_TRACEBACK": "1"}
        # Files and not pipes, which an orphan would keep open.
        with open(self._out, "wb") as out, open(f"{self._out}.err", "wb") as err:
            self.process = subprocess.Popen(
                [*inside, PINAKES, "run", str(job.file), "--json"],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
                # What a shell starts in the background ignores it, and so would a child of that.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )

    def ended(self) -> int:
        """The exit code, when it and all that it started are gone."""
        try:
            code = self.process.wait(NEVER_S)
            wait(lambda: not self.members(), "processes of a run are still there after its end")
        finally:
            self.kill()
        return code

    @property
    def summary(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self._out.read_text())
        return found

    @property
    def said(self) -> str:
        """What it wrote to standard error."""
        return Path(f"{self._out}.err").read_text()

    def members(self) -> list[psutil.Process]:
        """Its processes, itself among them."""
        return list(self._members())

    def _members(self) -> Iterator[psutil.Process]:
        for process in psutil.process_iter():
            try:
                if os.getsid(process.pid) == self.process.pid and process.status() != psutil.STATUS_ZOMBIE:
                    yield process
            except (psutil.Error, OSError):
                continue

    def lookers(self) -> list[psutil.Process]:
        """The looking processes. The parent of each is an actor."""
        found = []
        for process in self.members():
            try:
                if "pinakes.jobs.looker_process" in process.cmdline():
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def kill(self) -> None:
        """Leave nothing behind, whatever the test came to."""
        for process in self.members():
            try:
                process.kill()
            except psutil.Error:
                continue
        self.process.wait()


def wait(condition: Callable[[], Any], otherwise: str) -> None:
    """Wait until it holds."""
    until = time.monotonic() + NEVER_S
    while not condition():
        assert time.monotonic() < until, otherwise
        time.sleep(0.05)
