"""The memory of one who looks: huge pictures and large files among small ones."""

import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import psutil
import pyarrow as pa
import pytest
from PIL import Image

from pinakes.jobs.looker_process import Job
from pinakes.jobs.rows import WORK, Tables
from pinakes.jobs.supervisor import Supervisor
from pinakes.operators.operator import create
from tests.jobs.small_run import LIMITS, jpeg, small_jpeg

SIDE = 10_000


def huge_png() -> bytes:
    """100 megapixels, all black, in some 300 kB; 700 MB to decode."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    pack = zlib.compressobj(1)
    data = b"".join(pack.compress(bytes(1 + 3 * SIDE)) for _ in range(SIDE)) + pack.flush()
    header = struct.pack(">IIBBBBB", SIDE, SIDE, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two pictures of 100 megapixels amid small ones, in one batch."""
    folder = tmp_path_factory.mktemp("huge")
    for number in range(8):
        (folder / f"{number}.jpg").write_bytes(small_jpeg(number))
    (folder / "3-huge.png").write_bytes(huge_png())
    (folder / "5-huge.jpg").write_bytes(jpeg(Image.new("L", (SIDE, SIDE))))
    return sorted(folder.iterdir())


def work(paths: list[Path]) -> pa.Table:
    rows = [
        {
            **dict.fromkeys(WORK.names),
            "uri": f"file://{path}",
            "item_key": f"{number:032x}",
            "size": path.stat().st_size,
            "operators": ["media"],
            "attempts": [1],
            "fingerprints": ["0"],
            "is_video": False,
        }
        for number, path in enumerate(paths)
    ]
    return pa.Table.from_pylist(rows, schema=WORK)


@pytest.fixture
def supervisor(request: pytest.FixtureRequest) -> Iterator[Supervisor]:
    job = Job(
        operators={"media": create("media")},
        limits=LIMITS,
        time_limit_s=60,
        memory_bytes=request.param * 2**20,
        workers=1,
    )
    looking = Supervisor(job)
    yield looking
    looking.close()


def said(tables: Tables) -> dict[str, str | None]:
    return {row["uri"].rpartition("/")[2]: row["error_code"] for row in tables["ledger"].to_pylist()}


@pytest.mark.parametrize("supervisor", [400], indirect=True)
def test_a_picture_too_large_for_the_memory_costs_itself(archive: list[Path], supervisor: Supervisor) -> None:
    tables = supervisor.look(work(archive))
    assert said(tables) == {path.name: "out_of_memory" if path.name == "3-huge.png" else None for path in archive}
    (row,) = [row for row in tables["ledger"].to_pylist() if row["error_code"]]
    assert "0.4 GiB (worker_memory_gb)" in row["error_message"]
    assert tables["media"].num_rows == len(archive) - 1
    assert [row["width"] for row in tables["media"].to_pylist() if row["uri"].endswith("5-huge.jpg")] == [SIDE]


@pytest.mark.parametrize("supervisor", [1400], indirect=True)
def test_a_huge_picture_is_read_where_there_is_memory_which_it_gives_back(
    archive: list[Path], supervisor: Supervisor
) -> None:
    assert set(said(supervisor.look(work(archive))).values()) == {None}
    (process,) = [one for one in psutil.Process().children() if "pinakes.jobs.looker_process" in one.cmdline()]
    assert process.memory_info().rss < 400 * 2**20


FETCH = """
import resource, sys, time
from pathlib import Path
from pinakes.jobs import look
from pinakes.jobs.fetch import fetch
from pinakes.operators.media import Media
from tests.jobs.small_run import LIMITS
from tests.jobs.test_memory import work

def from_afar(uri, max_bytes):
    time.sleep(0.3)
    return fetch(uri, max_bytes)

look.fetch = from_afar

class Slow(Media):
    def look(self, pictures):
        time.sleep(2)
        return super().look(pictures)

items = work(sorted(Path(sys.argv[1]).iterdir()))
looker = look.Looker({"media": Slow()}, LIMITS, lambda positions: None)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
codes = [code for _, tables in looker.look(items) for code in tables["ledger"]["error_code"].to_pylist()]
assert sorted(codes, key=str) == [None] * 8 + ["unsupported_format"] * 30, codes
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def test_large_files_are_not_all_fetched_ahead(tmp_path: Path) -> None:
    """Thirty files of 40 MiB behind a batch that takes its time: some 128 MiB are on their way, not two dozen."""
    for number in range(8):
        (tmp_path / f"{number}.jpg").write_bytes(small_jpeg(number))
    for number in range(30):
        with open(tmp_path / f"large-{number:02}.jpg", "wb") as file:
            file.truncate(40 * 2**20)
    command = [sys.executable, "-c", FETCH, str(tmp_path)]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 400
