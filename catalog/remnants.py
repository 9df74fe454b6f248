"""Looking for what should be gone: in every file below a catalogue, also in those that no table names."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pinakes.catalog.errors import StorageError
from pinakes.catalog.storage import Storage

_ID = re.compile(rb"(?=([0-9a-f]{32}))")
#: Of a file that is no Parquet, so much is read at a time.
PIECE = 8 * 2**20
#: Where the state of this forgetting itself is, until it is done.
STATE = "_pinakes/forgetting/"


@dataclass
class Check:
    """What was read, and what was found that should be gone: paths in the catalogue, without what was found there."""

    parquet_files: int = 0
    other_files: int = 0
    bytes: int = 0
    #: Parquet files that cannot be read, which no table names.
    unreadable: list[str] = field(default_factory=list)
    found: list[str] = field(default_factory=list)


def look_for(storage: Storage, ids: Sequence[str], names: Sequence[str], tables: Sequence[str]) -> Check:
    """Read every text in every Parquet file, and every byte of all other files.

    `ids` are of 32 hex digits and sought everywhere, also inside other text; `names` as whole texts, in `tables` and
    beside the tables only, since a name may also be a label's or a folder's. Raises StorageError.
    """
    check = Check()
    wanted = pa.array(sorted(set(ids)), pa.string())
    as_bytes = {one.encode() for one in ids}
    quoted = [quote for name in names for quote in _quoted(name)]
    storage.filesystem.invalidate_cache()
    with storage.reporting("listing"):
        everything = storage.filesystem.find(storage.root, detail=True)
    for path, about in sorted(everything.items()):
        relative = path[len(storage.root) + 1 :]
        if relative.startswith(STATE):
            continue
        check.bytes += int(about["size"] or 0)
        may_name = relative.split("/")[0] in {*tables, "_pinakes"}
        try:
            if relative.endswith(".parquet"):
                check.parquet_files += 1
                found = _in_parquet(storage, path, wanted, as_bytes, list(names) if may_name else [])
            else:
                check.other_files += 1
                found = _in_bytes(storage, path, as_bytes, quoted if may_name else [])
        except FileNotFoundError:
            continue  # another process has removed it
        except pa.ArrowInvalid:
            check.unreadable.append(relative)
            continue
        if found:
            check.found.append(relative)
    return check


def _quoted(name: str) -> set[bytes]:
    """As a JSON text, with other letters than ASCII's as they are or by number."""
    return {json.dumps(name).encode(), json.dumps(name, ensure_ascii=False).encode()}


def _in_parquet(storage: Storage, path: str, ids: pa.Array, as_bytes: set[bytes], names: list[str]) -> bool:
    with storage.reporting(f"reading {path}"), storage.filesystem.open(path, "rb") as file:
        parquet = pq.ParquetFile(file)
        leaves = [parquet.schema.column(at) for at in range(len(parquet.schema))]
        columns = [leaf.path for leaf in leaves if leaf.physical_type == "BYTE_ARRAY"]
        if not columns:
            return False
        for batch in parquet.iter_batches(columns=columns):
            for text in (text for column in batch.columns for text in _texts(column)):
                if pc.any(pc.is_in(text, ids)).as_py():
                    return True
                if names and pc.any(pc.is_in(text, pa.array(names))).as_py():
                    return True
                longer = text.filter(pc.greater(pc.binary_length(text), 32))
                longer = longer.filter(pc.match_substring_regex(longer, "[0-9a-f]{32}"))
                if any(_has_id(one.encode(), as_bytes) for one in pc.unique(longer).to_pylist()):
                    return True
    return False


def _texts(column: pa.Array) -> Iterator[pa.Array]:
    """The texts in a column, however deep in lists and structs."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        yield from _texts(column.dictionary_decode())
    elif pa.types.is_map(kind):
        yield from _texts(column.keys)
        yield from _texts(column.items)
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        yield from _texts(column.flatten())
    elif pa.types.is_struct(kind):
        for child in column.flatten():
            yield from _texts(child)
    elif pa.types.is_string(kind) or pa.types.is_large_string(kind):
        yield column.cast(pa.string())
    elif pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        valid = column.drop_null()
        yield pa.array([one.decode("utf-8", "replace") for one in valid.to_pylist()], pa.string())


def _in_bytes(storage: Storage, path: str, ids: set[bytes], quoted: list[bytes]) -> bool:
    """A name in the line of a Delta log that says which columns there are is a column's."""
    overlap = max([32, *map(len, quoted)])
    with storage.reporting(f"reading {path}"), storage.filesystem.open(path, "rb") as file:
        before = b""
        while piece := file.read(PIECE):
            data = before + piece
            if _has_id(data, ids):
                return True
            lines = [line for line in data.splitlines() if b'"metaData"' not in line] if quoted else []
            if any(one in line for line in lines for one in quoted):
                return True
            before = data[-overlap:]
    return False


def _has_id(data: bytes, ids: set[bytes]) -> bool:
    return any(found[1] in ids for found in _ID.finditer(data))


def refuse_unreadable(storage: Storage, check: Check, tables: Sequence[str]) -> None:
    """Raises StorageError when one of the tables that were erased from has a file that could not be read."""
    for path in check.unreadable:
        if path.split("/")[0] in tables:
            raise StorageError(f"{storage.url}: {path} cannot be read, so nobody can tell what is in it: remove it")
