"""Whose Ray it is: one that was there before is joined and left running, another is started and stopped."""

import json
import os
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest
import ray

from pinakes.catalog import Catalog
from pinakes.cluster.connection import connected
from pinakes.cluster.errors import ClusterError
from tests.cluster.nodes import NEVER_S, PINAKES, cluster
from tests.jobs.photos import write_photos


def _run(folder: Path, *, address: str) -> "subprocess.CompletedProcess[str]":
    words = ["run", folder / "archive", "--catalog", folder / "catalog", "--operators", "media", "--json"]
    environment = {**os.environ, "RAY_ADDRESS": address}
    return subprocess.run([PINAKES, *map(str, words)], env=environment, capture_output=True, text=True, timeout=NEVER_S)


@pytest.fixture
def closed_port() -> int:
    """A port at which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def no_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


def _started(node: Any) -> set[int]:
    """What runs of a node: its raylet and the head's own."""
    return {one.process.pid for kind in node.all_processes.values() for one in kind if one.process.poll() is None}


def test_a_cluster_is_joined_and_left_running(tmp_path: Path) -> None:
    with cluster() as made:
        before = _started(made.head_node)
        for first in (0, 4):
            write_photos(tmp_path / "archive", 4, first)
            run = _run(tmp_path, address=made.address)
            assert run.returncode == 0, run.stderr
            assert json.loads(run.stdout)["items"] == 4
            assert _started(made.head_node) == before

    assert Catalog(str(tmp_path / "catalog")).sql("SELECT uri FROM media").num_rows == 8


@pytest.mark.usefixtures("no_address")
def test_a_ray_of_this_process_is_used_and_left_as_it_was() -> None:
    ray.init(address="local", num_cpus=3, include_dashboard=False, log_to_driver=False)
    try:
        node = ray.get_runtime_context().get_node_id()
        with connected() as workers:
            assert workers == 3
            assert ray.get_runtime_context().get_node_id() == node
        with connected(2) as workers:
            assert workers == 2
        with connected(9) as workers:
            assert workers == 3, "no more workers than there are cores: they would wait for ever"
        assert ray.get_runtime_context().get_node_id() == node
    finally:
        ray.shutdown()


@pytest.mark.usefixtures("no_address")
def test_a_ray_that_was_not_there_is_gone_after_use() -> None:
    with connected(2) as workers:
        assert (workers, ray.cluster_resources()["CPU"]) == (2, 2)
    assert not ray.is_initialized()


@pytest.mark.timeout(60)
def test_a_cluster_that_is_not_there_is_told_of_in_one_line(tmp_path: Path, closed_port: int) -> None:
    write_photos(tmp_path / "archive", 1)

    run = _run(tmp_path, address=f"127.0.0.1:{closed_port}")

    assert (run.returncode, run.stdout) == (1, "")
    *_, last = run.stderr.splitlines()
    assert last.startswith(f"pinakes: the Ray cluster at 127.0.0.1:{closed_port} cannot be reached"), run.stderr
    assert "Traceback" not in run.stderr
    # The archive is as new as before, and the run is known to have failed.
    catalog = Catalog(str(tmp_path / "catalog"))
    assert catalog.sql("SELECT * FROM ledger").num_rows == 0
    assert catalog.sql("SELECT status FROM runs ORDER BY recorded_at")["status"].to_pylist() == ["started", "failed"]


@pytest.mark.timeout(60)
@pytest.mark.parametrize("address", ["no-such-host.invalid:6379", "ray://no-such-host.invalid:10001", "an address"])
def test_an_address_that_leads_nowhere(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(ClusterError, match=f"^the Ray cluster at {address} cannot be reached"), connected():
        pass
    assert not ray.is_initialized()
