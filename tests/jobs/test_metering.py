"""What a run takes, as it says itself: every CPU second of its processes is somebody's, every unit is counted once."""

import os
import time
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import pyarrow as pa
import pytest

from pinakes.catalog import Catalog, metering
from pinakes.jobs.look import Looker
from pinakes.jobs.looker_process import Job
from pinakes.jobs.rows import WORK, Tables
from pinakes.jobs.supervisor import Supervisor
from pinakes.operators.operator import Operator, Results, create
from tests.films import write_film
from tests.jobs.small_run import LIMITS, loaded, small_jpeg, small_run, stop_sign

#: Seconds that `Burning` computes for each picture.
BURNT_S = 0.2


class Burning(Operator):
    """Computes for a while, and dies on the second picture that it is shown."""

    name = "burning"
    tables: ClassVar = {"burning": pa.schema([pa.field("value", pa.int32())])}
    looked = 0

    def look(self, pictures: Any) -> Results:
        for _ in pictures:
            began = time.process_time()
            while time.process_time() - began < BURNT_S:
                pass
            self.looked += 1
            if self.looked == 2:
                os._exit(7)
        return {"burning": pa.table({"picture": range(len(pictures)), "value": [1] * len(pictures)})}


def item(uri: str, *operators: str) -> dict[str, Any]:
    ours = {"operators": list(operators), "fingerprints": ["0"] * len(operators), "attempts": [1] * len(operators)}
    return {**dict.fromkeys(WORK.names), "uri": uri, "item_key": f"{hash(uri) % 2**64:032x}", "is_video": False, **ours}


def seconds(tables: Tables) -> float:
    spent = tables[metering.SPENT]["cpu_s"].to_pylist()
    return sum(tables["ledger"]["cpu_s"].to_pylist()) + sum(spent)


def test_every_cpu_second_of_the_process_that_looks_is_somebodys() -> None:
    files = fsspec.filesystem("memory")
    for number in range(12):
        files.pipe_file(f"/metered/{number}.jpg", small_jpeg(number))
    files.pipe_file("/metered/broken.jpg", stop_sign()[:900])
    uris = [f"memory://{path}" for path in sorted(files.ls("/metered", detail=False))]
    operators = loaded("media", "properties")
    looker = Looker(operators, LIMITS, lambda positions: None)
    before = looker.meter.lap()  # of the tests before this one
    work = pa.Table.from_pylist([item(uri, *operators) for uri in uris], WORK)
    found = [tables for _, tables in looker.look(work)]
    assert sum(map(seconds, found)) == pytest.approx(looker.meter.told_s - before, abs=1e-9)
    assert sum(map(seconds, found)) == pytest.approx(time.process_time() - before, abs=0.1)
    decode = metering.total([tables[metering.SPENT] for tables in found]).to_pylist()[0]
    assert (decode["operator"], decode["unit"], decode["amount"]) == ("decode", "images", 12)
    assert decode["requests"] == len(uris)
    assert decode["bytes"] == sum(files.size(uri) for uri in uris)


def test_units_are_those_that_ended_ok_and_a_second_run_adds_none(tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    archive.mkdir()
    for number in range(3):
        (archive / f"{number}.jpg").write_bytes(small_jpeg(number))
    (archive / "broken.jpg").write_bytes(stop_sign()[:900])
    write_film(archive / "film.mp4", 6)
    operators = loaded("media", "frames", "properties", "tracks", "objects", "faces", "shots")
    small_run(archive, tmp_path / "catalog", operators)
    catalog = Catalog(str(tmp_path / "catalog"))
    units = """
        SELECT operator, unit, sum(amount) AS amount, sum(rounded_amount) AS rounded FROM usage
        WHERE operator <> 'run' AND amount > 0 GROUP BY ALL
    """
    found = {(row["operator"], row["unit"]): (row["amount"], row["rounded"]) for row in catalog.sql(units).to_pylist()}
    both = ("decode", "media", "properties", "objects", "faces")
    stills = {(name, "images"): (3, 3) for name in both}
    films = {(name, "video_minutes"): (pytest.approx(0.1), 1) for name in (*both, "frames", "tracks", "shots")}
    assert found == {**stills, **films}
    took = catalog.sql("SELECT operator FROM usage GROUP BY 1 HAVING sum(cpu_s) > 0").column("operator").to_pylist()
    assert {"decode", "properties", "objects", "faces", "shots", "run"} <= set(took)
    read = catalog.sql("SELECT sum(bytes) AS bytes, sum(requests) AS requests FROM usage").to_pylist()[0]
    assert read["bytes"] >= sum(path.stat().st_size for path in archive.iterdir())
    assert read["requests"] == 0
    before = catalog.sql("SELECT sum(amount) AS units, count(*) AS rows FROM usage").to_pylist()
    small_run(archive, tmp_path / "catalog", operators)
    assert catalog.sql("SELECT sum(amount) AS units, count(*) AS rows FROM usage").to_pylist() == before


def test_the_seconds_of_a_process_that_died_are_the_runs(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.jpg" for number in range(2)]
    for number, path in enumerate(paths):
        path.write_bytes(small_jpeg(number))
    operators = {"media": create("media"), "burning": Burning()}
    supervisor = Supervisor(Job(operators, LIMITS, 60, None, 1))
    try:
        tables = supervisor.look(pa.Table.from_pylist([item(path.as_uri(), *operators) for path in paths], WORK))
    finally:
        supervisor.close()
    # Both pictures together killed the first process; then the first was fine alone, and the second killed the next.
    ledger = [(row["operator"], row["status"], row["cpu_s"]) for row in tables["ledger"].to_pylist()]
    assert [row[:2] for row in ledger] == [
        ("media", "ok"), ("burning", "ok"), ("media", "failed"), ("burning", "failed")
    ]  # fmt: skip
    assert ledger[1][2] == pytest.approx(BURNT_S, rel=0.3)
    assert ledger[3][2] == 0
    run = [row for row in tables[metering.SPENT].to_pylist() if row["operator"] == metering.RUN]
    lost = sorted(row["cpu_s"] for row in run)[-2:]
    assert sum(lost) >= 3 * BURNT_S
