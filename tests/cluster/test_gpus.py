"""Which GPUs there are, and what is said when there is none, or none free. Ray's GPUs are logical here."""

import subprocess
import sys

import pytest

from pinakes.cluster import gpus
from pinakes.cluster.errors import ClusterError
from tests.cluster.nodes import cluster

#: One GPU, that torch here cannot use; and then one that somebody has.
_SCRIPT = """
import ray
ray.init(num_cpus=2, num_gpus=1, include_dashboard=False, object_store_memory=80 * 2**20, log_to_driver=False)
from pinakes.cluster import gpus
from pinakes.cluster.errors import ClusterError

def said():
    try:
        return gpus.found()
    except ClusterError as error:
        return error

print("SAID", said())

@ray.remote(num_gpus=1)
class Other:
    def ready(self):
        return True

other = Other.remote()
ray.get(other.ready.remote())
gpus.FREE_S = 2
print("SAID", said())
"""


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)


def test_on_a_machine_without_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert gpus.choose("cpu") == gpus.choose("auto") == "cpu"
    with pytest.raises(ClusterError, match=r"device cuda: this machine.*give --device cpu"):
        gpus.choose("cuda")


@pytest.mark.timeout(120)
def test_on_a_cluster_it_is_the_clusters_that_count(monkeypatch: pytest.MonkeyPatch) -> None:
    for count, chosen in ((0, "cpu"), (1, "cuda")):
        with cluster(num_gpus=count) as made:
            monkeypatch.setenv("RAY_ADDRESS", made.address)
            assert gpus.choose("auto") == chosen
            if not count:
                with pytest.raises(ClusterError, match="no node of the Ray cluster has a GPU"):
                    gpus.choose("cuda")


@pytest.mark.timeout(120)
def test_one_that_cannot_be_used_and_one_that_is_not_free_are_told_apart() -> None:
    done = subprocess.run([sys.executable, "-c", _SCRIPT], capture_output=True, text=True, check=False)
    unusable, busy = [line for line in done.stdout.splitlines() if line.startswith("SAID")]
    assert "a GPU that Ray counts cannot be used by its node's torch" in unusable
    assert "not free for 2 s" in busy
