"""What is made of a video as a whole, when all its windows have been looked at: its shots, spans and tracks.

A short video comes in one piece and is finished before it is committed. The rows of a long one come window by window,
are committed so, and are read back; its own row of the ledger, from which on it counts, comes with what is made of
them. What keeps a run from that, a kill among it, is made up for by the next, which finds all windows done.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pinakes.catalog import Catalog
from pinakes.catalog.commits import CommitLog
from pinakes.catalog.schema import LOOK
from pinakes.jobs.interrupts import uninterrupted
from pinakes.jobs.rows import Item, Rows, Sight, Tables, concatenated
from pinakes.jobs.summary import RunSummary
from pinakes.jobs.watch import FACTS, MINUTE_MS, OPENED, WATCHED, WINDOWS, at_hand, look_at_container
from pinakes.operators.errors import ErrorCode
from pinakes.operators.operator import MediaFacts, Operator, WholeVideo
from pinakes.operators.video import WINDOW_MS

#: Of how much video the rows are read back together: ten million in all, at most.
TOGETHER_MS = 8 * 3_600_000
#: Videos that have to be sought in the whole catalogue are finished when there are so many, or at the end.
WAITING = 2000

#: The operator whose rows say which frames were looked at.
FRAMES = "frames"


@dataclass
class _Long:
    """A long video, or one whose rows are not all at hand."""

    item: Item
    #: Looks at windows that this run has yet to commit: operator and start.
    left: set[tuple[str, int]]
    #: The commits that its rows came with; None when not all of them are known.
    commits: set[int] | None = field(default_factory=set)


class Finisher:
    """Knows the videos that a run has opened, and finishes each when it can be."""

    def __init__(
        self,
        catalog: Catalog,
        log: CommitLog,
        operators: Mapping[str, Operator],
        fingerprints: Mapping[str, str],
        sampling: str,
        summary: RunSummary,
    ) -> None:
        """`fingerprints` are those for videos, by operator."""
        self._catalog = catalog
        self._log = log
        self._operators = operators
        self._fingerprints = fingerprints
        self._sampling = sampling
        self._summary = summary
        self._long: dict[str, _Long] = {}
        #: Of these, those that are due to be finished.
        self._complete: list[_Long] = []
        #: The length of all the videos that were opened and have to be looked at.
        self.opened_s = 0.0
        #: The windows of long videos, to be looked at.
        self.windows: list[pa.Table] = []

    def take(self, rows: Tables) -> tuple[Tables, int]:
        """A piece as it comes: without what it says of opened videos, and with what is made of short ones.

        Returns it and how many of its items are not finished with it.
        """
        rows = dict(rows)
        opened = rows.pop(OPENED, None)
        windows = rows.pop(WINDOWS, None)
        watched = rows.pop(WATCHED, None)
        if watched is not None:
            self._summary.video_s += sum(watched["ms"].to_pylist()) / 1000
        if windows is not None and windows.num_rows:
            self.windows.append(windows)
            if len(self.windows) > 1000:  # a table costs more than its rows
                self.windows = [pa.concat_tables(self.windows).combine_chunks()]
        unfinished = 0
        for item in opened.to_pylist() if opened is not None else ():
            self.opened_s += _seconds(item, windows)
            with_all = at_hand(item, self._operators)
            if with_all and not item["window_starts"]:
                rows = self._whole_at_once(item, rows)
                continue
            left = {
                (name, window["window_start_ms"])
                for window in (windows.to_pylist() if windows is not None else ())
                for name in window["operators"]
            }
            # Of all that will be read back the commits are known only if this run looks at all of it.
            known = with_all and left and not item["looked"] and FRAMES in item["operators"]
            self._long[item["item_key"]] = one = _Long(item, left, set() if known else None)
            if not left:
                self._complete.append(one)
            unfinished += 1
        return rows, unfinished

    def _whole_at_once(self, item: Item, rows: Tables) -> Tables:
        """A short video, alone in its piece."""
        made = Rows(self._operators)
        looks = rows["ledger"].to_pylist()
        seen = {name: table for name, table in rows.items() if name != "ledger"}
        for look in looks:
            made.took_before(look)
        self._make(item, looks, seen, np.array(item["sampled"] or [], np.int64), made)
        of_container = [name for name in item["operators"] if self._operators[name].sees == "container"]
        kept = rows["ledger"].filter(pc.is_in(rows["ledger"]["operator"], pa.array(of_container, pa.string())))
        return concatenated([{**seen, "ledger": kept}, made.tables()])

    # --- long ones

    def committed(self, commits: Iterable[tuple[int | None, pa.Table]]) -> int:
        """Windows have been committed: finish the videos that are complete. Returns how many there are."""
        for n, ledger in commits:
            windows = ledger.filter(pc.is_valid(ledger["window_start_ms"]))
            for look in windows.select(["item_key", "operator", "window_start_ms"]).to_pylist():
                long = self._long.get(look["item_key"])
                if long is None or not long.left:
                    continue
                long.left.discard((look["operator"], look["window_start_ms"]))
                if n is None:
                    long.commits = None
                elif long.commits is not None:
                    long.commits.add(n)
                if not long.left:
                    self._complete.append(long)
        some = [one for one in self._complete if one.commits is not None]
        sought = [one for one in self._complete if one.commits is None]
        if len(sought) >= WAITING:
            some, sought = some + sought, []
        self._complete = sought
        return self._finish(some)

    def finish_left(self) -> int:
        """At the end of a run, when others may have looked at some of the windows. Returns how many are finished."""
        for one in self._long.values():
            one.commits = None
        return self._finish(list(self._long.values()))

    def _finish(self, videos: Sequence[_Long]) -> int:
        before = self._summary.items
        tables = self._tables()
        for some in _groups(videos):
            known = [one.commits for one in some]
            commits = None if None in known else sorted(set().union(*(one for one in known if one is not None)))
            keys = [one.item["item_key"] for one in some]
            ledger = self._read("ledger", keys, commits).to_pylist()
            seen = {table: self._read(table, keys, commits) for table in tables}
            made = Rows(self._operators)
            for one in some:
                looks = [look for look in ledger if look["item_key"] == one.item["item_key"]]
                self._finish_one(one, looks, seen, made)
            rows = made.tables()
            if rows["ledger"].num_rows:
                with uninterrupted():
                    self._summary.count(rows)
                    self._summary.commits += self._log.commit(rows) is not None
        return self._summary.items - before

    def _tables(self) -> list[str]:
        """Those that something is made of."""
        making = [one for one in self._operators.values() if one.video_tables]
        names = {FRAMES, *(one.name for one in making), *(name for one in making for name in one.follows)}
        return sorted({table for name in names & self._operators.keys() for table in self._operators[name].tables})

    def _finish_one(self, video: _Long, ledger: list[dict[str, Any]], tables: Tables, made: Rows) -> None:
        item = video.item
        newest: dict[tuple[str, int | None], dict[str, Any]] = {}
        for look in sorted(ledger, key=lambda look: look["attempt"]):
            if look["fingerprint"] == self._fingerprints.get(look["operator"]):
                newest[look["operator"], look["window_start_ms"]] = look
        looks = list(newest.values())
        seeing = [name for name in item["operators"] if self._operators[name].sees in ("pictures", "every frame")]
        if any((name, start) not in newest for name in seeing for start in item["window_starts"]):
            return  # another run is at it, or was broken off: whoever comes next finishes it
        ok = pa.Table.from_pylist(
            [{name: look[name] for name in (*LOOK, "n")} for look in looks if look["status"] == "ok"],
            pa.schema([self._log.schemas["ledger"].field(name) for name in (*LOOK, "n")]),
        )
        seen = {
            table: _of_looks(rows.filter(pc.equal(rows["item_key"], item["item_key"])), ok)
            for table, rows in tables.items()
        }
        sampled = seen[FRAMES]["frame_ms"].to_numpy() if FRAMES in seen else np.zeros(0, np.int64)
        # Of what is due the looks at windows, or now at the whole; of what is followed the look that counts.
        attempts = dict(zip(item["operators"], item["attempts"], strict=True))
        telling = [
            look
            for look in looks
            if look["attempt"] == attempts.get(look["operator"])
            or (look["operator"] in attempts) == (look["window_start_ms"] is not None)
        ]
        self._make(item, telling, seen, np.unique(sampled), made)
        del self._long[item["item_key"]]

    def _read(self, table: str, keys: list[str], commits: list[int] | None) -> pa.Table:
        """The rows of those items; of the parts only those of the commits, by their statistics."""
        condition = pc.field("item_key").isin(keys)
        if commits is not None:
            condition = pc.field("n").isin(commits) & condition
        with self._catalog.storage.reporting(f"reading table {table}"):
            return self._catalog.table(table).to_pyarrow_dataset().to_table(filter=condition)

    # --- both

    def _make(self, item: Item, looks: list[dict[str, Any]], seen: Tables, sampled: np.ndarray, made: Rows) -> None:
        """The rows of the whole, and for each operator that is due the item's own row of the ledger."""
        whole = Sight(item, item["content_id"])
        made.lasts(item, (item["duration_ms"] or (int(sampled[-1]) if len(sampled) else 0)) / MINUTE_MS)
        facts = MediaFacts(media_type="video", **{name: item[name] for name in FACTS.names}, size=item["size"])
        failures = _failures(looks, len(item["window_starts"]))
        if item["window_starts"]:
            look_at_container(item, facts, self._operators, made)
        for name in item["operators"]:
            operator = self._operators[name]
            if operator.sees == "container":
                continue
            failed = [failures[one] for one in (name, *operator.follows) if one in failures]
            if failed:
                made.fail(item, [name], *failed[0], item["content_id"])
                continue
            count = sum(look["results"] for look in looks if look["operator"] == name)
            try:
                found = operator.finish(self._video(operator, item, facts, sampled, seen))
                made.add_whole(operator, whole, found, count)
            except Exception as error:  # an operator may be anyone's code
                made.fail_look(operator, whole, error)
                failures[name] = ErrorCode.OPERATOR_FAILED, f"{name} failed on it"

    def _video(
        self, operator: Operator, item: Item, facts: MediaFacts, sampled: np.ndarray, seen: Tables
    ) -> WholeVideo:
        names = [name for name in (operator.name, *operator.follows) if name in self._operators]
        rows = {}
        for table in {table for name in names for table in self._operators[name].tables}:
            if table not in seen:
                continue
            by = {self._fingerprints[name]: name for name in names if table in self._operators[name].tables}
            found = seen[table]
            found = found.filter(pc.is_in(found["fingerprint"], pa.array(list(by))))
            said = pa.array([by[one] for one in found["fingerprint"].to_pylist()], pa.string())
            found = found.append_column("operator", said)
            own = {column for name in names for column in self._operators[name].tables.get(table, pa.schema([])).names}
            kept = [name for name in found.column_names if name in own | {"frame_ms", "window_start_ms", "operator"}]
            rows[table] = found.select(kept)
        return WholeVideo(item["item_key"], facts, sampled, self._sampling, rows)


