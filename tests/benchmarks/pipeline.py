"""How much of the bare models' speed a run keeps.

    python tests/benchmarks/pipeline.py [FOLDER] [--photos 1200] [--workers 2]

(a) the bare loop: one process per core, each decodes and looks at its share with the same operators; no Ray, no tables;
(b) `pinakes run` over the same photos. Both in one run, (a) before and after (b), since machines are shared. FOLDER
holds the photos (default: `coco` and `imagenet` of PINAKES_EVAL); each is encoded anew at several qualities until there
are enough, so that no two files have the same bytes. Times are after start-up, which is reported apart.
"""

import argparse
import multiprocessing
import os
import tempfile
import time
from pathlib import Path

import cv2

from pinakes.jobs import run
from pinakes.jobs.running import create_operators
from pinakes.jobs.spec import make_spec
from pinakes.operators.decode import decode, single_thread
from pinakes.operators.operator import Picture

SUFFIXES = {".jpg", ".jpeg", ".JPEG", ".png", ".webp"}


def make_archive(sources: list[Path], photos: int, folder: Path) -> list[Path]:
    """`photos` distinct JPEG files of the sources' pictures."""
    made: list[Path] = []
    for quality in range(95, 50, -3):
        for source in sources:
            if len(made) == photos:
                return made
            pixels = cv2.imread(str(source))
            if pixels is not None:
                made.append(folder / f"{len(made):05d}.jpg")
                cv2.imwrite(str(made[-1]), pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])
    raise SystemExit(f"only {len(made)} photos can be made of {len(sources)}")


def bare(files: list[Path], ready: "multiprocessing.Barrier", seconds: "multiprocessing.Queue[float]") -> None:  # type: ignore[valid-type]
    """One process's share."""
    single_thread()
    operators = create_operators(make_spec(source=".", catalog="."))
    for operator in operators.values():
        operator.load()
    ready.wait()  # type: ignore[attr-defined]
    began = time.monotonic()
    for file in files:
        picture = Picture(*decode(file.read_bytes(), name=file.name))
        for operator in operators.values():
            operator.look([picture])
    seconds.put(time.monotonic() - began)


def bare_loop(files: list[Path], workers: int) -> float:
    """Photos a second of as many bare processes as there are workers."""
    spawn = multiprocessing.get_context("spawn")
    ready, seconds = spawn.Barrier(workers), spawn.Queue()
    processes = [spawn.Process(target=bare, args=(files[one::workers], ready, seconds)) for one in range(workers)]
    for process in processes:
        process.start()
    took = max(seconds.get() for _ in processes)
    for process in processes:
        process.join()
    return len(files) / took


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--photos", type=int, default=1200)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    if arguments.folder:
        folders = [arguments.folder]
    elif "PINAKES_EVAL" in os.environ:
        folders = [Path(os.environ["PINAKES_EVAL"]) / name for name in ("coco", "imagenet")]
    else:
        raise SystemExit("name a folder of photos, or set PINAKES_EVAL")
    sources = sorted(file for folder in folders for file in folder.rglob("*") if file.suffix in SUFFIXES)
    with tempfile.TemporaryDirectory() as scratch:
        archive = Path(scratch) / "archive"
        archive.mkdir()
        files = make_archive(sources, arguments.photos, archive)
        print(
            f"{len(files)} photos made of {len(sources)} in {', '.join(map(str, folders))}; {arguments.workers} workers"
        )
        before = bare_loop(files, arguments.workers)
        summary = run(archive, catalog=Path(scratch) / "catalog", workers=arguments.workers)
        after = bare_loop(files, arguments.workers)
        assert summary.total("failed") == 0
        print(f"(a) bare loop    {before:6.1f} and {after:6.1f} photos/s")
        print(f"(b) pinakes run  {summary.per_s:6.1f} photos/s after {summary.start_s:.1f} s of start-up")
        print(f"(b) / (a)        {2 * summary.per_s / (before + after):6.2f}")


if __name__ == "__main__":
    main()
