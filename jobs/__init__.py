"""What runs: `run`, `retry` and `plan`, with the words of the command line; and `Catalog`, for who explores.

>>> from pinakes.jobs import Catalog, run
>>> run("photos/", catalog="catalogue/", operators=["labels"])  # doctest: +SKIP
>>> Catalog("catalogue/").sheet("SELECT uri FROM latest_labels WHERE name = 'tabby'")  # doctest: +SKIP
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pinakes.jobs.errors import JobError

if TYPE_CHECKING:
    from pinakes.jobs.exploring import Catalog
    from pinakes.jobs.running import plan, retry, run

__all__ = ["Catalog", "JobError", "plan", "retry", "run"]

_PLACES = {"Catalog": "exploring", "plan": "running", "retry": "running", "run": "running"}


def __getattr__(name: str) -> Any:
    # Not at import: a worker and `pinakes --help` need none of it.
    if name in _PLACES:
        return getattr(import_module(f"pinakes.jobs.{_PLACES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
