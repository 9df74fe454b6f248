"""Folders of pictures to run a job on."""

from pathlib import Path

from tests.jobs.small_run import small_jpeg


def write_photos(folder: Path, count: int, first: int = 0) -> list[Path]:
    """Write that many small JPEGs, 0000.jpg and on, into the folder (made if need be); no two have the same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number:04d}.jpg" for number in range(first, first + count)]
    for number, path in enumerate(paths, first):
        path.write_bytes(small_jpeg(number))
    return paths
