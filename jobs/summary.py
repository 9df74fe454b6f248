"""How a run went."""

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from pinakes.jobs.planning import PlanSummary
from pinakes.jobs.rows import Tables


@dataclass
class RunSummary:
    """How a run went. `looks` counts item x operator, by operator and status; `errors` counts items by code."""

    run_id: str
    status: Literal["finished", "interrupted", "budget"]  # budget: stopped there, and the next run goes on
    catalog: str
    plan: PlanSummary
    items: int = 0
    looks: dict[str, dict[str, int]] = field(default_factory=dict)
    results: dict[str, int] = field(default_factory=dict)
    errors: dict[str, int] = field(default_factory=dict)
    done_by_others: int = 0
    commits: int = 0
    start_s: float = 0.0  # until the first items were finished
    per_s: float = 0.0  # items a second from then to the last commit; 0 when all came at once
    video_s: float = 0.0  # of videos that were looked at, in their own time
    seconds: float = 0.0  # of the whole run
    cpu_s: dict[str, float] = field(default_factory=dict)  # by operator, and of decode and run, as in `usage`
    gpu_s: dict[str, float] = field(default_factory=dict)
    budget: dict[str, Any] | None = None  # the job's, with used_usd or used_video_minutes
    collection: dict[str, Any] | None = None  # of faces: name, faces, added, left_out, error

    def total(self, status: str) -> int:
        """Looks that ended with that status."""
        return sum(counts.get(status, 0) for counts in self.looks.values())

    @property
    def left(self) -> int:
        """Items that a run which stopped at its budget has left for the next."""
        return sum(self.plan.beyond.values()) + max(0, self.plan.due - self.items)

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self)

    def measure(self, measures: pa.Table) -> None:
        """What it took, as metering.MEASURES."""
        sums = measures.group_by("operator").aggregate([("cpu_s", "sum"), ("gpu_s", "sum")]).to_pylist()
        self.cpu_s = {row["operator"]: round(row["cpu_s_sum"], 3) for row in sums}
        self.gpu_s = {row["operator"]: round(row["gpu_s_sum"], 3) for row in sums if row["gpu_s_sum"]}

    def count(self, tables: Tables) -> None:
        """Take in the rows of some items. Windows do not count."""
        ledger = tables["ledger"].filter(pc.is_null(tables["ledger"]["window_start_ms"]))
        self.items += pc.count_distinct(ledger["item_key"]).as_py()
        for row in (
            ledger.group_by(["operator", "status"]).aggregate([([], "count_all"), ("results", "sum")]).to_pylist()
        ):
            counts = self.looks.setdefault(row["operator"], {})
            counts[row["status"]] = counts.get(row["status"], 0) + row["count_all"]
            self.results[row["operator"]] = self.results.get(row["operator"], 0) + row["results_sum"]
        bad = ledger.filter(pc.is_valid(ledger["error_code"]))
        for row in bad.group_by("error_code").aggregate([("item_key", "count_distinct")]).to_pylist():
            self.errors[row["error_code"]] = self.errors.get(row["error_code"], 0) + row["item_key_count_distinct"]
