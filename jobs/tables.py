"""What tables and views there are, their columns, types and meaning: out of the schemas of those who write them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from pinakes.catalog import face_tables, metering
from pinakes.catalog.schema import OWN_TABLES, result_schema
from pinakes.catalog.sql import described_views
from pinakes.operators.operator import available

if TYPE_CHECKING:
    from pinakes.catalog import Catalog

#: What fills a table that no operator does.
_BY_COMMAND = {
    **dict.fromkeys(OWN_TABLES, "pinakes run"),
    metering.TABLE: "pinakes run",
    "collections": "pinakes faces index",
    "collection_faces": "pinakes faces index",
    "people": "pinakes faces name",
    "audit": "pinakes faces search",
    "suppressions": "pinakes faces forget",
}


@dataclass(frozen=True)
class Column:
    """A column: its type in words, and what it means, with its unit."""

    name: str
    type: str
    meaning: str


@dataclass(frozen=True)
class Described:
    """A table or view: what a row of it is, what fills it, and its columns; of a catalogue's table its rows too."""

    name: str
    kind: str  # table or view
    a_row_is: str
    filled_by: str  # an operator or a command; of a view the tables it is made from
    columns: list[Column]
    rows: int | None = None


def schemas() -> dict[str, pa.Schema]:
    """Every table that this version and the operators on this machine can write, with its columns and description."""
    found = {**OWN_TABLES, metering.TABLE: metering.USAGE, **face_tables.TABLES}
    for tables in _of_operators().values():
        for name, columns in tables.items():
            found.setdefault(name, result_schema(columns).with_metadata(columns.metadata))
    return dict(sorted(found.items()))


def _of_operators() -> dict[str, dict[str, pa.Schema]]:
    loaded = {name: entry.load() for name, entry in sorted(available().items())}
    return {name: {**one.tables, **one.video_tables} for name, one in loaded.items()}


def filled_by(table: str) -> str | None:
    """What fills a table, in words; None of one that nobody here does."""
    names = [name for name, tables in _of_operators().items() if table in tables]
    if names:
        return f"the operator{'s' if names[1:] else ''} {' and '.join(names)}"
    command = _BY_COMMAND.get(table)
    return command and f"`{command}`"


def describe(catalog: "Catalog | None" = None) -> list[Described]:
    """All tables and views that there can be, or those of a catalogue. Raises CorruptCatalogError, StorageError."""
    known = schemas()
    rows: dict[str, int] = {}
    there = known
    if catalog is not None:
        rows = {one.name: one.rows for one in catalog.table_status()}
        there = {name: pa.schema(catalog.table(name).schema().to_arrow()) for name in rows}
    tables = [
        Described(
            name, "table", _said(known.get(name)), filled_by(name) or "", _columns(schema, [schema]), rows.get(name)
        )
        for name, schema in there.items()
    ]
    views = [
        Described(
            view.name,
            "view",
            view.description,
            ", ".join(name for name in view.needs if name in there),
            _columns(columns, [there[name] for name in view.needs if name in there], view.columns),
        )
        for view, columns in described_views(there)
    ]
    return tables + views


def _columns(schema: pa.Schema, sources: Iterable[pa.Schema], own: Mapping[str, str] | None = None) -> list[Column]:
    """The columns, with their own meaning or that of the first table that has one of that name."""
    meaning = {field.name: _said(field) for source in reversed(list(sources)) for field in source} | dict(own or {})
    return [Column(field.name, in_words(field.type), meaning.get(field.name, "")) for field in schema]


def _said(what: pa.Field | pa.Schema | None) -> str:
    metadata: dict[bytes, bytes] = (what.metadata if what is not None else None) or {}
    return metadata.get(b"description", b"").decode()


def in_words(kind: pa.DataType) -> str:
    """A type as people read it: list of struct (left float, ...)."""
    if pa.types.is_struct(kind):
        return f"struct ({', '.join(f'{field.name} {in_words(field.type)}' for field in kind)})"
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return f"list of {in_words(kind.value_type)}"
    if pa.types.is_timestamp(kind):
        return "timestamp, UTC"
    return str(kind)
