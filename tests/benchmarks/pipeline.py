"""How much of the bare models' speed a run keeps, and what the same models take in two other engines.

    python -m tests.benchmarks.pipeline [FOLDER ...] [--photos 800] [--workers 2] [--operators labels,objects]

All over the same photos, with the same operators and settings:
(a) the bare loop: one process per core, each decodes a photo once and shows it to every operator, in batches of the
    size that a run has (a model's weights stay in the cache for a batch); no Ray, no tables;
(b) `pinakes run`;
(c) Ray Data as its guide says (peers_ray.py);
(d) Daft as its guide says (peers_daft.py); needs `pip install -e '.[benchmark]'`, which installs an older pyarrow.
(a) comes before and after (b), since machines are shared.

Each runs in a process of its own, twice: over a few photos and over all of them. What the second run took more than
the first is what the photos took; photos/s and CPU are of that. Starting Ray, processes and models, and the last
commit, are in both runs alike, and reported apart. CPU is that of every process of the engine, and much steadier than
wall time on a machine with other work to do.

FOLDER holds photos; those of `coco` and `imagenet` of PINAKES_EVAL and of `make demo` are added where they are there.
(c) and (d) leave out the operator `media`, which has no model. They give rows of Parquet: no ledger, no second run
that knows what the first did, and one file that cannot be read ends them.
"""

import argparse
import multiprocessing
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from pinakes.catalog import Catalog
from pinakes.cluster.connection import connected
from pinakes.jobs import run
from pinakes.jobs.watch import BATCH
from pinakes.operators.decode import decode, single_thread
from pinakes.operators.operator import Operator, Picture, create
from tests.benchmarks.measure import Contender, Measured, Work, compare
from tests.benchmarks.peers_daft import daft_udfs
from tests.benchmarks.peers_ray import ray_data
from tests.benchmarks.photos import folders, for_photos, machine, make_archive

#: Photos of the first run for each worker: enough for every process to start and load.
FEW = 16


def bare_loop(work: Work) -> Iterator[None]:
    """(a)."""
    return side_by_side(work, look_at_photos)


def side_by_side(work: Work, look: Callable[[list[Path], list[Operator]], None]) -> Iterator[None]:
    """Each of as many processes as there are workers looks at its share of the files, with loaded operators."""
    spawn = multiprocessing.get_context("spawn")
    files = sorted(work.folder.iterdir())
    step = spawn.Barrier(work.workers + 1)
    shares = [files[one :: work.workers] for one in range(work.workers)]
    processes = [spawn.Process(target=_bare, args=(look, share, work.operators, step), daemon=True) for share in shares]
    for process in processes:
        process.start()
    step.wait()  # all models are loaded
    yield
    step.wait()
    step.wait()  # all files are looked at
    yield
    step.wait()


def _bare(
    look: Callable[[list[Path], list[Operator]], None],
    files: list[Path],
    settings: dict[str, dict[str, Any]],
    step: Barrier,
) -> None:
    """One process's share."""
    try:
        single_thread()
        operators = [create(name, chosen) for name, chosen in settings.items()]
        for operator in operators:
            operator.load()
        step.wait()
        step.wait()
        look(files, operators)
        step.wait()
        step.wait()
    except BaseException:
        step.abort()  # else the others would wait for ever
        raise


def look_at_photos(files: list[Path], operators: list[Operator]) -> None:
    """Each decoded once, in batches of the size that a run has."""
    for start in range(0, len(files), BATCH):
        batch = files[start : start + BATCH]
        pictures = [
            Picture(*decode(file.read_bytes(), name=file.name), item_key=file.stem.rjust(32, "0")) for file in batch
        ]
        for operator in operators:
            operator.look(pictures)


def pinakes_run(work: Work) -> Iterator[None]:
    """(b)."""
    with connected(work.workers):
        yield
        summary = run(work.folder, catalog=work.out, operators=work.operators, workers=work.workers)
        assert summary.total("failed") == 0, summary.looks
        yield


