"""How operators are put on GPUs.

`place` computes it, without Ray. Ray knows nothing of GPU memory: it counts GPUs, in ten thousandths, and what an actor
asks for is laid out here so that it stands for memory: actors that Ray lets onto one GPU fit there together.

That alone does not get every actor onto a GPU: Ray takes actors in whatever order they come and fills one GPU before
the next, so of two operators at 0.6 and 0.4 of two GPUs it puts both actors of the second on one GPU, and then there is
no room for both of the first. So each actor is pinned to its GPU (`reserved`, `pins`).
"""

import itertools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from pinakes.cluster.errors import ClusterError

if TYPE_CHECKING:
    from ray.util.placement_group import PlacementGroup

Placement = Literal["auto", "together", "fan-out"]

#: What a process takes of a GPU's memory before its first tensor: the context of CUDA, and its libraries' kernels.
CONTEXT_BYTES = 600_000_000
#: Ray counts a GPU in so many parts.
PARTS = 10_000
#: For the cluster's GPUs to be free; an actor of a job that has just ended may still be there.
FREE_S = 60


@dataclass(frozen=True)
class Pool:
    """Actors that are alike."""

    operators: tuple[str, ...]
    actors: int
    #: Of each actor; in GPUs.
    num_gpus: float
    #: Which of the cluster's GPUs each actor is on, counted from 0.
    gpus: tuple[int, ...] = ()


def place(needs: Mapping[str, int], gpus: int, gpu_bytes: int, placement: Placement = "auto") -> tuple[Pool, ...]:
    """The pools that look at pictures, every operator in one of them; in the order of `needs`.

    `needs` says how many bytes of GPU memory each operator takes, without the context of its process; `gpus` how many
    GPUs the cluster has, and `gpu_bytes` the memory of the smallest. `together` is an actor with all operators on each
    GPU, `fan-out` a pool for each operator, `auto` the first if that fits. When actors of all operators do not fit
    one GPU, `fan-out` has some operators on some of the GPUs and the rest on the others.
    Raises ClusterError when it does not fit.
    """
    if not needs:
        return ()
    all_bytes = sum(needs.values()) + CONTEXT_BYTES
    if not gpus:
        raise ClusterError(
            f"{_names(needs)}: {_gb(all_bytes)} of GPU memory needed, and the cluster has no GPU: add a node with one"
        )
    if all_bytes <= gpu_bytes and placement != "fan-out":
        return (Pool(tuple(needs), gpus, 1, tuple(range(gpus))),)
    if placement == "together":
        raise ClusterError(
            f"{_names(needs)}: {_gb(all_bytes)} of GPU memory needed for all of them together, and the smallest GPU "
            f"has {_gb(gpu_bytes)}: take placement fan-out, precision bf16, a smaller model, fewer operators or a "
            f"larger GPU"
        )
    return _fan_out({name: need + CONTEXT_BYTES for name, need in needs.items()}, gpus, gpu_bytes)


def _fan_out(needs: Mapping[str, int], gpus: int, gpu_bytes: int) -> tuple[Pool, ...]:
    for name, need in needs.items():
        if need > gpu_bytes:
            raise ClusterError(
                f"{name}: {_gb(need)} of GPU memory needed, and the smallest GPU has {_gb(gpu_bytes)}: "
                f"take a smaller model, precision bf16 or a larger GPU"
            )
    # Rounded up: what Ray sees is never less than what is taken.
    parts = {name: -(-need * PARTS // gpu_bytes) for name, need in needs.items()}
    groups = _groups(parts)
    if len(groups) > gpus:
        raise ClusterError(
            f"{_names(needs)}: {_gb(sum(needs.values()))} of GPU memory needed, which takes {len(groups)} GPUs of "
            f"{_gb(gpu_bytes)}, and the cluster has {gpus}: take precision bf16, a smaller model, fewer operators, or "
            f"larger or more GPUs"
        )
    pools = {}
    for number, group in enumerate(groups):
        its_gpus = tuple(range(number, gpus, len(groups)))
        whole = sum(parts[name] for name in group)
        for name in group:
            # A whole GPU is shared out, by need and rounded down; that is still no less than the operator's own parts.
            num_gpus = PARTS * parts[name] // whole / PARTS
            pools[name] = Pool((name,), len(its_gpus), num_gpus, its_gpus)
    return tuple(pools[name] for name in needs)


def _groups(parts: Mapping[str, int]) -> list[list[str]]:
    """Operators that share a GPU: the largest first, each with the first of the others that leave it room.

    The group that needs most is the first: when GPUs are dealt out, what is left over goes to those in front.
    """
    groups: list[list[str]] = []
    for name in sorted(parts, key=parts.__getitem__, reverse=True):
        for group in groups:
            if sum(parts[other] for other in group) + parts[name] <= PARTS:
                group.append(name)
                break
        else:
            groups.append([name])
    return sorted(groups, key=lambda group: sum(parts[name] for name in group), reverse=True)


@contextmanager
def reserved(gpus: int) -> Iterator["PlacementGroup"]:
    """All of the cluster's `gpus` GPUs for the length of a `with`, at whose end actors on them are killed.

    Only pinned actors (`pins`) get a GPU in the meantime. Raises ClusterError when GPUs are not free within a minute.
    """
    from ray.util.placement_group import placement_group, remove_placement_group

    # A bundle is on one node, and one with a whole GPU is always the same GPU.
    group = placement_group([{"GPU": 1}] * gpus)
    try:
        if not group.wait(FREE_S):
            raise ClusterError(
                f"the cluster's GPUs, all {gpus} of which are needed, were not free for {FREE_S} s: "
                f"wait for the end of the job that has them"
            )
        yield group
    finally:
        remove_placement_group(group)


def pins(pool: Pool, group: "PlacementGroup") -> Callable[[], dict[str, Any]]:
    """Gives Ray's options for each of the pool's actors in turn, beside `num_cpus=0` and the pool's `num_gpus`.

    Ray Data takes it as `ray_remote_args_fn`, for a pool of fixed size.
    """
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    each = [{"scheduling_strategy": PlacementGroupSchedulingStrategy(group, gpu)} for gpu in pool.gpus]
    # In a cycle: an actor that Ray Data makes anew takes the place of one that is gone.
    return partial(next, itertools.cycle(each))


def _names(needs: Mapping[str, int]) -> str:
    return ", ".join(needs)


def _gb(size: int) -> str:
    return f"{size / 10**9:.2f} GB"
