"""Which operators share a GPU, and that Ray puts every actor where it was meant to be."""

import random
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pytest
import ray

from pinakes.cluster import placement
from pinakes.cluster.errors import ClusterError
from pinakes.cluster.placement import CONTEXT_BYTES, PARTS, Placement, Pool, pins, place, reserved

GB = 10**9


def _need(gb: float) -> int:
    """What an operator takes beside the context, if its process takes so much."""
    return round(gb * GB) - CONTEXT_BYTES


def _parts_by_gpu(pools: tuple[Pool, ...]) -> dict[int, int]:
    found: dict[int, int] = defaultdict(int)
    for pool in pools:
        for gpu in pool.gpus:
            found[gpu] += round(pool.num_gpus * PARTS)
    return found


def test_together_is_an_actor_with_all_operators_on_each_gpu() -> None:
    together = (Pool(("labels", "faces"), 3, 1, (0, 1, 2)),)
    needs = {"labels": 2 * GB, "faces": 1 * GB}
    assert place(needs, 3, 8 * GB, "together") == together
    assert place(needs, 3, 8 * GB) == together


def test_the_context_of_a_process_counts_once() -> None:
    needs = {"labels": 4 * GB, "faces": 2 * GB}
    assert len(place(needs, 2, 6 * GB + CONTEXT_BYTES)) == 1
    # A process for each would take more than there is.
    assert len(place(needs, 2, 6 * GB + CONTEXT_BYTES - 1)) == 2
    with pytest.raises(ClusterError, match=r"^labels, faces: 6\.60 GB of GPU memory needed .* has 6\.59 GB: take "):
        place(needs, 2, 6 * GB + CONTEXT_BYTES - GB // 100, "together")


def test_fan_out_shares_every_gpu_by_need() -> None:
    pools = place({"labels": _need(4), "faces": _need(2), "text": _need(1)}, 2, 10 * GB, "fan-out")
    assert pools == (
        Pool(("labels",), 2, 0.5714, (0, 1)),
        Pool(("faces",), 2, 0.2857, (0, 1)),
        Pool(("text",), 2, 0.1428, (0, 1)),
    )


def test_fan_out_of_what_fits_exactly() -> None:
    pools = place({"labels": _need(4), "faces": _need(6)}, 1, 10 * GB, "fan-out")
    assert [pool.num_gpus for pool in pools] == [0.4, 0.6]
    assert place({"labels": _need(10)}, 2, 10 * GB, "fan-out") == (Pool(("labels",), 2, 1, (0, 1)),)


def test_an_operator_that_needs_next_to_nothing_still_asks_for_a_gpu() -> None:
    pools = place({"labels": 10**12, "colors": 0}, 1, 2 * 10**13, "fan-out")
    assert [pool.num_gpus for pool in pools] == [0.998, 0.0019]


def test_fan_out_over_more_than_a_gpu() -> None:
    needs = {"text": _need(3), "labels": _need(7), "faces": _need(6), "moderation": _need(2)}
    # The largest first: labels leaves room for text, and faces for moderation.
    assert place(needs, 5, 10 * GB) == (
        Pool(("text",), 3, 0.3, (0, 2, 4)),
        Pool(("labels",), 3, 0.7, (0, 2, 4)),
        Pool(("faces",), 2, 0.75, (1, 3)),
        Pool(("moderation",), 2, 0.25, (1, 3)),
    )


def test_auto_fans_out_what_does_not_fit_together() -> None:
    needs = {"labels": 7 * GB, "faces": 6 * GB}
    assert place(needs, 3, 10 * GB) == (Pool(("labels",), 2, 1, (0, 2)), Pool(("faces",), 1, 1, (1,)))


@pytest.mark.parametrize("how", ["auto", "together", "fan-out"])
def test_nothing_to_place(how: Placement) -> None:
    assert place({}, 0, 0, how) == place({}, 2, 8 * GB, how) == ()


@pytest.mark.parametrize("how", ["auto", "together", "fan-out"])
def test_no_gpu(how: Placement) -> None:
    with pytest.raises(ClusterError, match=r"^labels, faces: 3\.60 GB of GPU memory needed, .* has no GPU: add "):
        place({"labels": 2 * GB, "faces": 1 * GB}, 0, 0, how)


def test_an_operator_larger_than_a_gpu() -> None:
    with pytest.raises(ClusterError, match=r"^faces: 9\.00 GB of GPU memory needed, .* has 8\.00 GB: take a smaller "):
        place({"labels": 2 * GB, "faces": _need(9)}, 4, 8 * GB)


def test_fewer_gpus_than_needed() -> None:
    needs = {"labels": _need(7), "faces": _need(6), "text": _need(5)}
    said = r"^labels, faces, text: 18\.00 GB .* takes 3 GPUs of 10\.00 GB, and the cluster has 2: take precision bf16"
    with pytest.raises(ClusterError, match=said):
        place(needs, 2, 10 * GB)


def test_whatever_is_needed_a_gpu_never_gives_more_than_it_has() -> None:
    chance = random.Random(7)
    placed = 0
    for _ in range(3000):
        gpu_bytes = chance.randrange(4 * GB, 80 * GB)
        largest = int(gpu_bytes * chance.choice([0.1, 0.5, 1]))
        needs = {f"operator-{n}": chance.randrange(largest) for n in range(chance.randrange(1, 9))}
        gpus = chance.randrange(1, 9)
        try:
            pools = place(needs, gpus, gpu_bytes, chance.choice(["auto", "fan-out"]))
        except ClusterError:
            continue
        placed += 1
        assert [name for pool in pools for name in pool.operators] == list(needs)
        for pool in pools:
            its_bytes = sum(needs[name] for name in pool.operators) + CONTEXT_BYTES
            assert round(pool.num_gpus * PARTS) * gpu_bytes >= its_bytes * PARTS
            assert pool.num_gpus > 0
            assert pool.actors == len(pool.gpus) == len(set(pool.gpus))
        by_gpu = _parts_by_gpu(pools)
        assert set(by_gpu) == set(range(gpus)), "every GPU has work"
        assert all(parts <= PARTS for parts in by_gpu.values())
        assert sum(round(pool.num_gpus * PARTS) * pool.actors for pool in pools) <= gpus * PARTS
    assert placed > 1000


class _Actor:
    def gpus(self) -> list[int]:
        return list(map(int, ray.get_gpu_ids()))


@pytest.fixture(scope="module")
def three_gpus() -> Iterator[None]:
    """As Ray sees it: there need be none."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        ray.init(address="local", num_cpus=1, num_gpus=3, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.mark.usefixtures("three_gpus")
@pytest.mark.parametrize(
    "needs",
    [
        # Unpinned, faces and text take so much of two GPUs that neither has room for the third labels.
        {"labels": _need(5), "faces": _need(3), "text": _need(2)},
        # Two groups; unpinned, faces is alone on a GPU, where the second labels finds no room.
        {"labels": _need(7), "faces": _need(6), "moderation": _need(4), "text": _need(3)},
    ],
)
def test_ray_puts_every_actor_on_its_gpu_in_the_worst_order(needs: dict[str, int]) -> None:
    pools = place(needs, 3, 10 * GB, "fan-out")
    with reserved(3) as group:
        actors: dict[str, list[Any]] = {}
        for pool in sorted(pools, key=lambda pool: pool.num_gpus):
            options, pin = ray.remote(_Actor).options, pins(pool, group)
            of_pool = [options(num_cpus=0, num_gpus=pool.num_gpus, **pin()).remote() for _ in range(pool.actors)]
            actors[pool.operators[0]] = of_pool
        found = {name: ray.get([one.gpus.remote() for one in each], timeout=60) for name, each in actors.items()}

    hosted: dict[int, list[str]] = defaultdict(list)
    for name, each in found.items():
        for gpus in each:
            assert len(gpus) == 1
            hosted[gpus[0]].append(name)
    assert sorted(map(sorted, hosted.values())) == sorted(
        sorted(pool.operators[0] for pool in pools if gpu in pool.gpus) for gpu in range(3)
    )
    for names in hosted.values():
        assert sum(needs[name] + CONTEXT_BYTES for name in names) <= 10 * GB


@pytest.mark.usefixtures("three_gpus")
def test_gpus_that_another_job_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "FREE_S", 1)
    other: Any = ray.remote(_Actor).options(num_cpus=0, num_gpus=0.5).remote()
    ray.get(other.gpus.remote())
    said = r"^the cluster's GPUs, all 3 of which are needed, were not free for 1 s: wait"
    with pytest.raises(ClusterError, match=said), reserved(3):
        pass
    ray.kill(other)
    monkeypatch.undo()
    with reserved(3):
        pass


def test_a_pool_that_is_made_again_has_the_same_gpus() -> None:
    pin = pins(Pool(("labels",), 2, 1, (1, 2)), None)  # type: ignore[arg-type]
    assert [pin()["scheduling_strategy"].placement_group_bundle_index for _ in range(4)] == [1, 2, 1, 2]
