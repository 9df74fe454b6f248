"""Tables as they were: after a commit, or at a time.

A table's log says with each version which commit it had taken by then ("pinakes", n). What counts of it is the last
version before the next commit came, so that the last commit shows what is there now. Of a table that takes no commits
(`runs`, `people`, ...) it is the last version before that time. What was forgotten is not to be seen at any time, and
what optimizing has replaced not after its files are gone: then a table says how far back it goes.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from pinakes.catalog.commits import APPLICATION, LOG, applied
from pinakes.catalog.erasing import files
from pinakes.catalog.errors import QueryError

if TYPE_CHECKING:
    from pinakes.catalog.catalog import Catalog


@dataclass(frozen=True)
class Moment:
    """After commit `n`, and not after `until`, which is before the next one; None when there is no next one."""

    n: int
    until: datetime | None
    commits: Sequence[tuple[int, datetime]]  # all there are, with their times

    def first_at(self, time: datetime) -> int | None:
        """The first commit that can be asked for, so that everything since that time is seen."""
        before = [n for n, at in self.commits if at <= time]
        return before[-1] if before else None


def moment(catalog: "Catalog", at: int | str | datetime) -> Moment:
    """The moment that is meant: a commit's number, or a time, in ISO's spelling or not; UTC where it does not say.

    Raises QueryError (there was no such commit, or it lies ahead), CorruptCatalogError.
    """
    with catalog.storage.reporting(f"reading table {LOG}"):
        rows = catalog.table(LOG).to_pyarrow_dataset().to_table(columns=["n", "committed_at"]).sort_by("n")
    commits = list(zip(rows["n"].to_pylist(), rows["committed_at"].to_pylist(), strict=True))
    if not commits:
        raise QueryError(f"{catalog.url}: nothing has been committed yet, so there is nothing to look back to")
    (first, began), (last, ended) = commits[0], commits[-1]
    there_are = f"its commits are {first} ({_said(began)}) to {last} ({_said(ended)})"
    wanted = _parsed(at)
    if isinstance(wanted, int):
        if not first <= wanted <= last:
            raise QueryError(f"{catalog.url}: there is no commit {wanted}: {there_are}")
        after = [time for n, time in commits if n > wanted]
        return Moment(wanted, after[0] if after else None, commits)
    if wanted > datetime.now(UTC):
        raise QueryError(f"{catalog.url}: {_said(wanted)} is in the future: {there_are}")
    if wanted < began:
        raise QueryError(f"{catalog.url}: at {_said(wanted)} nothing had been committed: {there_are}")
    return Moment(max(n for n, time in commits if time <= wanted), wanted, commits)


def _parsed(at: int | str | datetime) -> int | datetime:
    if isinstance(at, int):
        return at
    try:
        if isinstance(at, str):
            if at.strip().isdecimal():
                return int(at)
            at = datetime.fromisoformat(at.strip())
        return at.replace(tzinfo=at.tzinfo or UTC).astimezone(UTC)
    except (ValueError, OverflowError):
        raise QueryError(
            f"{at!r} is neither the number of a commit nor a time such as 2026-05-01 or 2026-05-01T12:30:00+02:00"
        ) from None


def _said(time: datetime) -> str:
    return f"{time:%Y-%m-%dT%H:%M:%SZ}"


def table_at(catalog: "Catalog", name: str, then: Moment) -> DeltaTable:
    """The table as it was. Raises QueryError (it was not there yet, or what it was is gone), CorruptCatalogError."""
    with catalog.storage.reporting(f"reading the history of {name}"):
        now = catalog.table(name)
        log = _Log(catalog, name, now)
        at = log.at(then)
        if at is None:
            raise QueryError(_gone(name, then, log.since, log.starts_late))
        if at == len(log.versions) - 1:
            return now
        try:
            table = log.load(at)
        except DeltaError:
            table = None
        there = files(catalog.storage, name)
        if table is None or not _whole(table, there):
            raise QueryError(_gone(name, then, log.whole_since(there), True))
        return table


def _gone(name: str, then: Moment, since: datetime, is_gone: bool) -> str:
    when = f"after commit {then.n}" if then.until is None else f"before {_said(then.until)}"
    if not is_gone:
        return f"the table {name} was not there yet {when}: it was made at {_said(since)}"
    first = then.first_at(since)
    asked = f"--at {_said(since)}" if first is None else f"--at {first}"
    return (
        f"what the table {name} was {when} is gone, by a forgetting or an optimizing, or after a year: look back to "
        f"{_said(since)} at the most ({asked})"
    )


class _Log:
    """The versions of a table that its log still has, the oldest first."""

    def __init__(self, catalog: "Catalog", name: str, now: DeltaTable) -> None:
        self._uri, self._options = catalog.storage.table_uri(name), catalog.storage.delta_options
        self._taken: dict[int, int] = {}
        self._now = now
        entries: list[dict[str, Any]] = sorted(now.history(), key=lambda one: int(one["version"]))
        self.versions = [int(one["version"]) for one in entries]
        self._times = [datetime.fromtimestamp(one["timestamp"] / 1000, UTC) for one in entries]
        self._appends = [(one.get("operationParameters") or {}).get("mode") == "Append" for one in entries]

    @property
    def starts_late(self) -> bool:
        """Whether earlier versions are gone."""
        return self.versions[0] > 0

    @property
    def since(self) -> datetime:
        return self._times[0]

    def load(self, at: int) -> DeltaTable:
        return DeltaTable(self._uri, version=self.versions[at], storage_options=self._options)

    def _commit(self, at: int) -> int:
        """The last commit that it had taken by then."""
        if at not in self._taken:
            try:
                self._taken[at] = applied(self.load(at))
            except DeltaError:  # what it was made from is gone
                self._taken[at] = -1
        return self._taken[at]

    def at(self, then: Moment) -> int | None:
        """The position of the version of that moment; None when it is gone, or there was none yet."""
        last = len(self.versions) - 1
        in_time = last if then.until is None else bisect_right(self._times, then.until) - 1
        if self._now.transaction_version(APPLICATION) is None:
            return in_time if in_time >= 0 else None
        positions = range(len(self.versions))
        after = bisect_right(positions, then.n, key=self._commit) - 1
        if after < 0:
            return None
        # It may have taken the commit late, but at the latest with this version.
        at = bisect_left(positions, self._commit(after), key=self._commit)
        found = max(at, min(after, in_time))
        is_late = then.until is not None and self._times[found] > then.until
        return None if found == 0 and self.starts_late and is_late else found

    def whole_since(self, there: Any) -> datetime:
        """Since when every version has all its files."""
        for at in range(len(self.versions) - 1, 0, -1):
            if not self._appends[at]:
                try:
                    if _whole(self.load(at - 1), there):
                        continue
                except DeltaError:
                    pass
                return self._times[at]
        return self._times[0]


def _whole(table: DeltaTable, there: Any) -> bool:
    return set(pa.table(table.get_add_actions(flatten=True))["path"].to_pylist()) <= set(there)
