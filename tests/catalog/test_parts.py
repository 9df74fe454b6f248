"""Statistics of parts never hide a row from an engine that skips files by them."""

from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError

from pinakes.catalog.commits import _add, open_table
from pinakes.catalog.parts import write_part
from pinakes.catalog.storage import Storage

SCHEMA = pa.schema([("taken", pa.timestamp("us", "UTC")), ("value", pa.float64())])


@pytest.mark.parametrize(
    "values", [[1.5, 2.5], [float("nan"), 1.0], [float("inf"), 1.0], [float("-inf"), float("nan")], [None, None]]
)
def test_odd_dates_and_numbers(tmp_path: Path, values: list[float | None]) -> None:
    storage = Storage(str(tmp_path))
    with pytest.raises(TableNotFoundError):
        DeltaTable(str(tmp_path / "odd"))
    rows = pa.table(
        {"taken": [datetime(1, 1, 1, tzinfo=UTC), datetime(2024, 1, 1, tzinfo=UTC)], "value": values}, SCHEMA
    )
    _add(open_table(storage, "odd", SCHEMA), [write_part(storage, "odd", rows, 1)], SCHEMA, 1)

    table = DeltaTable(str(tmp_path / "odd"))
    assert pa.table(table.get_add_actions(flatten=True))["num_records"].to_pylist() == [2]
    year_2000 = datetime(2000, 1, 1, tzinfo=UTC)
    assert table.to_pyarrow_table(filters=[("taken", "<", year_2000)]).num_rows == 1
    assert table.to_pyarrow_table(filters=[("taken", ">", year_2000)]).num_rows == 1
