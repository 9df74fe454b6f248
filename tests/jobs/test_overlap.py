"""Two runs over one archive at the same time share the work, and keep every look once."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pinakes.catalog import Catalog
from tests.jobs.small_run import small_jpeg

PHOTOS = 120
OPERATOR = """
import os, time
import pyarrow as pa
from pinakes.operators.operator import Operator

class Slow(Operator):
    name = "slow"
    tables = {"slow": pa.schema([("seen", pa.bool_())])}

    def look(self, pictures):
        for _ in pictures:
            time.sleep(0.25)
            with open(os.environ["SLOW_LOOKS"], "a") as file:
                file.write("x\\n")
        return {"slow": pa.table({"picture": range(len(pictures)), "seen": [True] * len(pictures)})}
"""


@pytest.mark.timeout(240)
def test_runs_that_overlap_share_the_work(tmp_path: Path) -> None:
    archive, package = tmp_path / "archive", tmp_path / "site"
    installed = package / "slow-1.0.dist-info"
    installed.mkdir(parents=True)
    (package / "slow_operator.py").write_text(OPERATOR)
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: slow\nVersion: 1.0\n")
    (installed / "entry_points.txt").write_text("[pinakes.operators]\nslow = slow_operator:Slow\n")
    archive.mkdir()
    for number in range(PHOTOS):
        (archive / f"{number:03d}.jpg").write_bytes(small_jpeg(number))
    job = {"source": "archive", "catalog": "catalog", "operators": ["slow"], "workers": 2, "commit_every_s": 0.5}
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(job))
    looks = tmp_path / "looks"
    environment = {**os.environ, "PYTHONPATH": str(package), "SLOW_LOOKS": str(looks)}

    command = [sys.executable, "-m", "pinakes.jobs.cli", "run", str(tmp_path / "job.yaml")]
    runs = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [run.communicate()[0] for run in runs]

    assert [run.returncode for run in runs] == [0, 0], said
    counts = Catalog(str(tmp_path / "catalog")).sql("SELECT count(*) AS rows, count(DISTINCT uri) AS items FROM slow")
    assert counts.to_pylist() == [{"rows": PHOTOS, "items": PHOTOS}]
    units = Catalog(str(tmp_path / "catalog")).sql("SELECT sum(amount) AS n FROM usage WHERE operator = 'slow'")
    assert units.to_pylist() == [{"n": PHOTOS}]
    # Each for itself, they would look 240 times; what both have in hand between two commits is looked at twice.
    assert PHOTOS <= len(looks.read_text().splitlines()) < 1.6 * PHOTOS
