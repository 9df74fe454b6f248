"""Manifests: files that list items, as JSON Lines (`source-ref`), CSV with a header, or Parquet.

One bad line costs that line: it becomes a row with `error_code` bad_manifest_line, and the rest goes on.
"""

import csv
import json
import os
import posixpath
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from itertools import islice
from stat import S_ISREG
from typing import Any, BinaryIO, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from pinakes.jobs.errors import SourceError
from pinakes.jobs.items import (
    BATCH_ROWS,
    LOCAL,
    WHOLE_SOURCE,
    Row,
    clean_etag,
    error_row,
    filesystem,
    local_row,
    remote_row,
    source_error,
)
from pinakes.operators.errors import ErrorCode

JSON_LINES = (".jsonl", ".ndjson", ".manifest")
SUFFIXES = (*JSON_LINES, ".csv", ".parquet")

#: The names of the column that says where an item is; the first that is there counts.
REF_NAMES = ("source-ref", "source_ref", "uri", "url", "path")
OPTIONAL_NAMES = ("version", "etag", "size")

MAX_LINE_BYTES = 1 << 20
CHUNK_BYTES = 16 << 20

#: What a line may name besides the manifest's own protocol. Not those that wrap or reach into others.
REMOTE = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "hf", "http", "https"})

# Requests at once when items must be asked for their version, one by one.
_ASKING = 32


class Line(NamedTuple):
    """A line as read: its fields, or what is wrong with it. Numbers count from 1; in Parquet they count rows."""

    number: int
    raw: bytes
    fields: Mapping[str, Any]
    problem: str | None = None


def is_manifest(name: str, file: BinaryIO) -> bool:
    """Whether a file is a manifest: by its suffix, or a `.json` whose first line is one of a manifest."""
    suffix = os.path.splitext(name)[1].lower()
    if suffix != ".json":
        return suffix in SUFFIXES
    first = next(_json_lines(file), None)
    return first is not None and not first.problem and isinstance(_reference(first.fields), str)


def rows(fs: Any | None, path: str, uri: str) -> Iterator[Row]:
    """The items a manifest lists, in its order. `fs` is None for a local one; `path` is the filesystem's own spelling.

    Versions come from the manifest where it gives them (`version`, else `etag`); other items are asked for theirs.
    Raises SourceError for a manifest that is unreadable or has no usable column.
    """
    references = _References(uri, local=fs is None)
    pool = ThreadPoolExecutor(_ASKING, thread_name_prefix="listing")
    try:
        with open(path, "rb") if fs is None else fs.open(path, "rb") as file:
            lines = _read(uri, file)
            while chunk := list(_some(lines)):
                yield from _chunk_rows(references, chunk, pool)
    except pa.ArrowException as error:
        raise SourceError(f"{uri}: not a Parquet file that can be read: {error}") from error
    finally:
        pool.shutdown(cancel_futures=True)


def _chunk_rows(references: "_References", lines: list[Line], pool: ThreadPoolExecutor) -> list[Row]:
    found = [references.row(line) for line in lines]
    ask = [at for at, row in enumerate(found) if not row.version]
    remote = [at for at in ask if not found[at].uri.startswith("file://")]
    for at in ask:
        if found[at].uri.startswith("file://"):
            found[at] = references.ask_local(lines[at], found[at])
    for at, row in zip(remote, pool.map(lambda at: references.ask_remote(lines[at], found[at]), remote), strict=True):
        found[at] = row
    return found


def _some(lines: Iterator[Line]) -> Iterator[Line]:
    """The next lines, as many as may be held at once."""
    size = 0
    for line in islice(lines, BATCH_ROWS):
        yield line
        size += len(line.raw)
        if size > CHUNK_BYTES:
            return


def _read(uri: str, file: BinaryIO) -> Iterator[Line]:
    suffix = os.path.splitext(uri)[1].lower()
    if suffix == ".parquet":
        return _parquet_lines(uri, file)
    return _csv_lines(uri, file) if suffix == ".csv" else _json_lines(file)


def _reference(fields: Mapping[str, Any]) -> Any:
    return next((fields[name] for name in REF_NAMES if fields.get(name) is not None), None)


