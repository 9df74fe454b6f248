"""An item as a listing knows it: where it is, which version; its rows and batches; and what goes wrong at a source."""

import os
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from itertools import islice
from typing import Any, NamedTuple

import fsspec
import pyarrow as pa
from botocore.exceptions import EndpointConnectionError, NoCredentialsError, PartialCredentialsError

from pinakes.jobs.errors import SourceError
from pinakes.operators.errors import ErrorCode

#: A row is an item, or, where `error_code` is set, something that cannot be one.
LISTING_SCHEMA = pa.schema(
    [
        pa.field(
            "uri", pa.string(), nullable=False
        ),  # absolute, with its protocol: file:///photos/a.jpg, s3://bucket/key
        pa.field("version", pa.string(), nullable=False),  # changes when the bytes do; never empty
        pa.field("size", pa.int64()),  # bytes
        pa.field("mtime", pa.timestamp("us", tz="UTC")),
        pa.field("etag", pa.string()),  # without quotes
        pa.field("error_code", pa.string()),  # of pinakes.operators.errors.ErrorCode
        pa.field("error_message", pa.string()),
    ]
)

BATCH_ROWS = 10_000

LOCAL = ("file", "local")

#: Nothing that one of these says is about one item alone.
WHOLE_SOURCE = (NoCredentialsError, PartialCredentialsError, EndpointConnectionError)

# Every filesystem has its own names for the same facts.
_ETAGS = ("ETag", "etag", "md5Hash", "md5", "content_md5", "Content-MD5")
_TIMES = ("LastModified", "last_modified", "Last-Modified", "mtime", "modified", "updated", "created")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_YEAR_1_US, _YEAR_10000_US = -62_135_596_800_000_000, 253_402_300_800_000_000


class Row(NamedTuple):
    """A row of LISTING_SCHEMA; `mtime` in microseconds since 1970, UTC."""

    uri: str
    version: str
    size: int | None = None
    mtime: int | None = None
    etag: str | None = None
    error_code: str | None = None
    error_message: str | None = None


def batches(rows: Iterable[Row]) -> Iterator[pa.RecordBatch]:
    """The rows as record batches of LISTING_SCHEMA, at most BATCH_ROWS each."""
    rows = iter(rows)
    while chunk := list(islice(rows, BATCH_ROWS)):
        try:
            yield _batch(chunk)
        except UnicodeEncodeError:
            yield _batch([_named(row) for row in chunk])


def _batch(rows: list[Row]) -> pa.RecordBatch:
    columns = zip(zip(*rows, strict=True), LISTING_SCHEMA, strict=True)
    return pa.record_batch([pa.array(values, type=field.type) for values, field in columns], schema=LISTING_SCHEMA)


def _named(row: Row) -> Row:
    """The row itself, or, if its name is not text, one that says so."""
    try:
        row.uri.encode()
    except UnicodeEncodeError:
        uri = row.uri.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        message = f"{uri}: the name is not UTF-8 text; rename the file, and run again"
        return row._replace(uri=uri, error_code=ErrorCode.BAD_NAME, error_message=message)
    return row


def local_row(uri: str, status: os.stat_result) -> Row:
    """A local file. Its version is f"{size}-{mtime in nanoseconds}"."""
    return Row(uri, f"{status.st_size}-{status.st_mtime_ns}", status.st_size, _bounded(status.st_mtime_ns // 1000))


def remote_row(uri: str, info: Mapping[str, Any]) -> Row:
    """An item from what a filesystem says of it. Its version is the etag, else f"{size}-{time, ISO 8601}"."""
    etag = next((clean_etag(str(info[key])) for key in _ETAGS if info.get(key)), None)
    time = next((_datetime(info[key]) for key in _TIMES if info.get(key)), None)
    size = info.get("size")
    version = etag or f"{'unknown' if size is None else size}-{'unknown' if time is None else time.isoformat()}"
    mtime = None if time is None else _bounded((time - _EPOCH) // _MICROSECOND)
    return Row(uri, version, None if size is None else int(size), mtime, etag)


def error_row(uri: str, version: str, code: ErrorCode, message: str) -> Row:
    return Row(uri, version, error_code=code, error_message=message)


def clean_etag(etag: str) -> str | None:
    """Without quotes and weakness mark, so that a manifest and a bucket listing give the same version."""
    return etag.removeprefix("W/").strip('"') or None


def _bounded(microseconds: int) -> int | None:
    # File systems hold times that no calendar type can print.
    return microseconds if _YEAR_1_US <= microseconds < _YEAR_10000_US else None


def _datetime(value: Any) -> datetime | None:
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            try:
                value = parsedate_to_datetime(value)
            except ValueError:
                return None
    elif isinstance(value, int | float):
        value = _EPOCH + timedelta(seconds=value)
    if not isinstance(value, datetime):
        return None
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def filesystem(url: str) -> Any:
    """The fsspec filesystem of a URL, opened afresh from the environment.

    Raises SourceError for a protocol that is unknown or whose package is not installed.
    """
    try:
        # A cached one would keep the credentials and the listings of another time, and grow with the archive.
        return fsspec.core.url_to_fs(url, skip_instance_cache=True, use_listings_cache=False)[0]
    except ImportError as error:
        raise SourceError(f"{url}: a package is missing: {error}") from error
    except ValueError as error:
        raise SourceError(f"{url}: {error}; write a path, or a URL such as s3://bucket/folder") from error
    except Exception as error:  # each filesystem has exceptions of its own
        raise source_error(url, error) from error


def source_error(url: str, error: Exception) -> SourceError:
    """One line on what keeps a source from being listed, and what to do."""
    if isinstance(error, SourceError):
        return error
    reason = " ".join(str(error).split())[:500] or type(error).__name__
    if isinstance(error, FileNotFoundError):
        return SourceError(
            f"there is nothing at {url} ({reason}): check the spelling, and that its disk or bucket is there"
        )
    if isinstance(error, PermissionError):
        return SourceError(
            f"{url} may not be read ({reason}): give this user the right to list and read it, "
            "or, for a bucket, check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    if isinstance(error, NoCredentialsError | PartialCredentialsError):
        return SourceError(
            f"{url}: {reason}: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or run where a role is given"
        )
    if isinstance(error, EndpointConnectionError):
        return SourceError(f"{url}: {reason}: check the network and AWS_ENDPOINT_URL, and run again")
    return SourceError(
        f"{url} cannot be listed ({type(error).__name__}: {reason}); what was done so far is safe, run again"
    )
