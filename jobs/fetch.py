"""The bytes of an item, from anywhere fsspec reaches."""

import errno
import os
import stat
from functools import lru_cache

import fsspec
from fsspec.core import url_to_fs
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from pinakes.operators.errors import ErrorCode, MediaError

#: Tries at a file that does not answer, within one look; the next run tries again.
TRIES = 4

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
    try:
        for attempt in Retrying(
            retry=retry_if_exception(_worth_trying_again),
            wait=wait_random_exponential(multiplier=0.2, max=5),
            stop=stop_after_attempt(TRIES),
            reraise=True,
        ):
            with attempt:
                return _read(uri, max_bytes)
        raise AssertionError("unreachable")
    except MediaError:
        raise
    except FileNotFoundError:
        raise MediaError(ErrorCode.NOT_FOUND, "the file is not there any more") from None
    except PermissionError as error:
        raise MediaError(ErrorCode.PERMISSION_DENIED, f"no permission to read it: {_line(error)}") from None
    except Exception as error:  # every file system has its own errors
        if isinstance(error, OSError) and error.errno in _NO_FILE:
            raise MediaError(ErrorCode.NOT_FOUND, f"the file cannot be reached: {_line(error)}") from None
        if code := _REFUSALS.get(getattr(error, "status", 0)):
            raise MediaError(code, f"the server refuses it: {_line(error)}") from None
        raise MediaError(ErrorCode.UNREACHABLE, f"{type(error).__name__}: {_line(error)}") from None


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
    # Non-blocking, lest a named pipe be waited for for ever.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise MediaError(ErrorCode.NOT_MEDIA, "not a regular file")
    with open(descriptor, "rb") as file:
        return _checked(file.read(max_bytes + 1), max_bytes)


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