class _References:
    """What the lines of one manifest name, made absolute and checked."""

    def __init__(self, manifest: str, *, local: bool) -> None:
        self.manifest = manifest
        self.local = local
        self.protocol, _, rest = manifest.partition("://")
        self.folder = posixpath.dirname(rest)
        self.top = rest.split("/", 1)[0] + "/"
        self.filesystems: dict[str, Any] = {}

    def row(self, line: Line) -> Row:
        """The line's row; its version is empty where the item must be asked for it."""
        if line.problem:
            return self.bad(line, line.problem)
        reference = _reference(line.fields)
        if reference is None:
            return self.bad(line, f"it has no {REF_NAMES[0]}")
        try:
            uri = self.resolve(reference)
        except ValueError as error:
            return self.bad(line, str(error))
        etag = line.fields.get("etag")
        etag = clean_etag(etag) if isinstance(etag, str) else None
        version = line.fields.get("version")
        version = str(version) if isinstance(version, str | int) and not isinstance(version, bool) else ""
        return Row(uri, version or etag or "", _size(line.fields.get("size")), None, etag)

    def bad(self, line: Line, problem: str) -> Row:
        version = blake2b(line.raw, digest_size=8).hexdigest()
        message = f"{self.manifest} line {line.number}: {problem}"
        return error_row(f"{self.manifest}#line={line.number}", version, ErrorCode.BAD_MANIFEST_LINE, message)

    def resolve(self, reference: Any) -> str:
        """The absolute URI that a line means. Raises ValueError saying why it cannot be read."""
        if not isinstance(reference, str) or not reference:
            raise ValueError(f"its {REF_NAMES[0]} is not text")
        try:
            reference.encode()
        except UnicodeEncodeError:
            raise ValueError(f"its {REF_NAMES[0]} is not valid text") from None
        if "\0" in reference:
            raise ValueError(f"its {REF_NAMES[0]} has a zero byte in it")
        if "::" in reference:
            raise ValueError(f"{_short(reference)}: chained protocols ('::') are not read")
        protocol, separator, rest = reference.partition("://")
        if not separator:
            return self.relative(reference)
        if protocol in LOCAL:
            if not self.local:
                raise ValueError(f"{_short(reference)}: a manifest that is not local may not name local files")
            if not rest.startswith("/"):
                raise ValueError(f"{_short(reference)}: not an absolute path")
            return "file://" + os.path.normpath(rest)
        if protocol not in REMOTE and protocol != self.protocol:
            raise ValueError(f"{_short(reference)}: {protocol}:// is not a protocol that manifests may name")
        if not rest.strip("/"):
            raise ValueError(f"{_short(reference)}: names no file")
        fs = self.filesystem(protocol, reference)
        return str(fs.unstrip_protocol(fs._strip_protocol(reference)))

    def relative(self, reference: str) -> str:
        """A path as seen from the manifest's folder."""
        if self.local:
            return "file://" + os.path.normpath(os.path.join(self.folder, reference))
        if reference.startswith("/"):
            raise ValueError(f"{_short(reference)}: a manifest that is not local may not name local files")
        path = posixpath.join(self.folder, reference)
        # Only where it is asked for: a key may well have empty parts that normpath would remove.
        if {".", ".."} & set(reference.split("/")):
            path = posixpath.normpath(path)
        if not path.startswith(self.top):
            raise ValueError(f"{_short(reference)}: leads out of {self.protocol}://{self.top}")
        return f"{self.protocol}://{path}"

    def filesystem(self, protocol: str, reference: str) -> Any:
        if protocol not in self.filesystems:
            try:
                self.filesystems[protocol] = filesystem(reference)
            except SourceError as error:
                self.filesystems[protocol] = error
        fs = self.filesystems[protocol]
        if isinstance(fs, SourceError):
            raise ValueError(str(fs))
        return fs

    def ask_local(self, line: Line, row: Row) -> Row:
        try:
            status = os.stat(row.uri.removeprefix("file://"))
        except PermissionError as error:
            return row._replace(version="unreadable", error_code=ErrorCode.PERMISSION_DENIED, error_message=str(error))
        except OSError:
            return row._replace(version="missing")  # fetching it will say why
        if not S_ISREG(status.st_mode):
            return self.bad(line, f"{_short(row.uri)}: not a file")
        return local_row(row.uri, status)

    def ask_remote(self, line: Line, row: Row) -> Row:
        fs = self.filesystem(row.uri.partition("://")[0], row.uri)
        try:
            info = fs.info(fs._strip_protocol(row.uri))
        except FileNotFoundError:
            return row._replace(version="missing")
        except WHOLE_SOURCE as error:
            raise source_error(row.uri, error) from error
        except Exception as error:  # each filesystem has exceptions of its own
            code = ErrorCode.PERMISSION_DENIED if isinstance(error, PermissionError) else ErrorCode.UNREACHABLE
            return row._replace(version="unreadable", error_code=code, error_message=f"{row.uri}: {error}")
        if info["type"] == "directory":
            return self.bad(line, f"{_short(row.uri)}: a folder, not a file")
        return remote_row(row.uri, info)


def _short(reference: str) -> str:
    return reference if len(reference) <= 200 else reference[:200] + "..."


