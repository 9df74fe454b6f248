"""What a plan says is to be done, and that it touches nothing."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from pinakes.catalog import Catalog, commits
from pinakes.jobs import plan
from pinakes.operators.labels import Labels, LabelsConfig
from pinakes.operators.media import Media
from pinakes.operators.operator import Operator
from tests.benchmarks.planning import OPERATORS, make, measure
from tests.jobs.small_run import loaded, small_jpeg, small_run

STATES = ("new", "changed", "again", "failed", "done", "gone", "due")


class LaterMedia(Media):
    """As `media`, of a later version."""

    version = 2


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Four pictures in two folders."""
    folder = tmp_path / "archive"
    (folder / "b").mkdir(parents=True)
    for number, name in enumerate(("0.jpg", "1.jpg", "b/2.jpg", "b/3.jpg")):
        (folder / name).write_bytes(small_jpeg(number))
    return folder


@pytest.fixture
def url(tmp_path: Path) -> Path:
    return tmp_path / "catalog"


def states(found: Any) -> dict[str, int]:
    """What is not 0."""
    return {name: getattr(found, name) for name in STATES if getattr(found, name)}


def planned(source: Path, url: Path, operators: Any = ("media",)) -> dict[str, int]:
    found = plan(source, url, operators)
    assert found.items == found.new + found.changed + found.again + found.failed + found.done
    return states(found)


def test_new_then_done_then_changed_then_gone(archive: Path, url: Path) -> None:
    assert planned(archive, url) == {"new": 4, "due": 4}
    assert not url.exists()
    small_run(archive, url)
    assert planned(archive, url) == {"done": 4}
    assert planned(archive, url, ["media", "labels"]) == {"again": 4, "due": 4}

    (archive / "1.jpg").write_bytes(small_jpeg(10) + b"more")
    (archive / "4.jpg").write_bytes(small_jpeg(4))
    (archive / "b" / "3.jpg").unlink()
    assert planned(archive, url) == {"new": 1, "changed": 1, "done": 2, "gone": 1, "due": 2}
    # A moved file is a new one, and one that is gone.
    (archive / "0.jpg").rename(archive / "5.jpg")
    assert planned(archive, url) == {"new": 2, "changed": 1, "done": 1, "gone": 2, "due": 3}


def test_touching_a_file_is_a_change(archive: Path, url: Path) -> None:
    small_run(archive, url)
    os.utime(archive / "0.jpg", ns=(1, 1))
    assert planned(archive, url) == {"changed": 1, "done": 3, "due": 1}


def test_another_setting_and_another_version_look_again(archive: Path, url: Path) -> None:
    small_run(archive, url, loaded("media", "labels"))
    assert planned(archive, url, ["labels"]) == {"done": 4}
    found = plan(archive, url, {"labels": {"max_labels": 3}})
    assert states(found) == {"again": 4, "due": 4}
    assert found.looks == {"labels": 4}

    settings = Labels(LabelsConfig(max_labels=3))
    settings.load()
    later: Mapping[str, Operator] = {"media": LaterMedia(), "labels": settings}
    summary = small_run(archive, url, later)
    assert states(summary) == {"again": 4, "due": 4}
    assert summary.looks == {"media": 4, "labels": 4}
    assert states(small_run(archive, url, later)) == {"done": 4}
    # What was done with the earlier ones stays done.
    assert planned(archive, url, ["labels"]) == {"done": 4}


def test_failed_stays_failed_until_it_is_asked_for(archive: Path, url: Path) -> None:
    (archive / "broken.jpg").write_bytes(small_jpeg()[:-200])
    (archive / "notes").write_text("neither its name nor its content claims to be a picture")
    small_run(archive, url)
    # Skipped counts as done: there is nothing that another look would find.
    assert planned(archive, url) == {"failed": 1, "done": 5}

    (archive / "new.jpg").write_bytes(small_jpeg(9))
    summary = small_run(archive, url, failed_only=True)
    assert states(summary) == {"new": 1, "failed": 1, "done": 5, "due": 1}
    attempts = "SELECT attempt, count(*) AS looks FROM ledger GROUP BY 1 ORDER BY 1"
    assert Catalog(str(url)).sql(attempts).to_pylist() == [{"attempt": 1, "looks": 6}, {"attempt": 2, "looks": 1}]
    assert planned(archive, url) == {"new": 1, "failed": 1, "done": 5, "due": 1}


