"""Fetching: the right bytes, or the right code; from files, the web and a bucket."""

import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from pinakes.jobs import fetch as module
from pinakes.jobs.fetch import TRIES, fetch
from pinakes.operators.errors import ErrorCode, MediaError
from tests.s3 import Bucket

MANY = 1_000_000


def code(uri: str, max_bytes: int = MANY) -> ErrorCode:
    with pytest.raises(MediaError) as error:
        fetch(uri, max_bytes)
    assert str(error.value)
    assert "\n" not in str(error.value)
    return error.value.code


@pytest.mark.parametrize("name", ["a.jpg", "two words.jpg", "é 猫.jpg", "50% #1 [a]?.jpg", "a%20b.jpg", "-rf", "~"])
def test_a_file_by_any_name(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"some bytes")
    assert fetch(f"file://{tmp_path}/{name}", MANY) == b"some bytes"


def test_files_that_are_none(tmp_path: Path) -> None:
    assert code(f"file://{tmp_path}/nowhere.jpg") is ErrorCode.NOT_FOUND
    assert code(f"file://{tmp_path}") is ErrorCode.NOT_MEDIA
    os.mkfifo(tmp_path / "pipe.jpg")  # to wait for its other end would be for ever
    assert code(f"file://{tmp_path}/pipe.jpg") is ErrorCode.NOT_MEDIA
    (tmp_path / "loop.jpg").symlink_to(tmp_path / "loop.jpg")
    assert code(f"file://{tmp_path}/loop.jpg") is ErrorCode.NOT_FOUND
    (tmp_path / "file").write_bytes(b"")
    assert code(f"file://{tmp_path}/file/photo.jpg") is ErrorCode.NOT_FOUND


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read anything")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    (tmp_path / "secret.jpg").chmod(0)
    assert code(f"file://{tmp_path}/secret.jpg") is ErrorCode.PERMISSION_DENIED


def test_the_limit_is_the_last_size_that_is_fetched(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(bytes(1000))
    assert len(fetch(f"file://{tmp_path}/a.jpg", 1000)) == 1000
    assert code(f"file://{tmp_path}/a.jpg", 999) is ErrorCode.TOO_LARGE
    # Without an end, and not a file: must not be read.
    assert code("file:///dev/zero", 10) is ErrorCode.NOT_MEDIA


class Web(BaseHTTPRequestHandler):
    """Answers with the status that the path names; `/503-until/3` from the third request on as it should."""

    asked: dict[str, int]

    def do_GET(self) -> None:
        self.asked[self.path] = self.asked.get(self.path, 0) + 1
        first, _, rest = self.path.strip("/").partition("/")
        status = int(first.removesuffix("-until"))
        if first.endswith("-until") and self.asked[self.path] >= int(rest):
            status = 200
        self.send_response(status)
        self.send_header("Content-Length", "10")
        self.end_headers()
        self.wfile.write(b"some bytes")

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def web() -> Iterator[tuple[str, dict[str, int]]]:
    """The server's URL, and how often each path was asked for."""
    asked: dict[str, int] = {}
    handler = type("Counting", (Web,), {"asked": asked})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
        server.shutdown()
        thread.join()


def test_what_a_web_server_says(web: tuple[str, dict[str, int]]) -> None:
    url, asked = web
    assert fetch(f"{url}/200", MANY) == b"some bytes"
    assert code(f"{url}/200", 9) is ErrorCode.TOO_LARGE
    # Of these a second try would hear the same.
    assert code(f"{url}/404") is code(f"{url}/410") is ErrorCode.NOT_FOUND
    assert code(f"{url}/401") is code(f"{url}/403") is code(f"{url}/451") is ErrorCode.PERMISSION_DENIED
    assert {asked[f"/{status}"] for status in (404, 410, 401, 403, 451)} == {1}
    # Of these it may not.
    assert fetch(f"{url}/503-until/3", MANY) == b"some bytes"
    assert fetch(f"{url}/429-until/2", MANY) == b"some bytes"
    assert code(f"{url}/500") is ErrorCode.UNREACHABLE
    assert asked["/500"] == TRIES


def test_a_server_that_is_not_there() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Web) as server:
        port = server.server_address[1]
    assert code(f"http://127.0.0.1:{port}/photo.jpg") is ErrorCode.UNREACHABLE


def test_a_bucket(s3: Bucket) -> None:
    module._filesystem.cache_clear()  # it keeps the credentials of another test's server
    uri = s3.put("photos/two words é.jpg", b"some bytes")
    assert fetch(uri, MANY) == fetch(uri, 10) == b"some bytes"
    assert code(uri, 9) is ErrorCode.TOO_LARGE
    assert code(f"{s3.url}/photos/nowhere.jpg") is ErrorCode.NOT_FOUND
    assert fetch(s3.put("empty.jpg"), MANY) == b""
