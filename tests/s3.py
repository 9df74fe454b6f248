"""A real S3 server for tests, in a process of its own, so that Ray workers reach it too.

All tests share the server; its buckets are each of one test. The fixtures are in tests/conftest.py.
"""

import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import boto3
import pytest
from s3fs import S3FileSystem


@dataclass(frozen=True)
class Bucket:
    """An empty bucket, made for one test, and the environment in which s3fs, delta-rs and DuckDB find it."""

    name: str
    endpoint: str
    client: Any  # boto3's

    @property
    def url(self) -> str:
        return f"s3://{self.name}"

    def put(self, key: str, body: bytes = b"") -> str:
        """Store an object; its URI."""
        self.client.put_object(Bucket=self.name, Key=key, Body=body)
        return f"{self.url}/{key}"


def environment(endpoint: str) -> dict[str, str]:
    """What a process needs in its environment to use the server."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ALLOW_HTTP": "true",
        # Without keys a test must fail at once, not ask a cloud that it does not run on.
        "AWS_EC2_METADATA_DISABLED": "true",
    }


@contextmanager
def serve() -> Iterator[str]:
    """Run a server on a free port, and stop it; its endpoint."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    endpoint = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait(endpoint, server)
        yield endpoint
    finally:
        server.terminate()
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _wait(endpoint: str, server: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise RuntimeError(f"the S3 server stopped with status {server.returncode}")
        try:
            with urlopen(f"{endpoint}/moto-api/data.json", timeout=5):
                return
        except (URLError, OSError):
            time.sleep(0.1)
    raise RuntimeError("the S3 server did not answer within a minute")


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """The endpoint of a server that lives as long as the tests."""
    with serve() as endpoint:
        yield endpoint


@pytest.fixture
def s3(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """A new bucket, with the environment set to reach it."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in environment(s3_server).items():
        monkeypatch.setenv(name, value)
    # fsspec hands out the same filesystem again, with the endpoint of another module's server.
    S3FileSystem.clear_instance_cache()
    bucket = Bucket(f"archive-{uuid.uuid4().hex[:12]}", s3_server, boto3.session.Session().client("s3"))
    bucket.client.create_bucket(Bucket=bucket.name)
    return bucket
