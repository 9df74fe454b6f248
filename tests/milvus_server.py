"""A real Milvus server for tests and benchmarks, in a process of its own: what the `milvus` wheel carries (2.3.5).

All tests of a package whose conftest imports the fixture share one server, so let each give its collections names of
its own; it ends with the package, and takes nothing from the tests that come after.
"""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from filelock import FileLock
from platformdirs import user_cache_path

#: Seconds that the server has to answer, on a machine that is busy with other tests.
START_S = 120.0
#: Seconds that it has to stop by itself, before it is killed. While it built an index, 30 were seen not to be enough.
STOP_S = 1.0

#: Becomes the server. Linux kills it when the process that started it dies, however that is.
_WITH_PARENT = """
import ctypes, os, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
os.execv(sys.argv[1], sys.argv[1:])
"""


@contextmanager
def milvus_server(folder: Path, settings: Mapping[str, object] | None = None) -> Iterator[str]:
    """Run a server that keeps data and logs in the folder, on free ports, and stop it; its URI.

    `settings` are of its milvus.yaml, as in {"dataCoord.segment.maxSize": 1024}.
    Raises RuntimeError, with the end of its log, when it does not start.
    """
    with serve(folder, settings) as (uri, _):
        yield uri


@contextmanager
def serve(folder: Path, settings: Mapping[str, object] | None = None) -> Iterator[tuple[str, int]]:
    """The same, and the server's process id."""
    program = _unpacked() / "milvus"
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    port, health_port = _configure(folder, settings or {})
    environment = os.environ | {
        "DEPLOY_MODE": "STANDALONE",
        "METRICS_PORT": str(health_port),
        "MILVUS_RUN_DIR": str(folder / "run"),
        "LD_LIBRARY_PATH": os.pathsep.join([str(program.parent), os.environ.get("LD_LIBRARY_PATH", "")]),
        "DYLD_LIBRARY_PATH": os.pathsep.join([str(program.parent), os.environ.get("DYLD_LIBRARY_PATH", "")]),
    }
    log = folder / "logs" / "output.log"
    with log.open("wb") as output:
        # Not the wheel's MilvusServer: it changes this process's folder, and unpacks itself anew for each.
        server = subprocess.Popen(
            [sys.executable, "-c", _WITH_PARENT, str(program), "run", "standalone"],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        _wait(f"http://127.0.0.1:{health_port}/healthz", server, log)
        yield f"http://127.0.0.1:{port}", server.pid
    finally:
        _stop(server)


@pytest.fixture(scope="package")
def milvus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URI of a server that lives as long as the tests of the package."""
    with milvus_server(tmp_path_factory.mktemp("milvus")) as uri:
        yield uri


def _configure(folder: Path, settings: Mapping[str, object]) -> tuple[int, int]:
    """Write the server's configuration; its port, and that of its health."""
    from milvus import MilvusServerConfig  # a wheel for Linux and macOS only

    config = MilvusServerConfig(data_dir=str(folder))
    names = [name for name in config.configurable_items if name.endswith("_port")]
    ports = _free_ports(len(names) + 3)
    config.update(**dict(zip(names, ports[3:], strict=True)))
    config.resolve()
    # Etcd runs within the server, but listens too, and on its usual ports, unless a file says otherwise.
    etcd, client, peer = folder / "configs" / "etcd.yaml", *(f"http://127.0.0.1:{port}" for port in ports[1:3])
    etcd.write_text(
        f"name: default\ndata-dir: {folder / 'data' / 'etcd.data'}\n"
        f"listen-client-urls: {client}\nadvertise-client-urls: {client}\n"
        f"listen-peer-urls: {peer}\ninitial-advertise-peer-urls: {peer}\ninitial-cluster: default={peer}\n"
        f"log-level: warn\nlog-outputs: [{folder / 'logs' / 'etcd.log'}]\n"
    )
    for name, value in settings.items():
        config.set(name, config.get_value_text(value))
    config.write_config()
    written = folder / "configs" / "milvus.yaml"
    text = written.read_text()
    # Etcd's file has no line in the wheel's template that could be set.
    assert "etcd:\n" in text
    written.write_text(text.replace("etcd:\n", f"etcd:\n  config:\n    path: {etcd}\n", 1))
    return config.get("proxy_port"), ports[0]


def _free_ports(count: int) -> list[int]:
    """Ports that nobody listened on, all different."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]


def _unpacked() -> Path:
    """The folder with the program and its libraries, 200 MB: unpacked once on a machine, not for each server."""
    import milvus

    folder = user_cache_path("pinakes-tests") / f"milvus-{milvus.__version__}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):
        if not folder.exists():
            with tempfile.TemporaryDirectory(dir=folder.parent) as made:
                milvus._initialize_data_files(made)
                Path(made, "bin").rename(folder)
    return folder


def _wait(health: str, server: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise RuntimeError(f"Milvus stopped with status {server.returncode}:\n{_last_words(log)}")
        try:
            with urlopen(health, timeout=5) as answer:
                if b"OK" in answer.read():
                    return
        except (URLError, OSError):
            pass
        time.sleep(0.1)
    raise RuntimeError(f"Milvus did not answer within {START_S:.0f} s:\n{_last_words(log)}")


def _last_words(log: Path) -> str:
    """Why it gave up, without the long list of its threads that follows; else the end of the log."""
    text = log.read_text("utf-8", "replace")
    panic = text.find("panic: ")
    return text[-3000:] if panic < 0 else text[panic : panic + 1000]


def _stop(server: "subprocess.Popen[bytes]") -> None:
    server.send_signal(signal.SIGINT)
    try:
        server.wait(STOP_S)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()
