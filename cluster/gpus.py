"""Which GPUs there are: on this machine, or on the Ray cluster that RAY_ADDRESS names."""

import os
from dataclasses import dataclass
from typing import Literal

from pinakes.cluster.connection import connected
from pinakes.cluster.errors import ClusterError
from pinakes.cluster.placement import FREE_S


@dataclass(frozen=True)
class Gpus:
    """How many there are, and the memory of the smallest in bytes."""

    count: int
    memory_bytes: int


def choose(asked: Literal["auto", "cpu", "cuda"]) -> Literal["cpu", "cuda"]:
    """What to run on: what was asked for, or `cuda` where there is a GPU.

    Raises ClusterError when `cuda` was asked for and there is none.
    """
    if asked == "cpu":
        return "cpu"
    lack = _lack()
    if asked == "cuda" and lack:
        raise ClusterError(f"device cuda: {lack}; give --device cpu, or auto")
    return "cpu" if lack else "cuda"


def _lack() -> str:
    """Why there is no GPU to run on; nothing where there is one."""
    if os.environ.get("RAY_ADDRESS"):
        import ray

        with connected():
            return "" if ray.cluster_resources().get("GPU", 0) >= 1 else "no node of the Ray cluster has a GPU"
    try:
        import torch
    except ImportError:
        return "torch is not installed (pip install 'pinakes[torch]')"
    if torch.cuda.is_available():
        return ""
    return "this machine has no GPU" if torch.version.cuda else "this machine's torch is a build without CUDA"


def found() -> Gpus:
    """Those of the cluster that is connected. Raises ClusterError when torch cannot use one that Ray counts."""
    import ray
    from ray.exceptions import GetTimeoutError, RayError
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("GPU", 0) >= 1]
    asked = [
        ray.remote(_memory)
        .options(
            num_cpus=0,
            num_gpus=1,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node_id=node["NodeID"], soft=False),
        )
        .remote()
        for node in nodes
    ]
    try:
        memory: list[int] = ray.get(asked, timeout=FREE_S)
    except GetTimeoutError:
        for one in asked:
            ray.cancel(one, force=True)
        raise ClusterError(
            f"the cluster's GPUs were not free for {FREE_S} s: wait for the end of the job that has them"
        ) from None
    except RayError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise ClusterError(f"a GPU that Ray counts cannot be used by its node's torch: {lines[-1][:300]}") from error
    return Gpus(sum(int(node["Resources"]["GPU"]) for node in nodes), min(memory, default=0))


def name() -> str | None:
    """The name of this process's GPU, as its maker spells it; None where torch cannot tell."""
    import torch

    return str(torch.cuda.get_device_name(0)) if torch.cuda.is_available() else None


def _memory() -> int:
    import torch

    return int(torch.cuda.get_device_properties(0).total_memory)
