"""Operators with GPUs of their own, by Ray's logical GPUs: what is prepared on CPUs is looked at in the pools, once.

There is no GPU here, so two things are not what they are: the models run on the CPU of the actors that Ray gives a
logical GPU, and in the job that believes in two GPUs an operator without torch takes the place of a model.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pinakes.catalog import Catalog
from pinakes.jobs.running import create_operators
from pinakes.jobs.spec import make_spec
from pinakes.operators.decode import decode, single_thread
from tests import tiny_models
from tests.cluster.nodes import install_operator
from tests.films import write_film
from tests.jobs.photos import write_photos
from tests.jobs.small_run import small_jpeg, small_run, stop_sign

ROOT = Path(__file__).parents[2]

#: Says which GPU looked, in a process of which number; a picture of a certain mean kills that of the operator `crash`.
_OPERATOR = '''
import os
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from pinakes.operators.device import DeviceOperator
from pinakes.operators.operator import PICTURE

SCHEMA = pa.schema([pa.field(name, pa.string()) for name in ("gpu", "process", "prepared_in", "mean")])


class Where(DeviceOperator):
    """Fills a table of its name."""

    memory_bytes = 3_000_000_000
    input_bytes = 16
    tables = {"first": SCHEMA}
    name = "first"

    def load_preparing(self):
        self.gpu = "none"

    def load(self, device="cpu", share=1):
        assert device == "cuda" and share <= 1
        self.gpu = os.environ["CUDA_VISIBLE_DEVICES"]

    def prepare(self, picture):
        return np.array([os.getpid(), picture.pixels.mean()])

    def infer(self, inputs, origins):
        if self.name == "crash" and any(f"{one[1]:.3f}" == os.environ["POOLS_POISON"] for one in inputs):
            os._exit(1)
        columns = [
            range(len(inputs)),
            [self.gpu] * len(inputs),
            [str(os.getpid())] * len(inputs),
            [str(int(one[0])) for one in inputs],
            [f"{one[1]:.3f}" for one in inputs],
        ]
        return {table: pa.table(columns, schema=pa.schema([PICTURE, *SCHEMA])) for table in self.tables}


class Second(Where):
    name = "second"
    tables = {"second": SCHEMA}


class Crash(Where):
    name = "crash"
    tables = {"crash": SCHEMA}


class Slow(Where):
    """A megabyte a picture, prepared far quicker than it is looked at; both are noted."""

    name = "slow"
    tables = {"slow": SCHEMA}
    input_bytes = 2**20

    def note(self, what, count):
        with open(Path(os.environ["POOLS_FOLDER"]) / "log", "a") as log:
            log.write(f"{what} {count}\\n")

    def prepare(self, picture):
        self.note("prepared", 1)
        return np.zeros(2**17)

    def infer(self, inputs, origins):
        time.sleep(0.01 * len(inputs))
        self.note("looked", len(inputs))
        return super().infer(inputs, origins)
'''

#: Runs a job on two logical GPUs of 10 GB, as if there were two.
_JOB = """
import json, sys
import ray
ray.init(num_cpus=2, num_gpus=2, include_dashboard=False, object_store_memory=100 * 2**20, log_to_driver=False)
from pinakes.cluster import gpus
gpus.choose = lambda asked: "cuda"
gpus.found = lambda: gpus.Gpus(2, 10_000_000_000)
from pinakes.jobs import run
job = json.loads(sys.argv[1])
print(json.dumps(run(job.pop("source"), job.pop("catalog"), job.pop("operators"), **job).as_dict()))
"""


@pytest.fixture
def job(tmp_path: Path) -> Any:
    """A function: run a job over forty pictures and one broken file in `tmp_path`; its summary."""
    return job_in(tmp_path)


def job_in(tmp_path: Path) -> Any:
    write_photos(tmp_path / "photos", 40)
    (tmp_path / "photos" / "broken.jpg").write_bytes(stop_sign()[:2000])
    operators = {"first": "pools:Where", "second": "pools:Second", "crash": "pools:Crash", "slow": "pools:Slow"}
    environment = install_operator(tmp_path / "site", "pools", _OPERATOR, operators)
    (tmp_path / "marks").mkdir()
    poison = decode(small_jpeg(7))[0].mean()

    def run(operators: list[str], **options: Any) -> dict[str, Any]:
        words = {"source": str(tmp_path / "photos"), "catalog": str(tmp_path / "catalog"), "operators": operators}
        done = subprocess.run(
            [sys.executable, "-c", _JOB, json.dumps({**words, **options})],
            env={**environment, "POOLS_FOLDER": str(tmp_path / "marks"), "POOLS_POISON": f"{poison:.3f}"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        # Ray may have the last word.
        summary: dict[str, Any] = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))
        return summary

    return run


def rows(folder: Path, table: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = Catalog(str(folder / "catalog")).sql(f"SELECT * FROM {table}").to_pylist()
    return found


@pytest.fixture(scope="module")
def fanned_out(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The folder and the summary of a run with three pools; a picture kills the processes of the operator `crash`."""
    folder = tmp_path_factory.mktemp("fanned-out")
    return folder, job_in(folder)(["first", "second", "crash"], placement="fan-out")


