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
#: By table the column in which names of persons stand. That of `collections` stays as it is; see forgetting.py.
NAMED = {"people": "name", "audit": "condition"}
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


def look_for(storage: Storage, ids: Sequence[str], names: Sequence[str]) -> Check:
    """Read every text in every Parquet file, and every byte of all other files.

    `ids` are of 32 hex digits and sought everywhere, also inside other text; `names` where NAMED says that names of
    persons stand, since a person may also be called as a collection, a label or a folder is. Raises StorageError.
    """
    check = Check()
    wanted = pa.array(sorted(set(ids)), pa.string())
    as_bytes = {one.encode() for one in ids}
    storage.filesystem.invalidate_cache()
    with storage.reporting("listing"):
        everything = storage.filesystem.find(storage.root, detail=True)
    for path, about in sorted(everything.items()):
        relative = path[len(storage.root) + 1 :]
        if relative.startswith(STATE):
            continue
        check.bytes += int(about["size"] or 0)
        table = relative.split("/")[0]
        column, spelled = NAMED.get(table, ""), list(names) if table in NAMED else []
        try:
            if relative.endswith(".parquet"):
                check.parquet_files += 1
                found = _in_parquet(storage, path, wanted, as_bytes, column, spelled)
            else:
                check.other_files += 1
                found = _in_bytes(storage, path, as_bytes, [one for name in spelled for one in _logged(column, name)])
        except FileNotFoundError:
            continue  # another process has removed it
        except pa.ArrowInvalid:
            check.unreadable.append(relative)
            continue
        if found:
            check.found.append(relative)
    return check


def _logged(column: str, name: str) -> set[bytes]:
    """As the least or greatest text of a part stands in a Delta log: JSON in JSON, with or without ASCII alone."""
    pair = f'"{column}":{{}}'
    inner = {pair.format(json.dumps(name, ensure_ascii=ascii_only)) for ascii_only in (True, False)}
    return {json.dumps(one, ensure_ascii=ascii_only)[1:-1].encode() for one in inner for ascii_only in (True, False)}


def _in_parquet(
    storage: Storage, path: str, ids: pa.Array, as_bytes: set[bytes], named: str, names: Sequence[str]
) -> bool:
    """`named` is the column in which one of `names` would stand, as all of it or, of a condition, as a part."""
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
                longer = text.filter(pc.greater(pc.binary_length(text), 32))
                longer = longer.filter(pc.match_substring_regex(longer, "[0-9a-f]{32}"))
                if any(_has_id(one.encode(), as_bytes) for one in pc.unique(longer).to_pylist()):
                    return True
            if named in batch.schema.names and names and _names(batch[named].cast(pa.string()), named, names):
                return True
    return False


def _names(text: pa.Array, column: str, names: Sequence[str]) -> bool:
    if column != "condition":
        return bool(pc.any(pc.is_in(text, pa.array(names))).as_py())
    spelled = [name.replace("'", "''") for name in names]
    return any(pc.any(pc.match_substring(text, one, ignore_case=True)).as_py() for one in spelled)


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


def _in_bytes(storage: Storage, path: str, ids: set[bytes], logged: list[bytes]) -> bool:
    """`logged` is what a name would be in a Delta log; the line there that says which columns there are has others."""
    overlap = max([32, *map(len, logged)])
    with storage.reporting(f"reading {path}"), storage.filesystem.open(path, "rb") as file:
        before = b""
        while piece := file.read(PIECE):
            data = before + piece
            if _has_id(data, ids):
                return True
            lines = [line for line in data.splitlines() if b'"metaData"' not in line] if logged else []
            if any(one in line for line in lines for one in logged):
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
