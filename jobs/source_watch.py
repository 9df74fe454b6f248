"""Tells files that cannot be fetched from a source that does not answer any more."""

import pyarrow as pa
import pyarrow.compute as pc

from pinakes.jobs.errors import SourceError
from pinakes.jobs.fetch import opened
from pinakes.operators.errors import ErrorCode, MediaError

#: So many items in a row that cannot be fetched, and the source itself is questioned.
DOUBTFUL = 50

_ACCESS = [code.value for code in (ErrorCode.PERMISSION_DENIED, ErrorCode.UNREACHABLE, ErrorCode.NOT_FOUND)]


class SourceWatch:
    """Sees every row of the ledger before it is committed."""

    def __init__(self, source: str, max_bytes: int, readable: str | None) -> None:
        """`readable` is an item that an earlier run could read, if there is one."""
        self._source = source
        self._max_bytes = max_bytes
        self._readable = readable
        self._in_a_row = 0

    def check(self, ledger: pa.Table) -> None:
        """Raises SourceError when the last items could not be fetched, nor one that could be before."""
        refused = pc.is_in(ledger["error_code"], pa.array(_ACCESS))
        answered = ledger.filter(pc.invert(refused))
        if answered.num_rows:
            read = answered.filter(pc.is_valid(answered["content_id"]))
            self._readable = read["uri"][-1].as_py() if read.num_rows else self._readable
            self._in_a_row = 0
            return
        self._in_a_row += pc.count_distinct(ledger["item_key"]).as_py()
        if self._in_a_row < DOUBTFUL:
            return
        try:
            if self._readable is not None:
                with opened(self._readable) as (source, _):
                    _ = source if isinstance(source, str) else source.read(1)
                self._in_a_row = 0
                return
        except MediaError:
            pass
        last = ledger["error_message"][-1].as_py()
        raise SourceError(
            f"{self._source} cannot be read: {self._in_a_row} files in a row were refused, the last with: {last}. "
            "What was committed is safe; check credentials and connection, and run again"
        )
