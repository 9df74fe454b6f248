"""Where a catalogue lives: a folder or a bucket prefix, for fsspec and for Delta alike.

Credentials and endpoints come from the environment that both read (AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL, ...).
"""

import errno
import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import fsspec
from botocore.exceptions import BotoCoreError
from deltalake.exceptions import CommitFailedError, DeltaError
from fsspec.core import url_to_fs

from pinakes.catalog.errors import CorruptCatalogError, StorageError

#: delta-rs writes for a terminal.
_COLOURS = re.compile(r"\x1b\[[\d;]*m")
#: What a bucket's server or its client says, and what it means to the user.
_PLACE = {
    "NoSuchBucket|bucket does not exist": "there is no such bucket: make it, or check the spelling",
    "CredentialsError": "there are no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "InvalidAccessKeyId|SignatureDoesNotMatch|AccessDenied|Forbidden": "the server refuses it: "
    "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and the right to list, read, write and delete there",
    "EndpointConnectionError": "nobody answers there: check the network and AWS_ENDPOINT_URL, and run again",
}


class Storage:
    """One folder or prefix. Paths given to its methods are relative to it."""

    def __init__(self, url: str) -> None:
        self.filesystem: fsspec.AbstractFileSystem
        self.filesystem, root = url_to_fs(url)
        self.root = root.rstrip("/")
        self.url = self.filesystem.unstrip_protocol(self.root)

    @property
    def is_local(self) -> bool:
        return "file" in _protocols(self.filesystem)

    @property
    def delta_options(self) -> dict[str, str]:
        """What delta-rs does not take from the environment by itself: leave to speak to a plain-http endpoint."""
        plain = os.environ.get("AWS_ENDPOINT_URL", "").startswith("http://")
        return {"aws_allow_http": "true"} if plain and not self.is_local else {}

    def table_uri(self, table: str) -> str:
        """Where a table is, as delta-rs wants it spelled."""
        return f"{self.root}/{table}" if self.is_local else f"{self.url}/{table}"

    def path(self, relative: str) -> str:
        return f"{self.root}/{relative}"

    def write(self, relative: str, data: bytes) -> None:
        """Put a whole file, or none. Raises StorageError."""
        with self.reporting(f"writing {relative}"):
            path = self.path(relative)
            if not self.is_local:
                self.filesystem.pipe_file(path, data)
                return
            os.makedirs(os.path.dirname(path), exist_ok=True)
            # A full disk takes half a file, and the half would stay.
            half = f"{path}.{uuid.uuid4().hex}.half"
            try:
                with open(half, "wb") as file:
                    file.write(data)
                    file.flush()
                    # A commit that names it must not outlive it when the power goes.
                    os.fsync(file.fileno())
                os.replace(half, path)
            except OSError:
                Path(half).unlink(missing_ok=True)
                raise

    def read(self, relative: str) -> bytes:
        """A whole file. Raises FileNotFoundError or StorageError."""
        with self.reporting(f"reading {relative}"):
            data: bytes = self.filesystem.cat_file(self.path(relative))
            return data

    def remove(self, relative: str) -> None:
        """Remove a file if it is there; what cannot be removed stays as an orphan, which harms nobody."""
        with suppress(OSError, BotoCoreError):
            self.filesystem.rm_file(self.path(relative))

    def remove_folder(self, relative: str) -> None:
        """Remove a folder and what is in it, as `remove` does."""
        with suppress(OSError, BotoCoreError):
            self.filesystem.rm(self.path(relative), recursive=True)

    def entries(self, relative: str = "") -> dict[str, bool]:
        """Names directly below, in order, and whether each is a folder."""
        with self.reporting("listing"):
            self.filesystem.invalidate_cache()
            try:
                found = self.filesystem.ls(self.path(relative).rstrip("/"), detail=True)
            except FileNotFoundError:
                return {}
        return dict(sorted((one["name"].rstrip("/").rsplit("/", 1)[-1], one["type"] == "directory") for one in found))

    @contextmanager
    def reporting(self, doing: str) -> Iterator[None]:
        """Turn what a file system or delta-rs raises into one line that says what failed and what is safe."""
        try:
            yield
        except FileNotFoundError:
            raise
        except CommitFailedError:
            raise
        except (OSError, DeltaError, BotoCoreError) as error:
            text = " ".join(_COLOURS.sub("", str(error)).split())
            if getattr(error, "errno", None) == errno.ENOSPC or "No space left" in text or "os error 28" in text:
                raise StorageError(
                    f"no space left at {self.url} ({doing}): all commits so far are safe; free some space and run again"
                ) from error
            for found, says in _PLACE.items():
                if re.search(found, f"{type(error).__name__}: {text}"):
                    raise StorageError(f"{self.url}: {doing}: {says}; all commits so far are safe") from error
            if isinstance(error, DeltaError) and not isinstance(error, OSError):
                raise CorruptCatalogError(f"{self.url}: {doing}: {text[:300]}") from error
            raise StorageError(f"{self.url}: {doing}: {text[:300]}; all commits so far are safe") from error


def _protocols(filesystem: fsspec.AbstractFileSystem) -> tuple[str, ...]:
    protocol = filesystem.protocol
    return (protocol,) if isinstance(protocol, str) else tuple(protocol)
