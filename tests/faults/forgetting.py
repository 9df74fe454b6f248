"""A forgetting that kills itself at any step: before or after a file, a Delta transaction, or a call to Milvus."""

import os
import signal
from collections.abc import Callable, Sequence
from typing import Any

from deltalake import DeltaTable

from pinakes.catalog import Catalog, commits, erasing, forgetting
from pinakes.catalog.storage import Storage


class Steps:
    """Counts the steps of this process, and kills it at one of them."""

    def __init__(self, die_at: int | None) -> None:
        self.taken = 0
        self._die_at = die_at

    def step(self) -> None:
        self.taken += 1
        if self.taken == self._die_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def between(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **named: Any) -> Any:
            self.step()
            answer = function(*arguments, **named)
            self.step()
            return answer

        return wrapped


def forget_person(url: str, person: str, milvus: Any, die_at: int | None = None) -> int:
    """Forget a person, whose vectors are in the file `milvus`, a line each. Returns how many steps that were."""
    steps = Steps(die_at)
    places: list[tuple[Any, str]] = [
        (Storage, "write"),
        (Storage, "remove"),
        (commits, "_add"),
        (erasing, "write_deltalake"),
        (forgetting, "write_deltalake"),
        (DeltaTable, "create_checkpoint"),
    ]
    before = [getattr(owner, name) for owner, name in places]
    for (owner, name), function in zip(places, before, strict=True):
        setattr(owner, name, steps.between(function))

    def remove_vectors(ids: Sequence[str], left: Sequence[str]) -> forgetting.Removed:
        steps.step()
        milvus.write_text("\n".join(one for one in milvus.read_text().split() if one not in set(ids)))
        steps.step()
        return forgetting.Removed([], [])

    try:
        forgetting.forget(Catalog(url), person=person, remove_vectors=remove_vectors)
    finally:
        for (owner, name), function in zip(places, before, strict=True):
            setattr(owner, name, function)
    return steps.taken
