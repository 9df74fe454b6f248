"""A process that optimizes again and again, and a catalogue with something to drop."""

import pyarrow as pa

from pinakes.catalog import Catalog
from pinakes.catalog.catalog import new_run_id
from pinakes.catalog.optimizing import optimize
from tests.faults.committing import TABLES, made_rows


def add_old_versions(url: str, items: int, together: int) -> None:
    """Commit looks at older versions of those items, so many in a commit."""
    catalog = Catalog(url, create=True)
    log = catalog.commit_log(new_run_id(), TABLES, catalog.finish())
    for start in range(0, items, together):
        rows = made_rows(list(range(start, start + together)), seed=0)
        for name, table in rows.items():
            keys = pa.array([f"{'f' * 8}{key[8:]}" for key in table["item_key"].to_pylist()])
            rows[name] = table.set_column(table.column_names.index("item_key"), table.schema.field("item_key"), keys)
        log.commit(rows)


def keep_optimizing(url: str) -> None:
    """Until it is killed."""
    while True:
        optimize(Catalog(url), drop_superseded=True, keep_days=1)
