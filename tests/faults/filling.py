"""Disks of every size, each too small, for the driver without Ray. Runs in a mount namespace of its own."""

import subprocess
import sys
from pathlib import Path

from pinakes.catalog.errors import StorageError
from tests.faults.committing import drive
from tests.faults.test_committer import check

#: A page, the least that a file takes there.
STEP_KB = 4
ITEMS = 14


def main(folder: Path) -> None:
    """Print the number of sizes at which the disk was full before the end. Raises whatever else went wrong."""
    full = 0
    while True:
        mount = [f"size={(full + 1) * STEP_KB}k", "tmpfs", str(folder)]
        subprocess.run(["mount", "-t", "tmpfs", "-o", *mount], check=True)
        url = str(folder / "catalog")
        try:
            drive(url, ITEMS, seed=full)
            done = True
        except StorageError as error:
            done = False
            if "no space left" not in str(error):
                raise
        subprocess.run(["mount", "-o", "remount,size=64m", "tmpfs", str(folder)], check=True)
        try:
            drive(url, ITEMS, seed=1000 + full)
            check(url, ITEMS)
        except BaseException as error:
            error.add_note(f"after a disk of {(full + 1) * STEP_KB} KB")
            raise
        subprocess.run(["umount", str(folder)], check=True)
        if done:
            break
        full += 1
    print(full)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
