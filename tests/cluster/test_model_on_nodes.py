"""A model in a folder of the driver's reaches the nodes of a cluster, each once."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pinakes.catalog import Catalog
from tests import tiny_models
from tests.cluster.nodes import NEVER_S, OBJECT_STORE_BYTES, cluster
from tests.jobs.photos import write_photos

#: When the files are on their way, the driver's folder goes: on a real cluster the other nodes never had it.
_RUN = """
import json, os, sys
from pinakes.jobs import running
photos, catalog, model, words = sys.argv[1:]
real = running.share
def share(folders):
    shared = real(folders)
    os.rename(model, model + "-gone")
    return shared
running.share = share
operators = {"labels": {"model": model, "vocabulary": words}}
print(json.dumps(running.run(photos, catalog, operators).as_dict()))
"""


@pytest.mark.timeout(2 * NEVER_S)
def test_a_models_folder_reaches_each_node_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_photos(tmp_path / "photos", 40)
    model = tiny_models.make("clip", tmp_path / "clip")
    (tmp_path / "words.txt").write_text("dog\nnoise\n")
    caches = [tmp_path / "first", tmp_path / "second"]
    # A node and what runs on it inherit the variable as it is when the node starts.
    monkeypatch.setenv("PINAKES_CACHE", str(caches[0]))
    with cluster() as made:
        monkeypatch.setenv("PINAKES_CACHE", str(caches[1]))
        made.add_node(num_cpus=1, object_store_memory=OBJECT_STORE_BYTES)
        made.wait_for_nodes()
        done = subprocess.run(
            [
                sys.executable,
                "-c",
                _RUN,
                str(tmp_path / "photos"),
                str(tmp_path / "catalog"),
                str(model),
                str(tmp_path / "words.txt"),
            ],
            env={**os.environ, "RAY_ADDRESS": made.address, "PINAKES_CACHE": str(tmp_path / "drivers")},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout.splitlines()[-1])["looks"]["labels"] == {"ok": 40}
    assert Catalog(str(tmp_path / "catalog")).sql("SELECT DISTINCT uri FROM latest_labels").num_rows == 40
    for cache in caches:
        (weights,) = (cache / "models" / "hub").glob("*/model.safetensors")
        assert weights.read_bytes() == (tmp_path / "clip-gone" / "model.safetensors").read_bytes()
        assert len(list((cache / "models" / "vectors").glob("*/vectors.safetensors"))) == 1
