"""From a source (a folder, a bucket prefix, a glob, one file, a manifest) to a stream of the items in it."""

import mimetypes
import os
import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from stat import S_ISDIR, S_ISREG
from typing import Any

import pyarrow as pa
from fsspec.utils import get_protocol, glob_translate

from pinakes.jobs import manifest
from pinakes.jobs.errors import SourceError
from pinakes.jobs.items import (
    LISTING_SCHEMA,
    LOCAL,
    Row,
    batches,
    error_row,
    filesystem,
    local_row,
    remote_row,
    source_error,
)
from pinakes.operators.errors import ErrorCode
from pinakes.operators.formats import VIDEOS

__all__ = ["LISTING_SCHEMA", "Listing", "source_url"]

_MAGIC = re.compile(r"[*?[]")

#: Hidden ones, and what a catalogue keeps: passed over at any depth, with all that is in them.
_PRIVATE = (".", "_pinakes", "_delta_log")

#: No media, though Python's own table of types, on a machine without /etc/mime.types, does not say so.
_NO_MEDIA = frozenset((*manifest.SUFFIXES, ".docx", ".xlsx"))


def source_url(source: str) -> str:
    """The one absolute spelling of a source, by which runs over the same source are recognised.

    `photos`, `./photos/` and `file:///here/photos` are all `file:///here/photos`; globs and manifests likewise.
    Raises SourceError for a spelling that cannot mean anything.
    """
    if not source:
        raise SourceError("the source is empty: write a folder, a file, a glob, or a URL such as s3://bucket/folder")
    try:
        source.encode()
    except UnicodeEncodeError:
        raise SourceError(f"{source!r}: the source's name is not UTF-8 text; rename it") from None
    if "\0" in source:
        raise SourceError(f"{source!r}: the source's name has a zero byte in it")
    if "::" in source and not os.path.lexists(source):
        raise SourceError(f"{source}: chained protocols ('::') are not read")
    protocol = get_protocol(source) if "://" in source else "file"
    if protocol in LOCAL:
        path = source.split("://", 1)[1] if "://" in source else os.path.expanduser(source)
        # POSIX lets a path keep two leading slashes; ours has one.
        return "file://" + re.sub("^//", "/", os.path.abspath(path))
    fs = filesystem(source)
    path = fs._strip_protocol(source)
    if not path.strip("/") and "s3" in fs.protocol:
        raise SourceError(f"{source}: names no bucket; write s3://bucket or s3://bucket/folder")
    return str(fs.unstrip_protocol(path))


