"""Remembers, outside every worker, what each worker has in hand, so that a worker's death can be understood.

A worker is a Ray actor; what kills it (the memory monitor, an administrator, a lost node) kills what it remembers too,
and Ray gives its work to another. That one asks here first: was this work begun before, by a worker that is gone? Then
it is taken up item by item, each noted before it is touched; an item that was in hand at two deaths is convicted, and
not touched again. The death of a whole node convicts nobody.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

#: Deaths of a worker with an item alone in hand after which the item is not touched again.
CONVICTING_DEATHS = 2


@dataclass
class Advice:
    """How to take up a piece of work."""

    one_by_one: bool = False
    convicted: set[str] = field(default_factory=set)
    #: Of the looks that the work is made of, those that another run has committed in the meantime.
    done: set[str] = field(default_factory=set)


class Watchdog:
    """Runs as one Ray actor beside the driver. Work is named by chunk and offset (and pool), items by their key."""

    def __init__(self) -> None:
        self._holders: dict[tuple[int, ...], str] = {}
        self._in_hand: dict[tuple[int, ...], str] = {}
        self._begun: Counter[tuple[int, ...]] = Counter()
        self._deaths: Counter[str] = Counter()
        self._done: set[str] = set()
        #: The last offset of each chunk that was taken up, and how many pieces of work that makes.
        self._reached: dict[int, int] = {}
        self._taken = 0
        self._stopped = False

    def done_elsewhere(self, looks: list[str]) -> None:
        """Another run has committed these looks: nobody here need take them up."""
        self._done.update(looks)

    def begin(self, work: tuple[int, ...], node: str, looks: list[str]) -> Advice:
        """A worker on `node` takes up `work`, which is made of those looks."""
        chunk, start = work[:2]
        if start > self._reached.get(chunk, -1):  # else it was taken up before, and comes from a pool, or after a death
            if self._stopped:
                return Advice(done=set(looks))
            self._reached[chunk] = start
            self._taken += 1
        before = self._holders.get(work)
        if before is not None and self._alive(before):
            self._begun[work] += 1
            if work in self._in_hand:
                self._deaths[self._in_hand[work]] += 1
        self._in_hand.pop(work, None)
        self._holders[work] = node
        convicted = {item for item, deaths in self._deaths.items() if deaths >= CONVICTING_DEATHS}
        return Advice(self._begun[work] > 0, convicted, self._done.intersection(looks) if self._done else set())

    def taken(self) -> int:
        """How many pieces of work were taken up so far."""
        return self._taken

    def stop(self) -> int:
        """From now on nobody takes up work that was not begun. Returns how many pieces were."""
        self._stopped = True
        return self._taken

    def note(self, work: tuple[int, ...], item: str | None) -> None:
        """The item is about to be touched, alone; or with None, that is over."""
        if item is None:
            self._in_hand.pop(work, None)
        else:
            self._in_hand[work] = item

    def end(self, work: tuple[int, ...]) -> None:
        """The work is done."""
        self._holders.pop(work, None)
        self._in_hand.pop(work, None)

    def _alive(self, node: str) -> bool:
        import ray

        return any(one["NodeID"] == node and one["Alive"] for one in ray.nodes())


def in_hand(handle: Any, came: int) -> int:
    """How many pieces are in hand, or on their way, when so many have come."""
    import ray

    count: int = ray.get(handle.taken.remote())
    return max(0, count - came)


def stop(handle: Any) -> int:
    """Let the workers finish what they have in hand, and no more. Returns how many pieces they have taken up in all."""
    import ray

    taken: int = ray.get(handle.stop.remote())
    return taken


def start() -> Any:
    """A watchdog on the driver's node. Returns the actor's handle, which workers are given."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(node_id=ray.get_runtime_context().get_node_id(), soft=False)
    return (
        ray.remote(Watchdog)
        .options(num_cpus=0, max_restarts=-1, max_task_retries=-1, scheduling_strategy=here)
        .remote()
    )
