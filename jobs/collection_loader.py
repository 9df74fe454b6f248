"""Loads a collection of faces with what a run commits, while the run goes on."""

import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from pinakes.catalog import Catalog
from pinakes.catalog.collection_definition import Definition
from pinakes.catalog.errors import CatalogError
from pinakes.catalog.face_loading import Loaded, index
from pinakes.jobs.errors import SpecError
from pinakes.jobs.spec import FacesSpec
from pinakes.operators.operator import Operator


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
        self._ended = False
        self._error: str | None = None
        self._added = 0
        #: Also what a run that was killed has left.
        self._last = self._take(index(catalog, self._name, self._asked, report=say, wait=False))
        self._thread = threading.Thread(target=self._work, name="collection", daemon=True)
        self._thread.start()

    def more(self) -> None:
        """Something was committed."""
        self._due.set()

    def finish(self) -> dict[str, Any]:
        """Wait until all that was committed is loaded. Returns how that went, for the run's summary."""
        self._ended = True
        self._due.set()
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
            # Read before the load: what was committed before the end is loaded before the end.
            ended = self._ended
            try:
                # Anew each time: a catalogue that did not answer may answer again.
                self._last = self._take(
                    index(Catalog(self._url), self._name, self._asked, report=self._say, wait=ended)
                )
                self._error = None
            except (CatalogError, OSError) as error:
                if self._error is None:
                    with suppress(Exception):
                        self._say(f"collection {self._name}: {error}")
                self._error = str(error)

    def _take(self, loaded: Loaded) -> Loaded:
        self._added += loaded.added
        return loaded
