"""The photos that the benchmarks look at, and the machine that looks."""

import os
import random
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from pathlib import Path

import cv2
import numpy as np

from pinakes.operators.operator import by_default, create

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}
#: `make demo` keeps its photos there.
DEMO = Path(__file__).parents[2] / ".demo" / "archive"


def folders(named: Sequence[Path]) -> list[Path]:
    """Where photos come from: the folders named, `coco` and `imagenet` of PINAKES_EVAL, and the demo's, if there."""
    shared = [Path(os.environ["PINAKES_EVAL"]) / name for name in ("coco", "imagenet") if "PINAKES_EVAL" in os.environ]
    found = [folder for folder in (*named, *shared, DEMO) if folder.is_dir()]
    if not found:
        raise SystemExit("name a folder of photos, set PINAKES_EVAL, or run `make demo`")
    return found


def for_photos() -> list[str]:
    """The operators that look at photos without being told how, but for `media`, which has no model."""
    return [name for name in by_default() if "image" in create(name).media_types and name != "media"]


def make_archive(sources: Iterable[Path], photos: int, folder: Path) -> str:
    """Write `photos` JPEG files, no two of the same bytes, and say what they are.

    Every source is encoded anew, at its own size, at 95 and then at lower and lower qualities until there are enough.
    """
    files = sorted(file for source in sources for file in source.rglob("*") if file.suffix.lower() in SUFFIXES)
    random.Random(0).shuffle(files)  # any number of them is the same mix
    folder.mkdir(parents=True)
    seen: set[bytes] = set()
    megapixels: list[float] = []
    readable: set[Path] = set()
    for quality in range(95, 50, -3):
        for file in files:
            pixels = cv2.imread(str(file)) if len(seen) < photos else None
            if pixels is None:
                continue
            data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
            if (digest := blake2b(data).digest()) not in seen:
                (folder / f"{len(seen):05d}.jpg").write_bytes(data)
                seen.add(digest)
                readable.add(file)
                megapixels.append(pixels.shape[0] * pixels.shape[1] / 1e6)
    if len(seen) < photos:
        raise SystemExit(f"only {len(seen)} photos can be made of {len(files)} files")
    return (
        f"{photos} photos made of {len(readable)}, each encoded anew at its own size (JPEG, quality 95 and below), no "
        f"two of the same bytes; {np.mean(megapixels):.2f} megapixels on average, {np.median(megapixels):.2f} in the "
        f"middle, {max(megapixels):.1f} at most"
    )


def link(archive: Path, photos: int, folder: Path) -> None:
    """Give the archive's files so many names, in a new folder: to a run, which goes by names, as many photos."""
    files = sorted(archive.iterdir())
    folder.mkdir(parents=True)
    for number in range(photos):
        os.link(files[number % len(files)], folder / f"{number:06d}.jpg")


def machine() -> str:
    """The processor, the cores that this process may use, and whether it has instructions for bfloat16."""
    model, flags = "unknown processor", set()
    if (facts := Path("/proc/cpuinfo")).exists():
        lines = dict(line.split(":", 1) for line in facts.read_text().splitlines() if ":" in line)
        fields = {name.strip(): value.strip() for name, value in lines.items()}
        model, flags = fields.get("model name", model), set(fields.get("flags", "").split())
    bf16 = ", ".join(sorted(flags & {"avx512_bf16", "amx_bf16"})) or "no"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{model}, {cores} cores, instructions for bf16: {bf16}"
