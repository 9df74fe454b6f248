"""What a catalogue holds: tables, runs, and what failed."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pinakes.catalog.sql import query

if TYPE_CHECKING:
    from pinakes.catalog.catalog import Catalog

#: The newest row of each run; one that has only its first is running, or was killed.
_RUNS = """
    SELECT run_id, arg_max(status, recorded_at) AS status, min(recorded_at) AS started,
           date_diff('millisecond', min(recorded_at), max(recorded_at)) / 1000 AS seconds,
           max(items) AS items, max(ok) AS ok, max(failed) AS failed, max(skipped) AS skipped,
           any_value(source) AS source, any_value(message) AS message
    FROM runs GROUP BY run_id ORDER BY started DESC LIMIT 10
"""

_FAILURES = """
    SELECT operator, status, error_code, count(*) AS items, any_value(uri) AS example,
           any_value(error_message) AS message
    FROM latest_ledger WHERE status <> 'ok' AND window_start_ms IS NULL GROUP BY ALL ORDER BY items DESC, operator
"""


def status(catalog: "Catalog") -> dict[str, Any]:
    """`catalog`, `tables`, `runs` (the last ten) and `failures` (of the newest looks, by operator and code)."""
    return {
        "catalog": catalog.url,
        "tables": [asdict(table) for table in catalog.table_status()],
        "runs": query(catalog, _RUNS).to_pylist(),
        "failures": query(catalog, _FAILURES).to_pylist(),
    }
