"""Search among faces: our module on a real Milvus server, on Milvus Lite, and brute force, in one run.

    python -m tests.benchmarks.faces [--vectors 1000000] [--dimensions 128,512] [--index HNSW,M=32,ef=256]...
                                     [--ef 128,256] [--lite] [--rounds 3] [--json FILE]

The vectors are drawn like those of faces (identities.py says how). They are loaded by catalog/milvus.py, with all the
columns of a face, into a server that has just started; then it is settled (no row without its index), stopped and
started again, so that its memory is that of a server which holds the collection and nothing else. Then come 1000
searches for the ten nearest, one after the other, each a request with all its columns in the answer; and again in
further rounds, for a machine is rarely quiet. What a search takes of the processors' time, ours and the server's, says
more of a machine that others use too. Four of five queries are further photos of people who are there.

Recall is the share of the ten truly nearest (faiss, every vector) that are found. Many of the ten are strangers, barely
nearer than thousands of others; so it is told too of those alone that are the person who was looked for.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import psutil
import pyarrow as pa
from pymilvus import MilvusClient
from rich.console import Console
from rich.table import Table

from pinakes.catalog.index_choice import Index, bytes_per_vector, choose
from pinakes.catalog.milvus import FIELDS, Vectors, opened
from tests.benchmarks.identities import People
from tests.benchmarks.identities import Vectors as Matrix
from tests.benchmarks.measure import alone
from tests.benchmarks.photos import machine
from tests.milvus_server import serve

TOP = 10
QUERIES = 1000
#: Of brute force, and of Milvus Lite: they take longer, and are all alike.
FEW_QUERIES = 200
LITE = (10_000, 100_000)
#: Rows of one call of `Vectors.add`, as face_loading.py makes them.
STEP = 20_000

#: One large segment in the place of many small ones, each of which a search goes through. As it comes, a server 2.3
#: seals a segment at a quarter of 512 MB, indexes it, merges it with others and indexes that anew; and it seals one
#: that has come in 32 pieces of 16 MB.
SERVER = {
    "dataCoord.segment.maxSize": 8192,
    "dataCoord.segment.sealProportion": 1.0,
    "dataCoord.segment.maxBinlogFileNumber": 1024,
}


@dataclass(frozen=True)
class Drawn:
    """Vectors to load, queries, and their TOP nearest by brute force: rows, and whether they are the query's person."""

    vectors: Matrix
    queries: Matrix
    nearest: np.ndarray
    same: np.ndarray
    exact_ms: float  # of one search by brute force, on all cores, the median

    @classmethod
    def draw(cls, count: int, dimensions: int) -> "Drawn":
        random = np.random.default_rng(7)
        people = People.draw(count, dimensions, random)
        vectors, owners = people.faces(random)
        queries, persons = people.queries(QUERIES, random)
        index = faiss.IndexFlatIP(dimensions)
        index.add(vectors)
        nearest = index.search(queries, TOP)[1]
        taken = [_timed(partial(index.search, query[None], TOP)) for query in queries[:FEW_QUERIES]]
        return cls(vectors, queries, nearest, owners[nearest] == persons[:, None], 1000 * statistics.median(taken))


@dataclass(frozen=True)
class Round:
    """Searches, one after the other."""

    p50_ms: float
    p99_ms: float
    recall: float
    recall_same: float  # of those that are the query's person
    cpu_ms: float  # of one search, our side and the server's: what it takes however busy the machine is
    load: float  # of the machine, as `uptime` says it, the last minute


@dataclass(frozen=True)
class Point:
    """One collection, measured."""

    where: str
    vectors: int
    dimensions: int
    index: dict[str, Any]  # type and parameters
    load_per_s: float  # rows
    ready_s: float  # from the last row to the last one indexed
    memory_bytes: float  # that the server takes for the collection
    index_bytes: float  # of a vector, computed
    rounds: list[Round]
    exact_ms: float

    @property
    def best(self) -> Round:
        """The round that the machine disturbed least."""
        return min(self.rounds, key=lambda one: one.p99_ms)


def on_server(drawn: Drawn, index: Index, efs: Sequence[int], rounds: int, say: Callable[[str], None]) -> list[Point]:
    """Load, settle, restart, search; once with each `ef`, or with the index's own parameters."""
    count, dimensions = drawn.vectors.shape
    with tempfile.TemporaryDirectory(prefix="pinakes-faces-") as scratch:
        with serve(Path(scratch), SERVER) as (uri, _), opened("faces", uri) as vectors:
            load_per_s, ready_s = _filled(vectors, drawn, index, say)
            # Else the server would load it again as soon as it starts.
            MilvusClient(uri).release_collection("faces")
        with serve(Path(scratch), SERVER) as (uri, pid):
            server = psutil.Process(pid)
            time.sleep(3)
            empty = server.memory_info().rss
            with opened("faces", uri) as vectors:
                assert vectors.count() == count
                memory = server.memory_info().rss - empty
                say(f"started again, with {memory / 1e6:,.0f} MB more than without the collection")
                size = bytes_per_vector(index, dimensions)
                first = Point(
                    "server 2.3.5", count, dimensions, {}, load_per_s, ready_s, memory, size, [], drawn.exact_ms
                )
                return list(_searched(vectors, drawn, index, efs, rounds, QUERIES, first, say, server))


