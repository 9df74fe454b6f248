"""The bytes of an item, from anywhere fsspec reaches."""

import errno
import io
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import lru_cache
from typing import Any, BinaryIO, TypeVar

import fsspec
from fsspec.core import url_to_fs
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from pinakes.jobs.meter import Reads, bytes_read_here
from pinakes.operators.errors import ErrorCode, MediaError

#: Tries at a file that does not answer, within one look; the next run tries again.
TRIES = 4

#: What is asked for at once of a file that is read in parts; up to 32 such blocks are kept.
BLOCK_BYTES = 2**20

Answer = TypeVar("Answer")

#: The path leads nowhere: through a file, in a circle, too far.
_NO_FILE = (errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG)

#: What a web server says for good, beside 404, which fsspec knows.
_REFUSALS = {
    401: ErrorCode.PERMISSION_DENIED,
    403: ErrorCode.PERMISSION_DENIED,
    410: ErrorCode.NOT_FOUND,
    451: ErrorCode.PERMISSION_DENIED,
}


def fetch(uri: str, max_bytes: int) -> bytes:
    """The whole file. Raises MediaError: not found, no permission, too large, or (after several tries) unreachable."""
    return _tried(lambda: _read(uri, max_bytes))


def requests(uri: str) -> int:
    """How many requests to a server a fetch takes."""
    return 0 if uri.startswith("file://") else 1


@contextmanager
def opened(uri: str, reads: Reads | None = None) -> Iterator[tuple[str | BinaryIO, int]]:
    """A file that is read in parts: its path when it is local, else an open file that fetches ranges; and its bytes.

    `reads` is told at the end what was read. Raises MediaError as `fetch` does; so does a read of the open file.
    """
    reads = reads or Reads()
    if uri.startswith("file://"):
        path = uri.removeprefix("file://")
        before = bytes_read_here()
        try:
            yield path, _tried(lambda: _size(path))
        finally:
            reads.bytes += bytes_read_here() - before
        return
    filesystem = _filesystem(uri.split("://", 1)[0])
    file = _tried(lambda: filesystem.open(uri, "rb", block_size=BLOCK_BYTES, cache_type="blockcache"))
    with closing(file):
        if getattr(file, "size", None) is None or not file.seekable():
            raise MediaError(ErrorCode.UNSUPPORTED_FORMAT, "its server does not say its size or send it in parts")
        try:
            yield io.BufferedReader(_Ranges(file), BLOCK_BYTES), file.size
        finally:
            if (cache := getattr(file, "cache", None)) is not None:
                reads.bytes += cache.total_requested_bytes
                reads.requests += cache.miss_count


class _Ranges(io.RawIOBase):
    """A file of a filesystem, each read of which is tried as often as a fetch, and fails as one."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        at: int = self._file.seek(offset, whence)
        return at

    def tell(self) -> int:
        at: int = self._file.tell()
        return at

    def readinto(self, buffer: Any) -> int:
        data = _tried(lambda: self._file.read(len(buffer)))
        buffer[: len(data)] = data
        return len(data)


def _tried(read: Callable[[], Answer]) -> Answer:
    """What it returns, after several tries if need be. Raises MediaError."""
    try:
        for attempt in Retrying(
            retry=retry_if_exception(_worth_trying_again),
            wait=wait_random_exponential(multiplier=0.2, max=5),
            stop=stop_after_attempt(TRIES),
            reraise=True,
        ):
            with attempt:
                return read()
        raise AssertionError("unreachable")
    except MediaError:
        raise
    except Exception as error:  # every file system has its own errors
        raise media_error(error) from None


def media_error(error: Exception) -> MediaError:
    """What a filesystem's error says of the item."""
    if isinstance(error, FileNotFoundError):
        return MediaError(ErrorCode.NOT_FOUND, "the file is not there any more")
    if isinstance(error, PermissionError):
        return MediaError(ErrorCode.PERMISSION_DENIED, f"no permission to read it: {_line(error)}")
    if isinstance(error, OSError) and error.errno in _NO_FILE:
        return MediaError(ErrorCode.NOT_FOUND, f"the file cannot be reached: {_line(error)}")
    if code := _REFUSALS.get(getattr(error, "status", 0)):
        return MediaError(code, f"the server refuses it: {_line(error)}")
    return MediaError(ErrorCode.UNREACHABLE, f"{type(error).__name__}: {_line(error)}")


def _read(uri: str, max_bytes: int) -> bytes:
    if uri.startswith("file://"):
        return _read_local(uri.removeprefix("file://"), max_bytes)
    filesystem, path = _filesystem(uri.split("://", 1)[0]), uri
    try:
        # One byte more than allowed tells a large file without fetching it.
        data: bytes = filesystem.cat_file(path, start=0, end=max_bytes + 1)
    except Exception as error:
        # Of an empty file there is no first byte: status 416, or what s3fs makes of it.
        if getattr(error, "status", None) != 416 and getattr(error, "errno", None) != errno.EINVAL:
            raise
        if filesystem.size(path) != 0:
            raise
        data = b""
    return _checked(data, max_bytes)


def _read_local(path: str, max_bytes: int) -> bytes:
    with _open_local(path) as file:
        return _checked(file.read(max_bytes + 1), max_bytes)


def _size(path: str) -> int:
    with _open_local(path) as file:
        return os.fstat(file.fileno()).st_size


def _open_local(path: str) -> BinaryIO:
    # Non-blocking, lest a named pipe be waited for for ever.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise MediaError(ErrorCode.NOT_MEDIA, "not a regular file")
    return open(descriptor, "rb")


def too_large(max_bytes: int) -> MediaError:
    """What is said of a file of more bytes than that."""
    return MediaError(ErrorCode.TOO_LARGE, f"larger than {max_bytes / 1e6:.0f} MB (max_megabytes)")


def _checked(data: bytes, max_bytes: int) -> bytes:
    if len(data) > max_bytes:
        raise too_large(max_bytes)
    return data


@lru_cache
def _filesystem(protocol: str) -> fsspec.AbstractFileSystem:
    return url_to_fs(f"{protocol}://")[0]


def _worth_trying_again(error: BaseException) -> bool:
    if getattr(error, "status", None) in _REFUSALS or getattr(error, "errno", None) in _NO_FILE:
        return False
    return not isinstance(error, (MediaError, FileNotFoundError, PermissionError, IsADirectoryError, ValueError))


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
