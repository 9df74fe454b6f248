"""SQL at scale: a million rows of labels grouped by name, beside DuckDB reading the same Parquet files directly.

    python -m tests.benchmarks.questions [ROWS]

makes a catalogue of ROWS (1,000,000) labels of ROWS / 8 pictures, half of them looked at twice, in commits of 20,000
pictures, and prints the seconds of each question, the best of three, and their ratio to the same question over
`read_parquet` of the table's own files. A connection to the catalogue is made anew for each question, as
`pinakes sql` does.
"""

import json
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from pinakes.catalog import Catalog
from pinakes.catalog.schema import LEDGER, result_schema
from pinakes.operators.label_rows import SCHEMA

LABELS_PER_PICTURE = 8
COMMIT = 20_000
#: Operators that looked at every picture as well: they have their rows in the ledger.
OTHERS = ("faces", "media", "moderation", "objects", "properties", "text")
#: Each question, and the same over `files`, the Parquet files of `labels`, where they can answer it.
QUESTIONS = {
    "all rows by name": (
        "SELECT name, count(*) AS rows FROM labels GROUP BY name ORDER BY name",
        "SELECT name, count(*) AS rows FROM files GROUP BY name ORDER BY name",
    ),
    "current rows by name": (
        "SELECT name, count(*) AS rows FROM latest_labels GROUP BY name ORDER BY name",
        "SELECT name, count(*) AS rows FROM files WHERE fingerprint = 'new' GROUP BY name ORDER BY name",
    ),
    "pictures by name or ancestor": (
        "SELECT name, count(DISTINCT uri) AS pictures FROM labels_all GROUP BY name ORDER BY name",
        "SELECT name, count(DISTINCT uri) AS pictures FROM (SELECT uri, unnest(list_prepend(name, ancestors)) AS name "
        "FROM files WHERE fingerprint = 'new') GROUP BY name ORDER BY name",
    ),
}


def make(url: str, rows: int) -> Catalog:
    """A catalogue of that many labels, as two runs with different settings leave it, half of them current."""
    catalog = Catalog(url, create=True)
    random = np.random.default_rng(7)
    names = np.array([f"thing {number:03d}" for number in range(1000)])
    ancestors = [[f"kind {number % 97}", f"realm {number % 7}"] for number in range(1000)]
    pictures = rows // LABELS_PER_PICTURE // 2
    uris = np.array([f"s3://archive/{number // 1000:05d}/photo-{number:09d}.jpg" for number in range(pictures)])
    keys = np.array([sha256(uri.encode()).hexdigest()[:32] for uri in uris])
    for fingerprint in ("old", "new"):
        operators = json.dumps({"labels": {"model": "made", "fingerprint": fingerprint}})
        run = {"run_id": fingerprint, "job": "made", "source": "s3://archive", "spec": "{}", "operators": operators}
        run |= {"versions": "{}", "host": "here"}
        catalog.record_run({**run, "status": "started"})
        log = catalog.commit_log(fingerprint, {"labels": SCHEMA}, since=0)
        for start in range(0, pictures, COMMIT):
            some = slice(start, start + COMMIT)
            looks = {"uri": uris[some], "item_key": keys[some], "content_id": keys[some]}
            each = np.repeat(np.arange(len(uris[some])), LABELS_PER_PICTURE)
            label = random.zipf(1.3, len(each)) % len(names)
            found = {name: column[each] for name, column in looks.items()} | {
                "name": names[label],
                "confidence": random.random(len(each), np.float32),
                "ancestors": [ancestors[one] for one in label],
                "categories": [["Made"]] * len(each),
            }
            ledger = looks | {"finished_at": datetime.now(UTC), "status": "ok", "results": LABELS_PER_PICTURE}
            rows_of = [_rows(LEDGER, ledger | {"operator": name}, fingerprint) for name in ("labels", *OTHERS)]
            labels = _rows(result_schema(SCHEMA), found, fingerprint)
            log.commit({"labels": labels, "ledger": pa.concat_tables(rows_of)})
    return catalog


def _rows(schema: pa.Schema, columns: dict[str, Any], fingerprint: str) -> pa.Table:
    """The columns as a table, those of one value repeated, those that are missing null."""
    count = len(columns["uri"])
    columns = columns | {"model": "made", "fingerprint": fingerprint, "attempt": 1}
    fields = [field for field in schema if field.name not in ("run_id", "n")]
    return pa.table(
        [
            pa.array(value, field.type)
            if isinstance(value := columns.get(field.name), (list, np.ndarray))
            else pa.repeat(pa.scalar(value, field.type), count)
            for field in fields
        ],
        schema=pa.schema(fields),
    )


def best(ask: Callable[[], pa.Table]) -> tuple[pa.Table, float]:
    """The answer, and the seconds of the quickest of three."""
    taken = []
    for _ in range(3):
        began = time.monotonic()
        answer = ask()
        taken.append(time.monotonic() - began)
    return answer, min(taken)


def main(rows: int) -> None:
    """Make it, measure, print."""
    with tempfile.TemporaryDirectory(prefix="pinakes-questions-") as folder:
        catalog = make(folder, rows)
        files = catalog.table("labels").file_uris()

        def directly(query: str) -> pa.Table:
            with duckdb.connect() as connection:
                connection.execute(f"CREATE VIEW files AS FROM read_parquet({files})")
                return connection.sql(query).to_arrow_table()

        for name, (ours, theirs) in QUESTIONS.items():
            answer, seconds = best(lambda query=ours: catalog.sql(query))  # type: ignore[misc]
            same, direct = best(lambda query=theirs: directly(query))  # type: ignore[misc]
            assert answer.equals(same.cast(answer.schema)), name
            print(f"{name:30} {seconds:6.2f} s   read_parquet {direct:6.2f} s   {seconds / direct:5.1f} times")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