@pytest.mark.timeout(240)
def test_pools_of_their_own_share_the_gpus(fanned_out: tuple[Path, dict[str, Any]]) -> None:
    folder, summary = fanned_out
    assert summary["looks"]["first"] == summary["looks"]["second"] == {"ok": 40, "failed": 1}
    first, second = rows(folder, "first"), rows(folder, "second")
    for found in (first, second):
        assert len({row["uri"] for row in found}) == len(found) == 40
        assert {row["gpu"] for row in found} <= {"0", "1"}
    # Each pool has processes of its own, and what it is given was prepared in others.
    processes = [{row["process"] for row in found} for found in (first, second)]
    assert not processes[0] & processes[1]
    assert not {row["prepared_in"] for row in first + second} & (processes[0] | processes[1])
    # What was prepared of a picture came to that picture's rows, in both.
    means = {row["uri"]: row["mean"] for row in first}
    assert len(set(means.values())) > 30
    assert {row["uri"]: row["mean"] for row in second} == means
    metered = "SELECT sum(amount) AS images, sum(gpu_s) > 0 AS held, sum(cpu_s) > 0 AS took FROM usage"
    used = Catalog(str(folder / "catalog")).sql(f"{metered} WHERE operator IN ('first', 'second') GROUP BY operator")
    assert used.to_pylist() == [{"images": 40, "held": True, "took": True}] * 2


@pytest.mark.timeout(180)
def test_together_they_are_in_one_process_a_gpu(job: Any, tmp_path: Path) -> None:
    assert job(["first", "second"])["looks"]["second"] == {"ok": 40, "failed": 1}
    first, second = rows(tmp_path, "first"), rows(tmp_path, "second")
    assert {row["uri"]: row["process"] for row in first} == {row["uri"]: row["process"] for row in second}
    assert len({row["gpu"] for row in first}) == len({row["process"] for row in first})


@pytest.mark.timeout(240)
def test_a_picture_that_kills_its_process_on_the_gpu_fails_alone(fanned_out: tuple[Path, dict[str, Any]]) -> None:
    folder, summary = fanned_out
    assert summary["looks"]["crash"] == {"ok": 39, "failed": 2}
    catalog = Catalog(str(folder / "catalog"))
    ledger = catalog.sql("SELECT uri, status, error_code FROM ledger WHERE operator = 'crash'").to_pylist()
    assert len({row["uri"] for row in ledger}) == len(ledger) == 41
    failed = {Path(row["uri"]).name: row["error_code"] for row in ledger if row["status"] == "failed"}
    assert failed == {"0007.jpg": "out_of_memory", "broken.jpg": "truncated"}


