"""Dead files are rows; a source that does not answer ends the run."""

from pathlib import Path

import pyarrow as pa
import pytest

from pinakes.jobs.errors import SourceError
from pinakes.jobs.source_watch import DOUBTFUL, SourceWatch


def ledger(uris: list[str], code: str | None) -> pa.Table:
    return pa.table(
        {
            "uri": uris,
            "item_key": uris,
            "content_id": pa.array([None if code else "c"] * len(uris), pa.string()),
            "error_code": pa.array([code] * len(uris), pa.string()),
            "error_message": ["refused"] * len(uris),
        }
    )


@pytest.fixture
def photo(tmp_path: Path) -> str:
    (tmp_path / "photo.jpg").write_bytes(b"bytes")
    return f"file://{tmp_path}/photo.jpg"


def test_a_source_that_refuses_everything_ends_the_run() -> None:
    watch = SourceWatch("s3://bucket", 10**6, None)
    watch.check(ledger([f"s3://bucket/{number}" for number in range(DOUBTFUL - 1)], "permission_denied"))
    with pytest.raises(SourceError, match=r"s3://bucket cannot be read.*refused"):
        watch.check(ledger(["s3://bucket/last"], "permission_denied"))


def test_dead_files_do_not_while_another_can_be_read(photo: str) -> None:
    dead = [f"file:///gone/{number}" for number in range(DOUBTFUL)]
    watch = SourceWatch("file:///archive", 10**6, None)
    watch.check(ledger([photo], None))
    watch.check(ledger(dead, "not_found"))
    # Nor when it was an earlier run that could read one.
    SourceWatch("file:///archive", 10**6, photo).check(ledger(dead, "not_found"))


def test_a_source_that_stops_answering_ends_the_run(photo: str) -> None:
    watch = SourceWatch("file:///archive", 10**6, None)
    watch.check(ledger([photo], None))
    Path(photo.removeprefix("file://")).unlink()
    with pytest.raises(SourceError, match="check credentials"):
        watch.check(ledger([f"file:///gone/{number}" for number in range(DOUBTFUL)], "not_found"))