def on_lite(drawn: Drawn, index: Index, efs: Sequence[int], rounds: int, folder: str) -> list[Point]:
    """The same with Milvus Lite, to be called in a process of its own twice: the second time it finds it filled."""
    os.environ["PINAKES_CACHE"] = folder
    facts = Path(folder) / "facts.json"
    with opened("faces", None) as vectors:
        if not vectors.exists:
            facts.write_text(json.dumps(_filled(vectors, drawn, index, print)))
            return []
    before = psutil.Process().memory_info().rss
    with opened("faces", None) as vectors:
        count, dimensions = drawn.vectors.shape
        assert vectors.count() == count
        load_per_s, ready_s = json.loads(facts.read_text())
        first = Point("Lite 3.2.2", count, dimensions, {}, load_per_s, ready_s, 0, 0, [], drawn.exact_ms)
        found = list(_searched(vectors, drawn, index, efs, rounds, FEW_QUERIES, first, print))
        memory = psutil.Process().memory_info().rss - before
    size = bytes_per_vector(index, dimensions)
    return [replace(point, memory_bytes=memory, index_bytes=size) for point in found]


def _filled(vectors: Vectors, drawn: Drawn, index: Index, say: Callable[[str], None]) -> tuple[float, float]:
    """Rows per second, and the seconds until they are all indexed."""
    count, dimensions = drawn.vectors.shape
    vectors.create(dimensions, index)
    seconds = 0.0
    for start in range(0, count, STEP):
        rows = _rows(start, drawn.vectors[start : start + STEP])
        seconds += _timed(partial(vectors.add, rows, may_be_there=False))
    say(f"loaded: {count / seconds:,.0f} rows/s")
    ready_s = _timed(vectors.settle)
    say(f"indexed in {ready_s:,.0f} s")
    return count / seconds, ready_s


def _rows(first: int, vectors: Matrix) -> pa.Table:
    """Faces as face_loading.py has them."""
    numbers = range(first, first + len(vectors))
    columns: dict[str, Any] = {
        "face_id": [f"{number:032x}" for number in numbers],
        "uri": [f"file:///archive/{number // 1000:06d}/photo-{number:09d}.jpg" for number in numbers],
        "source": ["file:///archive"] * len(numbers),
        "captured_at": [1_600_000_000_000 + 60_000 * number for number in numbers],
        "gender": [("female", "male")[number % 2] for number in numbers],
    }
    columns["frame_ms"] = pa.nulls(len(numbers), pa.int64())
    columns |= {name: [0.5] * len(numbers) for name in FIELDS.names if name not in columns}
    table = pa.table(columns, schema=FIELDS)
    flat = pa.array(vectors.reshape(-1))
    offsets = pa.array(np.arange(len(vectors) + 1, dtype=np.int32) * vectors.shape[1])
    return table.append_column("vector", pa.ListArray.from_arrays(offsets, flat))


