"""Planning at scale: `pinakes plan` with nothing left to do, and `pinakes status`, over a made-up archive.

    python -m tests.benchmarks.planning [ITEMS]

makes a manifest of ITEMS (1,000,000) and a catalogue whose ledger has every one of them done by three operators, then
prints the seconds and the peak memory of each command, in a process of its own.
"""

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pinakes.catalog import Catalog
from pinakes.catalog.catalog import new_run_id
from pinakes.catalog.schema import LEDGER
from pinakes.jobs.listing import source_url
from pinakes.operators.operator import create

OPERATORS = ("media", "labels", "objects")
#: Items of one commit: a ledger of a million items comes from many runs.
COMMIT = 100_000
#: Every so many items, one that failed for good.
FAILED_EVERY = 1000


@dataclass(frozen=True)
class Measured:
    """One command: its exit code, what it wrote to standard output, seconds, peak resident memory in bytes."""

    code: int
    output: str
    seconds: float
    peak_bytes: int


#: Between us and the command stands a small process: a child's peak begins at that of the process that it came from.
_WATCH = """
import json, resource, subprocess, sys, time
began = time.monotonic()
done = subprocess.run(sys.argv[1:], stdout=subprocess.PIPE, text=True)
seconds, peak = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
print(json.dumps({"code": done.returncode, "output": done.stdout, "seconds": seconds, "peak_bytes": peak}))
"""


def measure(*arguments: str) -> Measured:
    """Run `pinakes` with those arguments in a process of its own."""
    command = [sys.executable, "-c", _WATCH, str(Path(sys.executable).with_name("pinakes")), *arguments]
    return Measured(**json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout))


def make(folder: Path, items: int) -> tuple[Path, Path]:
    """A manifest of that many items, and a catalogue that is done with them but for every thousandth, which failed."""
    manifest, url = folder / "manifest.parquet", folder / "catalog"
    catalog = Catalog(str(url), create=True)
    run_id = new_run_id()
    run = {"run_id": run_id, "job": "made", "source": source_url(str(manifest)), "spec": "{}", "operators": "{}"}
    run |= {"versions": "{}", "host": "here"}
    catalog.record_run({**run, "status": "started"})
    log = catalog.commit_log(run_id, {}, since=0)
    schema = pa.schema([pa.field("uri", pa.string()), pa.field("version", pa.string()), pa.field("size", pa.int64())])
    with pq.ParquetWriter(manifest, schema) as writer:
        for start in range(0, items, COMMIT):
            numbers = range(start, min(start + COMMIT, items))
            uris = [f"file:///archive/{number // 1000:06d}/photo-{number:09d}.jpg" for number in numbers]
            versions = [f"{number + 100_000}-1700000000{number:09d}" for number in numbers]
            sizes = [number + 100_000 for number in numbers]
            writer.write_table(pa.table({"uri": uris, "version": versions, "size": sizes}, schema=schema))
            log.commit({"ledger": _ledger(uris, versions, numbers)})
    catalog.record_run({**run, "status": "finished"})
    return manifest, url


def _ledger(uris: list[str], versions: list[str], numbers: range) -> pa.Table:
    keys = [sha256(f"{uri}\0{version}".encode()).hexdigest()[:32] for uri, version in zip(uris, versions, strict=True)]
    failed = [number % FAILED_EVERY == 0 for number in numbers]
    count = len(uris)
    parts = []
    for name in OPERATORS:
        operator = create(name)
        columns = {
            "uri": uris,
            "item_key": keys,
            "content_id": keys,
            "operator": [name] * count,
            "model": [operator.model] * count,
            "fingerprint": [operator.fingerprint] * count,
            "window_start_ms": pa.nulls(count, pa.int64()),
            "attempt": [1] * count,
            "status": ["failed" if bad else "ok" for bad in failed],
            "results": [0 if bad else 3 for bad in failed],
            "error_code": ["truncated" if bad else None for bad in failed],
            "error_message": ["ends before its picture does" if bad else None for bad in failed],
            "finished_at": [datetime.now(UTC)] * count,
        }
        parts.append(pa.table(columns, schema=pa.schema([field for field in LEDGER if field.name in columns])))
    return pa.concat_tables(parts)


def main(items: int) -> None:
    """Make it, measure, print."""
    with tempfile.TemporaryDirectory(prefix="pinakes-planning-") as folder:
        began = time.monotonic()
        manifest, catalog = make(Path(folder), items)
        print(
            f"{items:,} items, {len(OPERATORS) * items:,} rows in the ledger, made in {time.monotonic() - began:.0f} s"
        )
        for arguments in (
            ("plan", str(manifest), "--catalog", str(catalog), "--operators", ",".join(OPERATORS), "--json"),
            ("status", "--catalog", str(catalog), "--json"),
        ):
            found = measure(*arguments)
            print(f"{arguments[0]:8} {found.seconds:6.1f} s  {found.peak_bytes / 2**20:6.0f} MiB  exit {found.code}")
            if arguments[0] == "plan":
                print(json.dumps(json.loads(found.output)))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
