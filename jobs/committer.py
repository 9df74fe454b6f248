"""Between the pipeline and the commit log: rows wait here until it is time to commit them."""

import time

from pinakes.catalog.commits import CommitLog
from pinakes.jobs.interrupts import uninterrupted
from pinakes.jobs.look import Tables
from pinakes.jobs.pipeline import look_name
from pinakes.jobs.summary import RunSummary
from pinakes.jobs.supervisor import concatenated

#: Rows wait in the driver up to this size for the next commit.
COMMIT_BYTES = 64 * 2**20


class Committer:
    """Collects rows and commits them every so often."""

    def __init__(self, log: CommitLog, every_s: float, summary: RunSummary) -> None:
        self._log = log
        self._every_s = every_s
        self._summary = summary
        self._waiting: list[Tables] = []
        self._bytes = 0
        self._told = 0
        self._last = time.monotonic()

    def add(self, rows: Tables) -> None:
        """Take the rows of finished items; commit when it is time. Raises CatalogError."""
        with uninterrupted():
            self._waiting.append(rows)
            self._bytes += sum(table.nbytes for table in rows.values())
            self._summary.count(rows)
            if time.monotonic() - self._last >= self._every_s or self._bytes >= COMMIT_BYTES:
                self.commit()

    @property
    def dropped(self) -> int:
        """Looks of this run that another had committed first."""
        return self._log.dropped

    def news(self) -> list[str]:
        """The looks that other runs were found to have committed, since this was last asked."""
        found = self._log.done_by_others.slice(self._told)
        self._told += found.num_rows
        return [look_name(*look) for look in zip(*(column.to_pylist() for column in found.columns), strict=True)]

    def commit(self) -> None:
        """Commit what waits."""
        with uninterrupted():
            if self._waiting and self._log.commit(concatenated(self._waiting)) is not None:
                self._summary.commits += 1
            self._waiting, self._bytes, self._last = [], 0, time.monotonic()
