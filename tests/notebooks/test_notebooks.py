"""The notebooks: each runs from top to bottom and shows something, and none is kept with what it showed."""

import re
import shutil
from base64 import b64decode
from io import BytesIO
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from PIL import Image

from pinakes.jobs.demo_media import fetch_from, packages
from pinakes.operators.operator import by_default
from tests.jobs.small_run import loaded, small_run

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))

#: The small ones of the packages that `make demo` takes its photos and films from: 21 MB, two films and 21 photos.
SOME = {"enable", "nikola", "perception", "plenoptic", "pliers", "thumbor"}


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a smaller `.demo` in it, filled as `make demo` fills it."""
    folder = tmp_path_factory.mktemp("repository")
    (folder / "notebooks").mkdir()
    some = [package for package in packages() if package.requirement.split("==")[0] in SOME]
    archive, there = folder / ".demo" / "archive", ROOT / ".demo" / "archive"
    for item in (item for package in some for item in package.items):
        if (there / item.name).exists():
            (archive / item.name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(there / item.name, archive / item.name)
    fetch_from(some, archive)
    small_run(archive, folder / ".demo" / "catalog", loaded(*dict.fromkeys(["media", "frames", *by_default()])))
    return folder


def executed(number: int, folder: Path) -> list[dict[str, Any]]:
    """The outputs of a notebook, by MIME type, run in that folder. Raises what a cell raises."""
    (path,) = [path for path in NOTEBOOKS if path.name.startswith(f"{number}-")]
    notebook = nbformat.read(path, as_version=4)
    where = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, timeout=200, kernel_name="python3", resources=where).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    # What goes to standard error is noise in front of a reader.
    assert [output.text for output in outputs if output.get("name") == "stderr"] == []
    shown = [output.get("data") or {"text/plain": output.text} for output in outputs]
    return [dict(one) for one in shown]


def pictures(shown: list[dict[str, Any]]) -> list[Image.Image]:
    """What is in their pictures is in more than one colour."""
    kinds = ("image/png", "image/jpeg")
    found = [
        Image.open(BytesIO(b64decode(next(one[kind] for kind in kinds if kind in one))))
        for one in shown
        if set(kinds) & set(one)
    ]
    assert all(len(picture.convert("RGB").getcolors(1 << 24)) > 2 for picture in found)
    return found


def words(shown: list[dict[str, Any]]) -> str:
    """What a reader reads: HTML without its tags, or else the plain text."""
    every = (one.get("text/html") or one.get("text/plain") or "" for one in shown)
    return " ".join(re.sub(r"<style.*?</style>|<[^>]*>", " ", "\n".join(every), flags=re.DOTALL).split())


@pytest.mark.timeout(240)
def test_an_archive_is_explored_from_the_folder_of_the_notebooks(demo: Path) -> None:
    shown = executed(1, demo / "notebooks")
    assert len(pictures(shown)) == 5
    said = words(shown)
    assert "the catalogue file://" in said
    assert "book-plate-with-caption.jpg" in said, "the page with most text is not shown"


def test_a_person_is_found(demo: Path) -> None:
    shown = executed(2, demo)
    assert len(pictures(shown)) == 5
    assert "27 faces were found, " in words(shown)


def test_what_it_cost_is_said(demo: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PINAKES_CATALOG", str(demo / ".demo" / "catalog"))
    shown = executed(3, tmp_path)
    assert len(pictures(shown)) == 2
    said = words(shown)
    assert "tariff own of" in said
    assert "rekognition" in said


@pytest.mark.timeout(240)
def test_an_operator_of_ones_own_runs(demo: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # pip is to leave this Python as it is: by its own settings it installs elsewhere.
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.setenv("PIP_TARGET", str(site))
    monkeypatch.setenv("PYTHONPATH", str(site))
    monkeypatch.setenv("PINAKES_CATALOG", str(demo / ".demo" / "catalog"))
    shown = executed(4, tmp_path)
    assert len(pictures(shown)) == 2
    said = words(shown)
    assert "23 items, errors: none" in said
    assert "rows of latest_focus" in said


def test_there_are_four_and_each_is_a_short_article() -> None:
    assert [path.name[:2] for path in NOTEBOOKS] == ["1-", "2-", "3-", "4-"]
    for path in NOTEBOOKS:
        cells = nbformat.read(path, as_version=4).cells
        assert len(cells) <= 14, path
        assert cells[0].source.startswith(f"# {path.name[0]}. ")
        assert sum(cell.cell_type == "markdown" for cell in cells) >= len(cells) // 2 - 1, path


def test_no_notebook_is_kept_with_what_it_showed() -> None:
    for path in NOTEBOOKS:
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type == "code":
                assert (cell.outputs, cell.execution_count) == ([], None), path
        text = path.read_text()
        assert not re.search(r"/(home|root|tmp|work|Users)/|[A-Z]:\\\\", text), f"{path} has a path of one machine"
        assert len(text) < 20_000, path
