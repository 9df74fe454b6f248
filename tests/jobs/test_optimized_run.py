"""After an optimizing a real plan finds nothing to do, and a run goes on where it was."""

from pathlib import Path

import pytest

from pinakes.catalog import Catalog
from pinakes.catalog.optimizing import optimize
from pinakes.jobs import watch
from pinakes.operators.operator import create
from tests.films import write_film
from tests.jobs.photos import write_photos
from tests.jobs.small_run import loaded, small_run

LIGHT = ("media", "frames", "properties")


def test_nothing_is_looked_at_again_but_what_was_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "WINDOW_MS", 30_000)
    archive, url = tmp_path / "archive", tmp_path / "catalog"
    first, *_ = write_photos(archive, 4)
    write_film(archive / "film.mp4", 65, fps=5, size=(160, 90))
    operators = loaded(*LIGHT)
    others = {**operators, "properties": create("properties", {"max_colors": 3})}
    others["properties"].load()
    catalog = Catalog(str(url), create=True)

    def counting() -> dict[str, list[str]]:
        return {name: sorted(map(repr, catalog.sql(f"FROM latest_{name}").to_pylist())) for name in (*LIGHT, "ledger")}

    small_run(archive, url, others)
    first.write_bytes(write_photos(tmp_path / "more", 1, first=9)[0].read_bytes())
    small_run(archive, url, operators)
    before = counting()
    done = optimize(catalog)
    assert done.looks == {"version": 2}
    assert done.kept_looks == 3 + 1 + 3  # three photos, the film, its windows
    assert counting() == before
    assert small_run(archive, url, operators).due == 0
    assert small_run(archive, url, others).due == 1  # to go back costs what is new
    assert small_run(archive, url, operators).due == 0
    assert optimize(catalog, drop_superseded=True).looks == {"settings": 8}
    assert counting() == before
    assert small_run(archive, url, operators).due == 0
    assert small_run(archive, url, others).looks == {"properties": 5}
    assert len(counting()["properties"]) == len(before["properties"])
