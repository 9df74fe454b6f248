"""What runs: `run`, `retry` and `plan`, with the words of the command line.

>>> from pinakes.jobs import run
>>> run("photos/", catalog="catalogue/", operators=["labels"])  # doctest: +SKIP
"""

from typing import TYPE_CHECKING, Any

from pinakes.jobs.errors import JobError

if TYPE_CHECKING:
    from pinakes.jobs.running import plan, retry, run

__all__ = ["JobError", "plan", "retry", "run"]


def __getattr__(name: str) -> Any:
    # Not at import: a worker and `pinakes --help` need none of it.
    if name in __all__:
        from pinakes.jobs import running

        return getattr(running, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