def _groups(videos: Sequence[_Long]) -> Iterator[list[_Long]]:
    """Some at a time, known commits and others apart."""
    for known in (True, False):
        some: list[_Long] = []
        length = 0
        for one in videos:
            if (one.commits is not None) == known:
                some.append(one)
                length += one.item["duration_ms"] or WINDOW_MS
                if length >= TOGETHER_MS:
                    yield some
                    some, length = [], 0
        if some:
            yield some


def _seconds(item: Item, windows: pa.Table | None) -> float:
    """How much of a video is to be looked at, as far as its length is known."""
    if not item["window_starts"]:
        return (item["duration_ms"] or 0) / 1000
    bounds = windows.select(["window_start_ms", "window_end_ms"]).to_pylist() if windows is not None else []
    ends = [one["window_end_ms"] or item["duration_ms"] or one["window_start_ms"] for one in bounds]
    return float(sum(ends) - sum(one["window_start_ms"] for one in bounds)) / 1000


def _failures(looks: list[dict[str, Any]], windows: int) -> dict[str, tuple[ErrorCode, str]]:
    """By operator why it has failed, if it has: the first window that did, and how many."""
    found: dict[str, tuple[ErrorCode, str]] = {}
    bad = [look for look in looks if look["status"] != "ok"]
    # One that is worth trying again decides that all are.
    for look in sorted(
        bad, key=lambda look: (not ErrorCode(look["error_code"]).transient, look["window_start_ms"] or 0)
    ):
        if look["operator"] not in found:
            message = look["error_message"] or ""
            if look["window_start_ms"] is not None:
                count = sum(one["operator"] == look["operator"] for one in bad)
                start = look["window_start_ms"] / 1000
                message = f"{count} of {windows} windows failed, one at {start:.0f} s: {message}"
            found[look["operator"]] = ErrorCode(look["error_code"]), message
    return found


def _of_looks(rows: pa.Table, looks: pa.Table) -> pa.Table:
    """The rows that those looks found, by window and time."""
    # By the commit too: an optimizing that was killed leaves rows of looks that it has dropped.
    keys = [*(name for name in LOOK if name != "window_start_ms"), "n"]
    starts = [pc.fill_null(one["window_start_ms"], -1) for one in (rows, looks)]
    place = rows.select(keys).append_column("start", starts[0]).append_column("at", pa.array(np.arange(rows.num_rows)))
    wanted = looks.select(keys).append_column("start", starts[1])
    found = rows.take(place.join(wanted, keys=[*keys, "start"], join_type="left semi")["at"].sort())
    return found.sort_by([("window_start_ms", "ascending"), ("frame_ms", "ascending")])
