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

SCHEMA = pa.schema([("taken", pa.timestamp("us", "UTC")), ("value", pa.int64()), ("age", pa.float64())])


@pytest.mark.parametrize("values", [[1, 2], [-(2**63), 2**63 - 1], [None, None]])
def test_odd_dates_and_numbers(tmp_path: Path, values: list[int | None]) -> None:
    storage = Storage(str(tmp_path))
    with pytest.raises(TableNotFoundError):
        DeltaTable(str(tmp_path / "odd"))
    days = [datetime(1, 1, 1, tzinfo=UTC), datetime(2024, 1, 1, tzinfo=UTC)]
    rows = pa.table(
        {"taken": days, "value": values, "age": [41.25, 7]},
        SCHEMA,
    )
    _add(open_table(storage, "odd", SCHEMA), [write_part(storage, "odd", rows, 1)], SCHEMA, 1)

    table = DeltaTable(str(tmp_path / "odd"))
    assert pa.table(table.get_add_actions(flatten=True))["num_records"].to_pylist() == [2]
    year_2000 = datetime(2000, 1, 1, tzinfo=UTC)
    assert table.to_pyarrow_table(filters=[("taken", "<", year_2000)]).num_rows == 1
    assert table.to_pyarrow_table(filters=[("taken", ">", year_2000)]).num_rows == 1
    # What a model measured would outlive its row there: the least and the greatest of a part are somebody's.
    assert "41.25" not in "".join(path.read_text() for path in (tmp_path / "odd" / "_delta_log").glob("*.json"))