@pytest.fixture
def web(tmp_path: Path) -> Iterator[tuple[int, ThreadingHTTPServer]]:
    """A bound port that serves nothing until its `serve_forever` is called: connections wait."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path)), bind_and_activate=False)
    server.server_bind()
    yield server.server_address[1], server
    server.server_close()


def test_what_did_not_answer_is_tried_again_unasked(
    tmp_path: Path, url: Path, web: tuple[int, ThreadingHTTPServer]
) -> None:
    port, server = web
    (tmp_path / "photo.jpg").write_bytes(small_jpeg())
    manifest = tmp_path / "list.jsonl"
    line = {"source-ref": f"http://127.0.0.1:{port}/photo.jpg", "version": "1"}
    manifest.write_text(json.dumps(line) + "\n")

    small_run(manifest, url)  # the port is bound, and refuses
    failed = Catalog(str(url)).sql("SELECT error_code FROM latest_ledger").to_pylist()
    assert failed == [{"error_code": "unreachable"}]
    assert planned(manifest, url) == {"failed": 1, "due": 1}

    server.server_activate()
    serving = Thread(target=server.serve_forever)
    serving.start()
    try:
        assert states(small_run(manifest, url)) == {"failed": 1, "due": 1}
    finally:
        server.shutdown()
        serving.join()
    assert planned(manifest, url) == {"done": 1}
    assert Catalog(str(url)).sql("FROM latest_media").num_rows == 1


def test_a_place_named_twice_is_one_item(archive: Path, tmp_path: Path, url: Path) -> None:
    manifest = tmp_path / "list.csv"
    places = [archive / "0.jpg", archive / "b" / ".." / "0.jpg", f"file://{archive}/0.jpg", archive / "1.jpg"]
    manifest.write_text("path\n" + "".join(f"{place}\n" for place in places))
    assert planned(manifest, url) == {"new": 2, "due": 2}
    small_run(manifest, url)
    assert Catalog(str(url)).sql("FROM latest_media").num_rows == 2
    # The same items by another way are the same items.
    assert planned(archive, url) == {"new": 2, "done": 2, "due": 2}


def test_a_source_inside_another(archive: Path, url: Path) -> None:
    small_run(archive / "b", url)
    assert planned(archive, url) == {"new": 2, "done": 2, "due": 2}
    small_run(archive, url)
    assert planned(archive / "b", url) == {"done": 2}
    # Gone is what a run over the same source looked at: the other folder's items are not gone from this one.
    (archive / "b" / "2.jpg").unlink()
    assert planned(archive / "b", url) == {"done": 1, "gone": 1}
    (archive / "0.jpg").unlink()
    assert planned(archive, url) == {"done": 2, "gone": 1}


def fingerprint(folder: Path) -> dict[str, tuple[str, int]]:
    """Every path below, with the hash of its bytes and its time of change."""
    return {
        str(path): (hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "", path.stat().st_mtime_ns)
        for path in [folder, *sorted(folder.rglob("*"))]
    }


def test_plan_status_and_sql_touch_nothing(archive: Path, url: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_run(archive, url)
    (archive / "5.jpg").write_bytes(small_jpeg(5))
    with monkeypatch.context() as patched:
        # A driver that was killed between its row of the commit log and the tables.
        patched.setattr(commits, "apply_open_commits", lambda *arguments: 1)
        small_run(archive, url)
    before = fingerprint(archive.parent)
    # The plan counts what is in the log and in no table yet.
    assert planned(archive, url) == {"done": 5}
    for words in (
        ("plan", str(archive), "--operators", "media,labels", "--no-sample"),
        ("status",),
        ("sql", "SELECT count(*) AS looks FROM ledger"),
    ):
        done = subprocess.run(
            [Path(sys.executable).with_name("pinakes"), *words, "--catalog", url, "--json"],
            cwd=archive,
            capture_output=True,
            check=True,
        )
        answer = json.loads(done.stdout)
        if words[0] == "sql":
            assert answer == {"looks": 4}
    assert fingerprint(archive.parent) == before
    small_run(archive, url)
    assert Catalog(str(url)).sql("FROM ledger").num_rows == 5


def test_fifty_thousand_items_within_bounds(tmp_path: Path) -> None:
    manifest, catalog = make(tmp_path, 50_000)
    words = (str(manifest), "--catalog", str(catalog), "--operators", ",".join(OPERATORS), "--json")
    found = measure("plan", *words)
    summary = json.loads(found.output)
    assert found.code == 0
    assert (summary["items"], summary["done"], summary["failed"], summary["due"]) == (50_000, 49_950, 50, 0)
    assert found.peak_bytes < 800 * 2**20
    found = measure("status", "--catalog", str(catalog), "--json")
    failures = json.loads(found.output)["failures"]
    assert {(row["operator"], row["error_code"], row["items"]) for row in failures} == {
        (name, "truncated", 50) for name in OPERATORS
    }
    assert found.peak_bytes < 800 * 2**20


def test_an_older_version_that_comes_back_is_current_again(archive: Path, url: Path) -> None:
    first = archive / "0.jpg"
    before, times = first.read_bytes(), first.stat()
    small_run(archive, url)
    first.write_bytes(small_jpeg(20) + b"newer")
    small_run(archive, url)
    first.write_bytes(before)
    os.utime(first, ns=(times.st_atime_ns, times.st_mtime_ns))

    assert planned(archive, url) == {"changed": 1, "done": 3, "due": 1}
    small_run(archive, url)
    assert planned(archive, url) == {"done": 4}
    sizes = Catalog(str(url)).sql("SELECT size FROM latest_media WHERE uri LIKE '%/0.jpg'").to_pylist()
    assert sizes == [{"size": len(before)}]