def _searched(
    vectors: Vectors,
    drawn: Drawn,
    index: Index,
    efs: Sequence[int],
    rounds: int,
    queries: int,
    first: Point,
    say: Callable[[str], None],
    server: psutil.Process | None = None,
) -> Iterator[Point]:
    for parameters in [{"ef": ef} for ef in efs if "ef" in index.search] or [index.search]:
        found = []
        _round(vectors, drawn, parameters, queries // 10, server)
        for _ in range(rounds):
            found.append(one := _round(vectors, drawn, parameters, queries, server))
            say(
                f"{parameters}: p50 {one.p50_ms:.1f}, p99 {one.p99_ms:.1f}, CPU {one.cpu_ms:.1f} ms, recall "
                f"{one.recall:.4f}, of the same person {one.recall_same:.4f}, load {one.load:.1f}"
            )
        yield replace(first, index={"type": index.type, **index.build, **parameters}, rounds=found)


def _round(
    vectors: Vectors, drawn: Drawn, parameters: dict[str, Any], queries: int, server: psutil.Process | None
) -> Round:
    cpu_s = _cpu_s(server)
    taken, hits, persons_hits = [], 0, 0
    for query, nearest, same in zip(drawn.queries[:queries], drawn.nearest, drawn.same, strict=False):
        began = time.perf_counter()
        matches = vectors.search(query[None], TOP, parameters=parameters)[0]
        taken.append(1000 * (time.perf_counter() - began))
        found = {int(match["face_id"], 16) for match in matches}
        hits += len(found & set(nearest.tolist()))
        persons_hits += len(found & set(nearest[same].tolist()))
    p50, p99 = map(float, np.percentile(taken, [50, 99]))
    same_there = int(drawn.same[:queries].sum())
    cpu_ms = 1000 * (_cpu_s(server) - cpu_s) / queries
    return Round(p50, p99, hits / queries / TOP, persons_hits / same_there, cpu_ms, os.getloadavg()[0])


def _cpu_s(server: psutil.Process | None) -> float:
    """Of this process, and of the server, since they started."""
    times = server.cpu_times() if server else None
    return time.process_time() + (times.user + times.system if times else 0)


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def table(points: Sequence[Point]) -> Table:
    shown = Table(title=f"one search for the {TOP} nearest", title_justify="left")
    for title in (
        "vectors",
        "index",
        "rows/s",
        "ready s",
        "p50 ms",
        "p99 ms (worst round)",
        "CPU ms",
        "recall",
        "same person",
    ):
        shown.add_column(title, justify="left" if title in ("vectors", "index") else "right")
    for title in ("memory MB", "bytes a vector", "index alone", "brute force ms", "load"):
        shown.add_column(title, justify="right")
    for point in points:
        best, kind = point.best, dict(point.index)
        shown.add_row(
            f"{point.vectors:,} x {point.dimensions}, {point.where}",
            f"{kind.pop('type')} {' '.join(f'{name}={value}' for name, value in kind.items())}",
            f"{point.load_per_s:,.0f}",
            f"{point.ready_s:,.0f}",
            f"{best.p50_ms:.1f}",
            f"{best.p99_ms:.1f} ({max(one.p99_ms for one in point.rounds):.1f})",
            f"{best.cpu_ms:.1f}",
            f"{best.recall:.4f}",
            f"{best.recall_same:.4f}",
            f"{point.memory_bytes / 1e6:,.0f}",
            f"{point.memory_bytes / point.vectors:,.0f}",
            f"{point.index_bytes:,.0f}",
            f"{point.exact_ms:.1f}",
            f"{best.load:.1f}",
        )
    return shown


def _index(written: str) -> dict[str, Any]:
    """HNSW,M=32,ef=256 as settings."""
    kind, *words = written.split(",")
    pairs = (word.split("=", 1) for word in words)
    return {"type": kind, **{name: int(value) if value.isdigit() else value for name, value in pairs}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--vectors", type=int, help="1,000,000; with --lite 10,000 and 100,000")
    parser.add_argument("--dimensions", default="128", help="with commas between")
    parser.add_argument("--index", type=_index, action="append", help="as HNSW,M=32,ef=256; as the program chooses it")
    parser.add_argument("--ef", default="", help="search with each of these in turn, with commas between")
    parser.add_argument("--lite", action="store_true", help="Milvus Lite, not a server")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="file that the figures go to")
    arguments = parser.parse_args()
    versions = {name: version(name) for name in ("pymilvus", "milvus", "milvus-lite", "faiss-cpu")}
    about = {"machine": machine(), "versions": versions}
    print(about["machine"], ", ".join(f"{name} {number}" for name, number in versions.items()), sep="\n")
    efs = [int(ef) for ef in arguments.ef.split(",") if ef]
    sizes = [arguments.vectors] if arguments.vectors else list(LITE) if arguments.lite else [1_000_000]
    asked: list[dict[str, Any] | None] = arguments.index or [None]
    points: list[Point] = []
    for dimensions in map(int, arguments.dimensions.split(",")):
        for count in sizes:
            drawn = Drawn.draw(count, dimensions)
            for settings in asked:
                index = choose(count, dimensions, arguments.lite, settings)
                print(f"{count:,} x {dimensions}, {index.type}: {index.why}", flush=True)
                if arguments.lite:
                    with tempfile.TemporaryDirectory(prefix="pinakes-faces-") as folder:
                        for _ in range(2):
                            found = alone(os.cpu_count() or 1, on_lite, drawn, index, efs, arguments.rounds, folder)
                else:
                    found = on_server(drawn, index, efs, arguments.rounds, lambda line: print(line, flush=True))
                points += found
                if arguments.json:
                    figures = {**about, "points": [asdict(point) for point in points]}
                    arguments.json.write_text(json.dumps(figures, indent=1))
    Console(width=200).print(table(points))


if __name__ == "__main__":
    main()
