"""Folders of the driver's on a cluster's other node: whole, once, and not at all after a kill."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pinakes.cluster import files
from pinakes.cluster.errors import ClusterError
from pinakes.cluster.files import Shared, receive, share
from tests.cluster.nodes import NEVER_S, OBJECT_STORE_BYTES, cluster

PIECE_BYTES = 1000
WEIGHTS = os.urandom(2 * PIECE_BYTES + 500)
NAME = "hub/abc123"
FILES = {"weights.bin": WEIGHTS, "config/model.json": b"{}", "config/piece": b"x" * PIECE_BYTES, "empty": b""}


class _Receiver:
    """On one node, with a root of its own; as an operator is, it is given what is shared when it is made."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared

    def pid(self) -> int:
        return os.getpid()

    def receive(self, root: Path) -> int:
        """Returns which file it is."""
        receive(self._shared, root)
        return (root / NAME / "weights.bin").stat().st_ino


@pytest.fixture(scope="module")
def nodes() -> Iterator[tuple[str, str]]:
    """The driver's node and another, by their ids in Ray."""
    with cluster() as made:
        other = made.add_node(num_cpus=1, object_store_memory=OBJECT_STORE_BYTES)
        made.wait_for_nodes()
        ray.init(address=made.address, log_to_driver=False)
        yield ray.get_runtime_context().get_node_id(), other.node_id
        ray.shutdown()


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "PIECE_BYTES", PIECE_BYTES)


@pytest.fixture
def given(tmp_path: Path) -> dict[str, dict[str, Path]]:
    """What the driver shares: all of FILES, and not what lies beside them."""
    folder = tmp_path / "driver" / NAME
    for name, content in {**FILES, "notes.txt": b"for the driver alone"}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return {NAME: {name: folder / name for name in FILES}}


def _receiver(node: str, shared: Shared) -> Any:
    strategy = NodeAffinitySchedulingStrategy(node_id=node, soft=False)
    return ray.remote(_Receiver).options(num_cpus=0, scheduling_strategy=strategy).remote(shared)


def _content(folder: Path) -> dict[str, bytes]:
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def _beside(folder: Path) -> set[str]:
    return {path.name for path in folder.parent.iterdir()} - {f"{folder.name}.lock"}


def _wait(condition: Callable[[], Any]) -> None:
    until = time.monotonic() + NEVER_S
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_every_node_has_the_files_once(
    nodes: tuple[str, str], given: dict[str, dict[str, Path]], tmp_path: Path
) -> None:
    shared = share(given)
    assert {name: len(pieces) for name, pieces in shared[NAME].items()} == {
        "weights.bin": 3,
        "config/model.json": 1,
        "config/piece": 1,
        "empty": 0,
    }
    before = (tmp_path / "driver" / NAME / "weights.bin").stat().st_ino
    here = _receiver(nodes[0], shared)
    there = [_receiver(nodes[1], shared) for _ in range(3)]

    found = ray.get([one.receive.remote(tmp_path / "other") for one in there], timeout=NEVER_S)

    assert len(set(found)) == 1, "one fetched, the others found it there"
    assert _content(tmp_path / "other" / NAME) == FILES
    assert _beside(tmp_path / "other" / NAME) == {"abc123"}
    # The driver's own folder is left alone.
    assert ray.get(here.receive.remote(tmp_path / "driver"), timeout=NEVER_S) == before
    assert _beside(tmp_path / "driver" / NAME) == {"abc123"}


def test_killed_half_way_another_begins_anew(nodes: tuple[str, str], tmp_path: Path) -> None:
    @ray.remote(num_cpus=0)
    def second_half(gate: Path) -> bytes:
        _wait(gate.exists)
        return WEIGHTS[PIECE_BYTES:]

    pieces = [ray.put(WEIGHTS[:PIECE_BYTES]), second_half.remote(tmp_path / "gate")]
    shared = {NAME: {"config/model.json": [ray.put(b"{}")], "weights.bin": pieces}}
    killed, waiting = (_receiver(nodes[1], shared) for _ in range(2))
    pid = ray.get(killed.pid.remote(), timeout=NEVER_S)
    folder = tmp_path / "root" / NAME

    lost = killed.receive.remote(tmp_path / "root")
    _wait((folder.parent / "abc123.unfinished" / "weights.bin").exists)
    found = waiting.receive.remote(tmp_path / "root")
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(ray.exceptions.RayActorError):
        ray.get(lost, timeout=NEVER_S)
    assert not folder.exists()

    (tmp_path / "gate").touch()
    ray.get(found, timeout=NEVER_S)
    assert _content(folder) == {"config/model.json": b"{}", "weights.bin": WEIGHTS}
    assert _beside(folder) == {"abc123"}


@pytest.mark.usefixtures("nodes")
def test_a_folder_that_lacks_files_gets_those(given: dict[str, dict[str, Path]], tmp_path: Path) -> None:
    folder = tmp_path / "root" / NAME
    folder.mkdir(parents=True)
    (folder / "weights.bin").write_bytes(b"as it was")

    receive(share(given), tmp_path / "root")

    assert _content(folder) == {**FILES, "weights.bin": b"as it was"}
    assert _beside(folder) == {"abc123"}


def test_a_cluster_of_one_node_is_sent_nothing(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, dict[str, Path]], tmp_path: Path
) -> None:
    monkeypatch.setattr(ray, "nodes", lambda: [{"Alive": True}, {"Alive": False}])
    shared = share(given)
    assert shared == {}
    receive(shared, tmp_path / "root")
    assert not (tmp_path / "root").exists()


@pytest.mark.usefixtures("nodes")
@pytest.mark.parametrize("name", ["../up", "a/../../up", "/etc/up", "", ".", ".."])
def test_names_that_lead_elsewhere(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    pieces = [ray.put(b"x")]
    for folder, file in ((name, "file"), ("folder", name)):
        with pytest.raises(ClusterError, match="is no name of a file within a folder"):
            share({folder: {file: tmp_path / "file"}})
        with pytest.raises(ClusterError, match="is no name of a file within a folder"):
            receive({folder: {file: pieces}}, tmp_path / "root")
    assert not (tmp_path / "up").exists()


@pytest.mark.usefixtures("nodes")
def test_files_that_cannot_be_read_or_written_are_told_of_in_one_line(
    given: dict[str, dict[str, Path]], tmp_path: Path
) -> None:
    with pytest.raises(ClusterError, match=r"^\S+/gone cannot be sent to the cluster's other nodes: .*No such file"):
        share({NAME: {"gone": tmp_path / "gone"}})
    (tmp_path / "root").touch()
    with pytest.raises(ClusterError, match=r"^\S+/abc123 cannot be had from the driver: .*(Not a directory|exists)"):
        receive(share(given), tmp_path / "root")
