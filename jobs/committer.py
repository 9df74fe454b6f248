"""Between the pipeline and the commit log: rows wait here until it is time to commit them."""

import math
import time

import pyarrow as pa
import pyarrow.compute as pc

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
#: CPU seconds at the end of a run that are worth a commit of their own.
WORTH_S = 1.0


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
        #: Minutes of video that each operator has looked at: those of a long one are metered when all of it is done.
        self._minutes: dict[str, float] = {}
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
            looks = metering.of_looks(rows["ledger"])
            self._measures = metering.total([self._measures, looks, spent])
            self._watch(rows["ledger"], looks, spent)
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
        """What the run has taken so far, as rows of USAGE: committed or not, windows of long videos among it."""
        log = self._log
        measures = metering.total([log.measures, log.carried, self._measures])
        videos = measures.filter(pc.equal(measures["unit"], metering.VIDEO_MINUTES))
        metered = dict(zip(videos["operator"].to_pylist(), videos["amount"].to_pylist(), strict=True))
        left = {name: minutes - metered.get(name, 0.0) for name, minutes in self._minutes.items()}
        more = metering.spent(
            {
                (name, metering.VIDEO_MINUTES): [0, minutes, math.ceil(minutes), 0, 0]
                for name, minutes in left.items()
                if minutes > 0
            }
        )
        return metering.usage(metering.total([measures, more]), log.run_id, log.job)

    def spend(self, rows: Tables) -> None:
        """What a piece took of which others had committed all looks."""
        self._log.carry(rows.get(metering.SPENT, self._measures.slice(0, 0)))

    def end(self) -> None:
        """The last of a run: what this process took since the last commit, and what no commit has yet."""
        self.commit()
        if time.process_time() - self._spent_s >= WORTH_S:
            self._log.carry(self._of_driver())
        self._log.commit_rest()

    def _of_driver(self) -> pa.Table:
        """What this process took since this was last asked."""
        before, self._spent_s = self._spent_s, time.process_time()
        return metering.of_run(self._spent_s - before)

    def _watch(self, ledger: pa.Table, looks: pa.Table, spent: pa.Table) -> None:
        """Take in the minutes of videos, or of a window, that a piece has."""
        videos = looks.filter(pc.equal(looks["unit"], metering.VIDEO_MINUTES))
        minutes = list(zip(videos["operator"].to_pylist(), videos["amount"].to_pylist(), strict=True))
        of_windows = pc.and_(pc.is_valid(ledger["window_start_ms"]), pc.equal(ledger["status"], "ok"))
        if windows := ledger.filter(of_windows)["operator"].unique().to_pylist():
            decoded = spent.filter(pc.equal(spent["unit"], metering.VIDEO_MINUTES))
            watched = float(pc.sum(decoded["amount"]).as_py() or 0)
            minutes += [(name, watched) for name in windows]
        for name, more in minutes:
            self._minutes[name] = self._minutes.get(name, 0.0) + more

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
                rows = concatenated([*self._waiting, {metering.SPENT: self._of_driver()}])
                n = self._log.commit(rows)
                self._summary.commits += n is not None
                committed = [(n, rows["ledger"])]
            self._waiting, self._bytes, self._last = [], 0, time.monotonic()
            self._measures = self._measures.slice(0, 0)
            return committed