@pytest.mark.timeout(180)
def test_what_is_prepared_waits_for_the_gpus_within_bounds(job: Any, tmp_path: Path) -> None:
    """The object store has 100 MB, the pictures' inputs 500."""
    write_photos(tmp_path / "photos", 500)
    assert job(["slow"])["looks"]["slow"] == {"ok": 500, "failed": 1}
    ahead = most = 0
    for line in (tmp_path / "marks" / "log").read_text().splitlines():
        what, count = line.split()
        ahead += int(count) if what == "prepared" else -int(count)
        most = max(most, ahead)
    assert ahead == 0
    assert 8 <= most <= 250


#: Runs real models through pools on logical GPUs; they compute on the CPU.
_MODELS = """
import json, sys
import ray
ray.init(num_cpus=2, num_gpus=1, include_dashboard=False, object_store_memory=200 * 2**20, log_to_driver=False)
from dataclasses import replace
from pinakes.cluster.placement import place
from pinakes.jobs import running
job = json.loads(sys.argv[1])
real = running.look_at
def through_pools(chunks, made, *arguments):
    names = [name for name in ("labels", "objects", "embeddings") if name in made.operators]
    pools = place({name: 1_000_000_000 for name in names}, 1, 80_000_000_000, "fan-out")
    return real(chunks, replace(made, pools=pools, piece=24), *arguments)
running.look_at = through_pools
words = job["source"], job["catalog"], job["operators"]
print(json.dumps(running.run(*words, workers=1, device="cpu", video={"sample": "keyframes"}).as_dict()))
"""


@pytest.mark.timeout(280)
def test_models_answer_in_pools_as_they_do_beside_the_decoder(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    write_photos(photos, 30)
    (photos / "sign.jpg").write_bytes(stop_sign())
    write_film(photos / "short.mp4", 3)
    write_film(photos / "long.mp4", 320, fps=1, size=(96, 64), gop=10)  # two windows
    settings: dict[str, dict[str, Any]] = {
        "labels": {"model": str(tiny_models.make("clip", tmp_path / "clip")), "vocabulary": "coco"},
        "objects": {"model": str(tiny_models.make("yolos", tmp_path / "yolos")), "min_confidence": 0.1},
        "embeddings": {"model": str(tiny_models.make("dinov2", tmp_path / "dinov2"))},
        "properties": {},
    }
    beside, pools = tmp_path / "beside", tmp_path / "pools"
    operators, device = create_operators(
        make_spec(source=str(photos), operators=settings, catalog=str(beside), device="cpu")
    )
    single_thread()
    for one in operators.values():
        one.fetch(device)
        one.load()
    small_run(photos, beside, operators, sampling="keyframes")
    words = {"source": str(photos), "catalog": str(pools), "operators": settings}
    command = [sys.executable, "-c", _MODELS, json.dumps(words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    for table, expected in answers(beside).items():
        assert len(expected) >= (1 if table == "spans" else 5)
        found = answers(pools)[table]
        assert len(found) == len(expected)
        for ours, theirs in zip(found, expected, strict=True):
            # Batches of other sizes are added up in another order.
            near = dict.fromkeys(("confidence", "vector", "max_confidence", "mean_confidence"), 1e-4)
            for name, value in theirs.items():
                assert ours[name] == (pytest.approx(value, abs=near[name]) if name in near else value), (table, name)


def answers(url: Path) -> dict[str, list[dict[str, Any]]]:
    """The rows of every table, and how many of each operator the ledger says there are."""
    catalog = Catalog(str(url))
    found: dict[str, list[dict[str, Any]]] = {
        table: catalog.sql(f"SELECT * EXCLUDE (run_id, n) FROM {table} ORDER BY ALL").to_pylist()
        for table in ("labels", "objects", "embeddings", "properties", "frames", "spans")
    }
    ledger = catalog.sql("SELECT operator, status, sum(results) AS rows FROM ledger GROUP BY ALL ORDER BY ALL")
    return {**found, "ledger": ledger.to_pylist()}
