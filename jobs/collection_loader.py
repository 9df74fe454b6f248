"""Loads a collection of faces with what a run commits, while the run goes on."""

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from pinakes.catalog import Catalog
from pinakes.catalog.collection_definition import Definition
from pinakes.catalog.face_loading import Loaded, index
from pinakes.jobs.errors import SpecError
from pinakes.jobs.spec import FacesSpec
from pinakes.operators.operator import Operator

#: Times the last load's length that the next one waits.
REST = 4
#: Seconds that a run which failed waits for the load that is under way.
LAST_LOAD_S = 60


def definition(spec: FacesSpec, model: str | None = None) -> Definition:
    """What the job says of its collection; what it does not say is as it is, or as usual."""
    said = spec.model_fields_set
    return Definition(
        model=model,
        condition=spec.where,
        milvus=spec.milvus,
        quality=spec.quality if "quality" in said else None,
        index=spec.index if "index" in said else None,
    )


def model_of(operators: Mapping[str, Operator]) -> str:
    """The model of the job's face vectors. Raises SpecError when the job makes none, or several kinds."""
    makers = {name: one for name, one in operators.items() if {"faces", "embeddings"} <= set(one.tables)}
    models = {one.model for one in makers.values()}
    if len(models) != 1:
        raise SpecError(
            "faces.collection: a collection is filled with the vectors of one operator for faces, and the job has "
            + (f"{len(makers)} of them: {', '.join(makers)}" if makers else "none: add `faces` to its operators")
        )
    return models.pop()


class CollectionLoader:
    """One load after the other in a thread of its own. What fails is said once, and tried again at the next commit.

    Raises CollectionError at once when the collection is of another model or otherwise not the one that is asked for.
    """

    def __init__(self, catalog: Catalog, spec: FacesSpec, model: str, say: Callable[[str], None]) -> None:
        self._url = catalog.url
        self._name = spec.collection
        self._asked = definition(spec, model)
        self._say = say
        self._due = threading.Event()
        self._end = threading.Event()
        self._waits = True
        self._took = 0.0
        self._error: str | None = None
        self._added = 0
        #: Also what a run that was killed has left.
        self._last = self._take(index(catalog, self._name, self._asked, report=say, wait=False))
        self._thread = threading.Thread(target=self._work, name="collection", daemon=True)
        self._thread.start()

    def more(self) -> None:
        """Something was committed."""
        self._due.set()

    def __enter__(self) -> "CollectionLoader":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """A run that failed waits for the load that is under way, but not for ever: it is in Milvus's own code."""
        self._tell(waits=False)
        self._thread.join(None if kind is None else LAST_LOAD_S)

    def _tell(self, waits: bool) -> None:
        self._waits = waits
        self._end.set()
        self._due.set()

    def finish(self, *, wait: bool = True) -> dict[str, Any]:
        """Load all that was committed, and with `wait` until it is indexed. Returns how that went, for the summary."""
        self._tell(waits=wait)
        self._thread.join()
        there = self._last.collection
        return {
            "name": self._name,
            "faces": there.faces,
            "added": self._added,
            "left_out": there.left_out,
            "error": self._error,
        }

    def _work(self) -> None:
        ended = False
        while not ended:
            self._due.wait()
            self._due.clear()
            # A load takes time that the run could use, the more the larger the catalogue: it has a fifth of it.
            self._end.wait(REST * self._took)
            # Read before the load: what was committed before the end is loaded before the end.
            ended = self._end.is_set()
            began = time.monotonic()
            try:
                # Anew each time: a catalogue that did not answer may answer again.
                self._last = self._take(
                    index(Catalog(self._url), self._name, self._asked, report=self._say, wait=ended and self._waits)
                )
                self._error = None
            except Exception as error:  # whatever it is, the run goes on, and says so at its end
                if self._error is None:
                    with suppress(Exception):
                        self._say(f"collection {self._name}: {error}")
                self._error = " ".join(str(error).split())
            self._took = time.monotonic() - began

    def _take(self, loaded: Loaded) -> Loaded:
        self._added += loaded.added
        return loaded
