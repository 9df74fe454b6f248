"""A full disk under the catalogue: it is said in one line, and when there is space again the next run completes it."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.pinakes_process import NEVER_S, Job, add_photos

#: Enough for some commits of that run and not for all.
SMALL, LARGE = "400k", "64m"
PHOTOS = 150


@pytest.fixture
def own_mounts(tmp_path: Path) -> None:
    """Skip where a user may not mount."""
    try:
        subprocess.run(
            ["unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", str(tmp_path)],
            check=True,
            capture_output=True,
            text=True,
        )
    except FileNotFoundError as error:
        pytest.skip(f"needs Linux: {error}")
    except subprocess.CalledProcessError as error:
        pytest.skip(f"needs leave to mount a small disk: {error.stderr.strip()}")


@pytest.fixture
def disk(own_mounts: None, tmp_path: Path) -> Iterator[tuple[Path, list[str]]]:
    """A small disk, as seen from outside its mount namespace, and the words that run a command inside."""
    folder = tmp_path / "catalog"
    folder.mkdir()
    mount = f"mount -t tmpfs -o size={SMALL} tmpfs '{folder}' && echo mounted && exec sleep 3600"
    with subprocess.Popen(["unshare", "-rm", "sh", "-c", mount], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "mounted\n"
        inside = ["nsenter", f"--target={holder.pid}", "--user", "--mount", "--preserve-credentials"]
        yield Path(f"/proc/{holder.pid}/root{folder}"), inside
        holder.kill()


@pytest.mark.timeout(600)
def test_a_run_goes_on_when_there_is_space_again(disk: tuple[Path, list[str]], tmp_path: Path) -> None:
    outside, inside = disk
    job = Job(tmp_path, seconds=0.05)
    add_photos(job.archive, PHOTOS)
    first = job.start(*inside)
    assert first.ended() == 1, first.said
    told = [line for line in first.said.splitlines() if line.startswith("pinakes: ")]
    assert len(told) == 1
    assert "no space left" in told[0]
    assert "Traceback" not in first.said

    subprocess.run([*inside, "mount", "-o", f"remount,size={LARGE}", "tmpfs", str(tmp_path / "catalog")], check=True)
    second = job.start(*inside)
    assert second.ended() == 0, second.said
    job.url = str(shutil.copytree(outside, tmp_path / "copy"))
    # Some of it was committed before the disk was full, and none of that was looked at again.
    assert 0 < second.summary["items"] < PHOTOS
    job.check_all_ok()


@pytest.mark.timeout(600)
def test_wherever_it_is_full_nothing_is_lost_or_twice(own_mounts: None, tmp_path: Path) -> None:
    words = ["unshare", "-rm", sys.executable, "-m", "tests.faults.filling", str(tmp_path)]
    root = Path(__file__).parents[2]
    ended = subprocess.run(words, cwd=root, capture_output=True, text=True, timeout=NEVER_S)
    assert ended.returncode == 0, ended.stderr
    # Three tables and the log are made, and then two commits: each takes several files.
    assert int(ended.stdout) > 20
