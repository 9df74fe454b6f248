"""A run over a Ray cluster of two nodes, one of which is lost half way."""

import json
import subprocess
from pathlib import Path

import pytest
import yaml

from pinakes.catalog import Catalog, CatalogError
from tests.cluster.nodes import NEVER_S, OBJECT_STORE_BYTES, PINAKES, Gate, cluster, raylet, wait
from tests.jobs.photos import write_photos

PHOTOS = 60


@pytest.mark.timeout(2 * NEVER_S)
def test_a_lost_node_costs_nothing_but_its_work_in_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_photos(tmp_path / "archive", PHOTOS)
    job = {"source": "archive", "catalog": "catalog", "operators": ["nodes"], "commit_every_s": 0.001}
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(job))
    gate = Gate(tmp_path)
    # Nodes and what runs on them inherit it.
    for name in ("PYTHONPATH", "NODES_GATE"):
        monkeypatch.setenv(name, gate.environment[name])

    def committed_by() -> set[str]:
        try:
            return set(Catalog(str(tmp_path / "catalog")).sql("SELECT DISTINCT node FROM nodes")["node"].to_pylist())
        except CatalogError:  # there is nothing yet
            return set()

    # Ray's own three seconds would have every test of a lost node take a quarter of a minute.
    with cluster(_system_config={"health_check_period_ms": 1000}) as made:
        lost = made.add_node(num_cpus=1, object_store_memory=OBJECT_STORE_BYTES)
        made.wait_for_nodes()
        both = {raylet(made.head_node), raylet(lost)}
        monkeypatch.setenv("RAY_ADDRESS", made.address)
        command = [str(PINAKES), "run", str(tmp_path / "job.yaml"), "--json"]
        run = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            wait(lambda: gate.waiting() == both and committed_by() == both, run, "both nodes are half way")
            made.remove_node(lost, allow_graceful=False)
            gate.open()
            said, _ = run.communicate(timeout=NEVER_S)
        finally:
            run.kill()

    assert run.returncode == 0, said
    assert json.loads(said)["status"] == "finished"
    catalog = Catalog(str(tmp_path / "catalog"))
    looks = catalog.sql(
        "SELECT operator, status, count(*) AS looks, count(DISTINCT uri) AS items, max(attempt) AS attempts "
        "FROM ledger GROUP BY ALL ORDER BY operator"
    )
    once = {"status": "ok", "looks": PHOTOS, "items": PHOTOS, "attempts": 1}
    assert looks.to_pylist() == [{"operator": "media", **once}, {"operator": "nodes", **once}]
    for table in ("media", "nodes"):
        rows = catalog.sql(f"SELECT count(*) AS rows, count(DISTINCT uri) AS items FROM {table}")
        assert rows.to_pylist() == [{"rows": PHOTOS, "items": PHOTOS}]
    assert committed_by() == both