def written(letter: str, work: Work, photos: int) -> int | str:
    """How many rows the operators gave: that all did the same work. Decoders differ, and a few results with them."""
    if letter in "aA":
        return ""
    tables = {name: set(create(name).tables) for name in work.operators if name != "media"}
    if letter == "b":
        names = set().union(*tables.values())
        return sum(table.rows for table in Catalog(str(work.out)).table_status() if table.name in names)
    rows = pq.read_table(work.out)
    assert rows.num_rows == photos, f"({letter}) wrote {rows.num_rows} of {photos} photos"
    lists = [pc.struct_field(rows[name], table) for name, of in tables.items() for table in of]
    return sum(pc.sum(pc.list_value_length(one)).as_py() or 0 for one in lists)


def daft_is_there() -> bool:
    """Else says how to get it."""
    try:
        print(f"Daft {version('daft')}")
    except PackageNotFoundError:
        print("Daft is not installed, so (d) is left out: pip install -e '.[benchmark]'")
        return False
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="*", type=Path)
    parser.add_argument("--photos", type=int, default=800)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--operators", help="names, with commas between; every operator when not given")
    parser.add_argument("--only", default="abcd", help="contenders, by their letters")
    arguments = parser.parse_intermixed_args()  # folders may stand behind options
    names = arguments.operators.split(",") if arguments.operators else for_photos()
    few = FEW * arguments.workers
    if arguments.photos < 3 * few:
        raise SystemExit(f"--photos {arguments.photos} are too few: at least {3 * few} with that many workers")
    sources = folders(arguments.folder)
    with tempfile.TemporaryDirectory() as scratch:
        archive, start = Path(scratch) / "archive", Path(scratch) / "start"
        print(machine())
        print(f"Ray {version('ray')}, OpenVINO {version('openvino')}; {arguments.workers} workers; {', '.join(names)}")
        contenders: dict[str, tuple[str, Contender]] = {
            "a": ("bare loop", bare_loop),
            "b": ("pinakes run", pinakes_run),
            "A": ("bare loop again", bare_loop),
            "c": ("Ray Data", ray_data),
        }
        if "d" in arguments.only and daft_is_there():
            contenders["d"] = ("Daft", daft_udfs)
        print(f"{make_archive(sources, arguments.photos, archive)}; from {', '.join(map(str, sources))}")
        start.mkdir()
        for file in islice(sorted(archive.iterdir()), few):
            shutil.copy(file, start)
        print(f"\n{'':20}  photos/s  ms of CPU a photo  engine up s  other start and end s  whole s  results")
        found: dict[str, Measured] = {}
        for letter, (name, contender) in contenders.items():
            if letter.lower() not in arguments.only:
                continue
            media: dict[str, dict[str, Any]] = {} if letter in "cd" else {"media": {}}
            operators = {**media, **{name: {} for name in names}}
            works = [
                Work(one, Path(scratch) / letter / one.name, operators, arguments.workers) for one in (start, archive)
            ]
            found[letter] = one = compare(contender, works[0], few, works[1], arguments.photos)
            print(
                f"({letter.lower()}) {name:16}  {one.per_s:8.1f}  {one.cpu_ms:17.1f}  {one.engine_s:11.1f}  "
                f"{one.start_s:21.1f}  {one.whole_s:7.1f}  {written(letter, works[1], arguments.photos):>7}",
                flush=True,
            )
    print_ratios(found)


def print_ratios(found: dict[str, Measured]) -> None:
    """How many times as fast (b) is as the others."""
    if not {"a", "b"} <= {*found}:
        return
    both = [found["a"], found["A"]]
    others = {
        "a": (sum(one.per_s for one in both) / 2, sum(one.cpu_ms for one in both) / 2),
        **{letter: (found[letter].per_s, found[letter].cpu_ms) for letter in "cd" if letter in found},
    }
    ours = found["b"]
    print(f"\n{'':20}  by wall time  by CPU")
    for letter, (per_s, cpu_ms) in others.items():
        print(f"(b) / ({letter}) {'':10}  {ours.per_s / per_s:12.2f}  {cpu_ms / ours.cpu_ms:6.2f}")


if __name__ == "__main__":
    main()