class Listing:
    """A source, found and readable. Raises SourceError, as do its batches if the source goes away meanwhile.

    Items are files whose name does not say that they are something else than media; content decides later.
    Hidden files and folders, and catalogues, are not looked into.
    """

    def __init__(self, source: str) -> None:
        self.url = source_url(source)
        #: Entries met so far that are no items: no media by name, links to folders, sockets and devices.
        self.passed_over = 0
        self._pattern: re.Pattern[str] | None = None
        self._recursive = True
        self._fs: Any = None  # of a local source
        self._path = self.url.removeprefix("file://")
        if self._path == self.url:
            self._fs = filesystem(self.url)
            self._path = self._fs._strip_protocol(self.url)
        try:
            self._rows = self._find()
        except Exception as error:  # each filesystem has exceptions of its own
            raise source_error(self.url, error) from error

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Record batches of LISTING_SCHEMA, of at most 10,000 rows; an empty folder has none.

        Raises SourceError, before the first batch where it can be known then.
        """
        self.passed_over = 0
        try:
            yield from batches(self._matched(self._rows()))
        except Exception as error:  # each filesystem has exceptions of its own
            raise source_error(self.url, error) from error

    def _find(self) -> Callable[[], Iterator[Row]]:
        """Which kind of source it is: the function that lists it."""
        try:
            row = self._single()
        except FileNotFoundError:
            # The exact name goes first: a file may well be called 'a[1].jpg'.
            if not _MAGIC.search(self._path) or self.url.startswith(("http://", "https://")):
                raise
            return self._glob()
        if row is None:
            return self._folder(self._path)
        with self._open() as file:
            if manifest.is_manifest(self._path, file):
                return lambda: manifest.rows(self._fs, self._path, self.url)
        return lambda: iter([row])

    def _single(self) -> Row | None:
        """The source as one file, or None if it is a folder."""
        if self._fs is None:
            status = os.stat(self._path)
            if S_ISDIR(status.st_mode):
                return None
            if not S_ISREG(status.st_mode):
                raise SourceError(f"{self.url} is neither a folder nor a file; write one of these")
            return local_row(self.url, status)
        info = self._fs.info(self._path)
        return None if info["type"] == "directory" else remote_row(self.url, info)

    def _open(self) -> Any:
        return open(self._path, "rb") if self._fs is None else self._fs.open(self._path, "rb")

    def _glob(self) -> Callable[[], Iterator[Row]]:
        try:
            self._pattern = re.compile(glob_translate(self._path))
        except (ValueError, re.error) as error:
            raise SourceError(f"{self.url}: not a pattern that can be read: {error}") from error
        self._recursive = "**" in self._path
        literal = self._path[: _MAGIC.search(self._path).start()]  # type: ignore[union-attr]
        return self._folder(literal.rpartition("/")[0] or "/", literal)

    def _folder(self, root: str, literal: str | None = None) -> Callable[[], Iterator[Row]]:
        """The function that walks a folder. Of a glob, `literal` is the part before the first wildcard."""
        if self._fs is None:
            os.scandir(root).close()
            return lambda: self._local(root)
        if "s3" in self._fs.protocol:
            if root == "/":
                raise SourceError(f"{self.url}: a pattern cannot stand for the bucket's name")
            self._pages(root, literal, MaxKeys=1)
            return lambda: self._s3(root, literal)
        return lambda: self._walk(root)

    def _matched(self, rows: Iterator[Row]) -> Iterator[Row]:
        """The rows; of a glob, an error if there is not one."""
        nothing = True
        for row in rows:
            nothing = False
            yield row
        if self._pattern and nothing and not self.passed_over:
            raise SourceError(
                f"nothing matches {self.url}: a * stays within its folder, a folder named ** goes through all"
            )

    def _wanted(self, path: str, name: str) -> bool:
        """Whether a file is an item; counts it if not, unless it was not asked for."""
        if self._pattern and not self._pattern.match(path):
            return False
        if _maybe_media(os.path.splitext(name)[1].lower()):
            return True
        self.passed_over += 1
        return False

    def _goes_into(self, folder: str) -> bool:
        """Whether a pattern can match anything in a folder."""
        return not self._pattern or self._recursive or folder.count("/") < self._path.count("/")

    def _local(self, root: str) -> Iterator[Row]:
        waiting = [root]
        while waiting:
            folder = waiting.pop()
            try:
                with os.scandir(folder) as entries:
                    for entry in entries:
                        if entry.name.startswith(_PRIVATE):
                            continue
                        if entry.is_dir(follow_symlinks=False):
                            if self._goes_into(entry.path) and not _exists(f"{entry.path}/_delta_log"):
                                waiting.append(entry.path)
                        elif row := self._local_file(entry):
                            yield row
            except OSError as error:
                if folder == root:
                    raise
                # The rest of the archive goes on, but what is in there must not be lost in silence.
                if not isinstance(error, FileNotFoundError):
                    yield _unreadable(folder, error)

    def _local_file(self, entry: os.DirEntry[str]) -> Row | None:
        if not self._wanted(entry.path, entry.name):
            return None
        uri = "file://" + entry.path
        try:
            status = entry.stat()
        except PermissionError as error:
            return _unreadable(entry.path, error)
        except OSError:
            # A link to nothing, or in a circle; other files were deleted since.
            return Row(uri, "missing") if entry.is_symlink() else None
        if not S_ISREG(status.st_mode):
            self.passed_over += 1  # among them links to folders, which may lead in circles
            return None
        return local_row(uri, status)

    def _s3(self, root: str, literal: str | None) -> Iterator[Row]:
        bucket, _, folder = root.partition("/")
        start = len(folder) + 1 if folder else 0
        more: dict[str, Any] = {}
        while True:
            page = self._pages(root, literal, **more)
            for entry in page.get("Contents", ()):
                key = entry["Key"]
                inside = "/" + key[start:]
                if key.endswith("/") or any("/" + name in inside for name in _PRIVATE):
                    continue
                if self._wanted(f"{bucket}/{key}", key):
                    yield remote_row(f"s3://{bucket}/{key}", {**entry, "size": entry["Size"]})
            if not page.get("IsTruncated"):
                return
            more = {"ContinuationToken": page["NextContinuationToken"]}

    def _pages(self, root: str, literal: str | None, **more: Any) -> Any:
        """A page of the keys in a folder, or of those that begin as a pattern does."""
        bucket, _, key = (literal or root + "/").partition("/")
        return self._fs.call_s3("list_objects_v2", Bucket=bucket, Prefix=key, **more)

    def _walk(self, root: str) -> Iterator[Row]:
        for _, folders, files in self._fs.walk(root, detail=True, on_error="raise"):
            for name in list(folders):
                if name.startswith(_PRIVATE) or not self._goes_into(folders[name]["name"].rstrip("/")):
                    del folders[name]
            for name, info in files.items():
                if name and not name.startswith(_PRIVATE) and self._wanted(info["name"], name):
                    yield remote_row(self._fs.unstrip_protocol(info["name"]), info)


@lru_cache(maxsize=4096)
def _maybe_media(suffix: str) -> bool:
    """Whether a file of that suffix may be a picture or a video; not when its name says that it is something else."""
    if suffix in _NO_MEDIA:
        return False
    kind, encoding = mimetypes.guess_type("x" + suffix, strict=False)
    return suffix[1:] in VIDEOS or (encoding is None and (kind is None or kind.startswith("image/")))


def _exists(path: str) -> bool:
    # Not os.path.exists: a folder that may not be entered is met, and told of, when it is listed.
    return os.access(path, os.F_OK)


def _unreadable(path: str, error: OSError) -> Row:
    code = ErrorCode.PERMISSION_DENIED if isinstance(error, PermissionError) else ErrorCode.UNREACHABLE
    message = f"{os.fsencode(path).decode('utf-8', 'backslashreplace')}: {error.strerror}"
    return error_row("file://" + path, "unreadable", code, message)