def _size(value: Any) -> int | None:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 19:
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63 else None


def _raw_lines(file: BinaryIO) -> Iterator[tuple[int, bytes, bool]]:
    """Each line's number, bytes without its end, and whether it is whole: of one over MAX_LINE_BYTES only that much."""
    number, rest, skipping = 0, b"", False
    while chunk := file.read(MAX_LINE_BYTES):
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            if not skipping:
                number += 1
                yield number, line[:MAX_LINE_BYTES].removesuffix(b"\r"), len(line) <= MAX_LINE_BYTES
            skipping = False
        if skipping or len(rest) > MAX_LINE_BYTES:
            if not skipping:
                number += 1
                yield number, rest[:MAX_LINE_BYTES], False
            rest, skipping = b"", True
    if rest:
        yield number + 1, rest.removesuffix(b"\r"), True


def _text_lines(file: BinaryIO) -> Iterator[tuple[int, bytes, str, str | None]]:
    """Each line that is not blank: number, bytes, text, and what is wrong with it."""
    for number, raw, whole in _raw_lines(file):
        if not whole:
            yield number, raw, "", f"the line is longer than {MAX_LINE_BYTES} bytes"
            continue
        try:
            text = raw.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            yield number, raw, "", f"not UTF-8 text: {error}"
            continue
        if text and not text.isspace():
            yield number, raw, text, None


def _json_lines(file: BinaryIO) -> Iterator[Line]:
    for number, raw, text, problem in _text_lines(file):
        fields: Any = {}
        if not problem:
            try:
                fields = json.loads(text)
            except (ValueError, RecursionError) as error:
                problem = f"not JSON: {error}"
            if not isinstance(fields, dict):
                fields, problem = {}, "not a JSON object"
            # Such manifests carry labels and more, which would only take memory.
            fields = {name: fields[name] for name in (*REF_NAMES, *OPTIONAL_NAMES) if name in fields}
        yield Line(number, raw, fields, problem)


class _Unread:
    """Lines for the csv module, which can be given back when a quote that never closes has swallowed them."""

    def __init__(self, file: BinaryIO) -> None:
        self.lines = _text_lines(file)
        self.waiting: deque[tuple[int, bytes, str, str | None]] = deque()
        self.taken: list[tuple[int, bytes, str, str | None]] = []

    def __iter__(self) -> "_Unread":
        return self

    def __next__(self) -> str:
        line = self.waiting.popleft() if self.waiting else next(self.lines)
        self.taken.append(line)
        if line[3]:
            raise csv.Error(line[3])
        return line[2] + "\n"

    def give_back(self) -> None:
        self.waiting.extendleft(reversed(self.taken[1:]))


def _csv_lines(uri: str, file: BinaryIO) -> Iterator[Line]:
    unread = _Unread(file)
    reader = csv.reader(unread, strict=True)
    header: list[str] = []
    while True:
        unread.taken = []
        try:
            cells = next(reader)
            problem = (
                f"{len(cells)} cells, the header has {len(header)}" if header and len(cells) != len(header) else None
            )
        except StopIteration:
            break
        except csv.Error as error:
            unread.give_back()
            cells, problem = [], f"not CSV: {error}"
        number, raw = unread.taken[0][:2]
        if header:
            fields = {} if problem else {name: cell for name, cell in zip(header, cells, strict=True) if cell}
            yield Line(number, raw, fields, problem)
            continue
        header = [] if problem else [name.strip() for name in cells]
        _check_columns(uri, header)
    _check_columns(uri, header)


def _check_columns(uri: str, names: list[str]) -> str:
    for name in REF_NAMES:
        if name in names:
            return name
    raise SourceError(f"{uri}: no column named {', '.join(REF_NAMES)}; it has: {_short(', '.join(names)) or 'none'}")


def _parquet_lines(uri: str, file: BinaryIO) -> Iterator[Line]:
    parquet = pq.ParquetFile(file)
    schema = parquet.schema_arrow
    column = _check_columns(uri, schema.names)
    kind = schema.field(column).type
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)):
        raise SourceError(f"{uri}: its column {column} holds {kind}, not text")
    names = [column, *(name for name in OPTIONAL_NAMES if name in schema.names)]
    number = 0
    for batch in parquet.iter_batches(BATCH_ROWS, columns=names):
        for values in zip(*(batch.column(name).to_pylist() for name in names), strict=True):
            number += 1
            raw = repr(values).encode("utf-8", "surrogatepass")
            too_long = isinstance(values[0], str) and len(values[0]) > MAX_LINE_BYTES
            problem = f"its {column} is longer than {MAX_LINE_BYTES} characters" if too_long else None
            yield Line(number, raw, dict(zip(names, values, strict=True)), problem)
