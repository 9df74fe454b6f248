"""Other engines read what we write: the same rows and types, by the Delta log alone.

DuckDB reads the Parquet files that the log names (its extension for Delta is fetched from a server of its own), Polars
by `scan_delta`, pyarrow as a dataset of files.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import polars
import pyarrow as pa
import pyarrow.dataset as ds
import pytest
from deltalake import write_deltalake

from pinakes.catalog import Catalog
from pinakes.catalog.erasing import erase
from pinakes.jobs.tables import schemas
from tests.catalog.label_rows import commit, label, thing


def made_up(kind: pa.DataType, seed: int) -> Any:
    """A value of that type; every third is null, also inside."""
    if pa.types.is_struct(kind):
        return {field.name: made_up(field.type, 1) for field in kind}
    if pa.types.is_list(kind):
        return [made_up(kind.value_type, 1)] * (seed % 3)
    if pa.types.is_timestamp(kind):
        return datetime(2026, 5, 1, 12, 30, seed, 123456, UTC)
    if pa.types.is_boolean(kind):
        return seed % 2 == 0
    return f"text {seed} \U0001f431" if pa.types.is_string(kind) else seed


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    """Every table that there can be, with rows in all columns and others with nulls; some parts written anew."""
    made = Catalog(str(tmp_path_factory.mktemp("engines") / "catalog"), create=True)
    for name in ("a", "b", "c"):
        commit(made, {"labels": {name: [label(f"cat {name}", 0.5, "animal")]}, "objects": {name: [thing("cat", 0.5)]}})
    for name, schema in schemas().items():
        if name in ("commits", "ledger", "runs", "labels", "objects"):
            continue
        rows = [
            {field.name: None if field.nullable and seed == 3 else made_up(field.type, seed) for field in schema}
            for seed in (1, 2, 3)
        ]
        write_deltalake(made.table(name, schema), pa.Table.from_pylist(rows, schema), mode="append")
    erase(made, "labels", "name", pa.array(["cat b"]))
    for name in ("labels", "objects", "ledger"):
        made.table(name).optimize.compact()
    return made


def by_duckdb(catalog: Catalog, name: str) -> pa.Table:
    with duckdb.connect() as connection:
        return connection.read_parquet(catalog.table(name).file_uris()).to_arrow_table()


def by_polars(catalog: Catalog, name: str) -> pa.Table:
    return polars.scan_delta(catalog.storage.table_uri(name)).collect().to_arrow()


def by_pyarrow(catalog: Catalog, name: str) -> pa.Table:
    return ds.dataset(catalog.table(name).file_uris(), format="parquet").to_table()


def plain(kind: pa.DataType) -> str:
    """A type without what engines spell differently: wide texts, names inside of lists, time zones."""
    if pa.types.is_struct(kind):
        return f"struct<{', '.join(f'{field.name} {plain(field.type)}' for field in kind)}>"
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return f"list<{plain(kind.value_type)}>"
    if pa.types.is_timestamp(kind):
        assert kind.tz is not None
        return kind.unit
    return str(kind).removeprefix("large_").removesuffix("_view")


def in_order(table: pa.Table) -> list[str]:
    return sorted(repr([_same(value) for value in row.values()]) for row in table.to_pylist())


def _same(value: Any) -> Any:
    return value.astimezone(UTC).isoformat() if isinstance(value, datetime) else value


@pytest.mark.parametrize("engine", [by_duckdb, by_polars, by_pyarrow])
def test_another_engine_reads_every_table_as_we_do(
    catalog: Catalog, engine: Callable[[Catalog, str], pa.Table]
) -> None:
    tables = catalog.tables()
    assert set(schemas()) == set(tables)
    for name in tables:
        ours, theirs = catalog.sql(f'FROM "{name}"'), engine(catalog, name)
        assert ours.num_rows == theirs.num_rows > 1, name
        assert ours.column_names == theirs.column_names, name
        assert [plain(kind) for kind in theirs.schema.types] == [plain(kind) for kind in ours.schema.types], name
        assert in_order(theirs) == in_order(ours), name


def test_the_types_in_the_files_are_those_of_the_schemas(catalog: Catalog) -> None:
    for name, schema in schemas().items():
        ours = catalog.sql(f'FROM "{name}" LIMIT 0')
        assert {field.name: plain(field.type) for field in ours.schema} == {
            field.name: plain(field.type) for field in schema
        }, name


def test_a_filter_on_a_nested_column_finds_the_same_in_all(catalog: Catalog) -> None:
    url = str(Path(catalog.storage.table_uri("objects")))
    with duckdb.connect() as connection:
        found = connection.read_parquet(catalog.table("objects").file_uris()).filter("box.width > 0.2")
        assert len(found.fetchall()) == 3
    assert polars.scan_delta(url).filter(polars.col("box").struct.field("width") > 0.2).collect().height == 3
    files = ds.dataset(catalog.table("objects").file_uris(), format="parquet")
    assert files.count_rows(filter=ds.field("box", "width") > 0.2) == 3
