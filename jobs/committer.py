"""Between the pipeline and the commit log: rows wait here until it is time to commit them."""

import time

import pyarrow as pa

from pinakes.catalog import metering
from pinakes.catalog.commits import CommitLog
from pinakes.jobs.interrupts import uninterrupted
from pinakes.jobs.pipeline import look_name
from pinakes.jobs.rows import Tables, concatenated
from pinakes.jobs.summary import RunSummary

#: A window of a video is the work of a minute or more: it waits no longer than this.
WINDOW_WAITS_S = 5
#: Rows wait in the driver up to this size for the next commit.
COMMIT_BYTES = 64 * 2**20


class Committer:
    """Collects rows and commits them every so often."""

    def __init__(self, log: CommitLog, every_s: float, summary: RunSummary, spent_s: float) -> None:
        """`spent_s` is the CPU time of this process when the run began: what it takes is the run's."""
        self._log = log
        self._every_s = every_s
        self._summary = summary
        self._spent_s = spent_s
        self._waiting: list[Tables] = []
        #: Of what waits.
        self._measures = metering.MEASURES.empty_table()
        self._bytes = 0
        self._told = 0
        self._last = time.monotonic()

    def add(self, rows: Tables) -> list[tuple[int | None, pa.Table]]:
        """Take the rows of items, or of windows; commit when it is time.

        Returns what `commit` does; nothing when it was not time. Raises CatalogError.
        """
        with uninterrupted():
            self._waiting.append(rows)
            spent = rows.get(metering.SPENT, self._measures.slice(0, 0))
            self._measures = metering.total([self._measures, metering.of_looks(rows["ledger"]), spent])
            self._bytes += sum(table.nbytes for table in rows.values())
            self._summary.count(rows)
            windows = rows["ledger"]["window_start_ms"].null_count < rows["ledger"].num_rows
            every_s = min(self._every_s, WINDOW_WAITS_S) if windows else self._every_s
            if time.monotonic() - self._last >= every_s or self._bytes >= COMMIT_BYTES:
                return self.commit()
            return []

    @property
    def dropped(self) -> int:
        """Looks of this run that another had committed first."""
        return self._log.dropped

    def usage(self) -> pa.Table:
        """What the run has taken so far, as rows of USAGE: what is committed and what waits."""
        log = self._log
        return metering.usage(metering.total([log.measures, self._measures]), log.run_id, log.job)

    def news(self) -> list[str]:
        """The looks that other runs were found to have committed, since this was last asked."""
        found = self._log.done_by_others.slice(self._told)
        self._told += found.num_rows
        return [look_name(*look) for look in zip(*(column.to_pylist() for column in found.columns), strict=True)]

    def commit(self) -> list[tuple[int | None, pa.Table]]:
        """Commit what waits. Returns the commit's number, None when others had committed all of it, and its ledger."""
        with uninterrupted():
            committed = []
            if self._waiting:
                now_s = time.process_time()
                of_driver = metering.spent({(metering.RUN, None): [now_s - self._spent_s, 0, 0, 0, 0]})
                self._spent_s = now_s
                rows = concatenated([*self._waiting, {metering.SPENT: of_driver}])
                n = self._log.commit(rows)
                self._summary.commits += n is not None
                committed = [(n, rows["ledger"])]
            self._waiting, self._bytes, self._last = [], 0, time.monotonic()
            self._measures = self._measures.slice(0, 0)
            return committed
