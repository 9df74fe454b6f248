"""Brings folders that only the driver has to the other nodes, once per node, through Ray's object store.

A folder's name says what is in it (a hash, perhaps within a subfolder), so one that has all its files needs nothing.
The pieces stay in the object store for as long as the driver holds what `share` returns: pass it on, to actors too,
but keep it.
"""

import os
import shutil
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, TypeAlias

from filelock import FileLock

from pinakes.cluster.errors import ClusterError

if TYPE_CHECKING:
    from ray import ObjectRef

#: By the folder's name, then by the file's name in it: the file's pieces, in order.
Shared: TypeAlias = "Mapping[str, Mapping[str, Sequence[ObjectRef[bytes]]]]"

#: The most of a file that a process has in memory at a time.
PIECE_BYTES = 64 * 10**6


def share(folders: Mapping[str, Mapping[str, Path]]) -> Shared:
    """Put files into Ray's object store; what it returns is for `receive`, on any node.

    `folders` says by the folder's name, then by the file's name in it (both relative, with slashes), where the file is
    here. Empty when there is no node but this one. Raises ClusterError when a file cannot be read or stored, or a name
    leads elsewhere.
    """
    import ray

    if sum(node["Alive"] for node in ray.nodes()) < 2:
        return {}
    return {
        str(_relative(folder)): {str(_relative(name)): _pieces(path) for name, path in files.items()}
        for folder, files in folders.items()
    }


def receive(shared: Shared, root: Path) -> None:
    """Make `root`/NAME with its files of every shared folder, unless they are there.

    Of several processes of a node at once, one fetches and the rest wait. A kill leaves no folder that was not there
    before. Raises ClusterError when the files cannot be written, or the driver is gone.
    """
    import ray

    for name, files in shared.items():
        folder = root / _relative(name)
        if not _missing(folder, files):
            continue
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(folder.with_name(f"{folder.name}.lock")):
                _fetch(folder, files)
        except (OSError, ray.exceptions.RayError) as error:
            raise ClusterError(f"{folder} cannot be had from the driver: {_one_line(error)}") from error


def _fetch(folder: Path, files: Mapping[str, "Sequence[ObjectRef[bytes]]"]) -> None:
    """To be called by one process at a time."""
    import ray

    missing = _missing(folder, files)
    # One name for all, so that what a killed process has left is cleared away by the next.
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    for name in missing:
        file = unfinished / _relative(name)
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("wb") as stream:
            for piece in files[name]:
                stream.write(ray.get(piece))
            stream.flush()
            os.fsync(stream.fileno())
    if not folder.exists():
        os.replace(unfinished, folder)
        return
    # Somebody has begun to fill it, or shared fewer of its files: what is there may be in use.
    for name in missing:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        os.replace(unfinished / name, folder / name)
    shutil.rmtree(unfinished, ignore_errors=True)


def _missing(folder: Path, files: Mapping[str, "Sequence[ObjectRef[bytes]]"]) -> list[str]:
    return [name for name in files if not (folder / name).is_file()]


def _pieces(path: Path) -> "list[ObjectRef[bytes]]":
    import ray

    try:
        with path.open("rb") as stream:
            return [ray.put(piece) for piece in iter(partial(stream.read, PIECE_BYTES), b"")]
    except (OSError, ray.exceptions.RayError) as error:
        raise ClusterError(f"{path} cannot be sent to the cluster's other nodes: {_one_line(error)}") from error


def _relative(name: str) -> PurePosixPath:
    path = PurePosixPath(name)
    if path.is_absolute() or not path.parts or ".." in path.parts:
        raise ClusterError(f"{name!r} is no name of a file within a folder")
    return path


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
