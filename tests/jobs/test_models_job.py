"""Jobs with models of one's own, as a user runs them: from a job file, with relative paths, again, and wrongly."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from pinakes.catalog import Catalog
from tests import tiny_models
from tests.jobs.command import here, pinakes, refused
from tests.jobs.photos import write_photos

#: Nobody listens there.
NO_HUB = {"HF_ENDPOINT": "http://127.0.0.1:9"}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with pictures, models and a vocabulary; and a cache of its own."""
    folder = tmp_path_factory.mktemp("home")
    write_photos(folder / "photos", 12)
    for kind in ("clip", "vit", "yolos", "dinov2"):
        tiny_models.make(kind, folder / kind)
    (folder / "words.txt").write_text("dog\nred barn\nnoise\n")
    return folder


@pytest.fixture(scope="module")
def environment(home: Path) -> dict[str, str]:
    return {"PINAKES_CACHE": str(home / "cache")}


def job(home: Path, operators: dict[str, Any], name: str = "job", **fields: Any) -> Path:
    path = home / f"{name}.yaml"
    path.write_text(yaml.safe_dump({"source": "photos", "catalog": "catalog", "operators": operators, **fields}))
    return path


EVERY: dict[str, Any] = {
    "labels": {"model": "clip", "vocabulary": "words.txt", "min_confidence": 0},
    "objects": {"model": "yolos", "min_confidence": 0.05},
    "embeddings": {"model": "dinov2"},
}


@pytest.mark.timeout(280)
def test_a_job_with_models_in_folders_beside_it(home: Path, environment: dict[str, str], tmp_path: Path) -> None:
    path = job(home, EVERY, workers=1)
    planned = json.loads(here("plan", path, "--json", cwd=tmp_path, **environment).stdout)
    assert planned["due"] == 12
    (remark,) = planned["remarks"]
    assert "3 words by clip@" in remark
    assert "softmax over the words of cosine / temperature" in remark
    assert not (home / "catalog").exists()

    first = pinakes("run", path, "--json", cwd=tmp_path, **environment)
    assert first.returncode == 0, first.stderr
    assert remark in first.stderr
    assert "Loading weights" not in first.stderr
    catalog = Catalog(str(home / "catalog"))
    rows = catalog.sql("SELECT name, model, count(*) AS rows FROM latest_labels GROUP BY ALL ORDER BY name").to_pylist()
    assert [(row["name"], row["rows"]) for row in rows] == [("dog", 12), ("noise", 12), ("red barn", 12)]
    assert {row["model"].partition("@")[0] for row in rows} == {"clip"}
    vectors = catalog.sql("SELECT subject_id, item_key, vector FROM latest_embeddings WHERE subject = 'image'")
    assert vectors.num_rows == 12
    assert vectors["subject_id"] == vectors["item_key"]
    run = catalog.sql("SELECT versions FROM runs WHERE status = 'finished'").to_pylist()[0]
    assert {"torch", "transformers"} <= set(json.loads(run["versions"]))

    # Nothing is looked at twice, wherever the models lie; another word costs the labels alone.
    (home / "moved").mkdir()
    (home / "clip").rename(home / "moved" / "clip")
    moved = {**EVERY, "labels": {**EVERY["labels"], "model": "moved/clip"}}
    try:
        path = job(home, moved)
        planned = json.loads(here("plan", path, "--json", cwd=tmp_path, **environment).stdout)
        assert planned["done"] == 12
        (home / "words.txt").write_text("dog\nred barn\nnoise\ncat\n")
        planned = json.loads(here("plan", path, "--json", cwd=tmp_path, **environment).stdout)
        assert planned["looks"] == {"labels": 12}
    finally:
        (home / "moved" / "clip").rename(home / "clip")
        (home / "words.txt").write_text("dog\nred barn\nnoise\n")


def test_a_job_can_be_tried_on_one_picture(home: Path, environment: dict[str, str], tmp_path: Path) -> None:
    path, picture = job(home, EVERY, "tried"), home / "photos" / "0003.jpg"
    done = here("show", picture, "--job", path, "--json", cwd=tmp_path, **environment)
    assert done.returncode == 0, done.stderr
    tables = json.loads(done.stdout)["tables"]
    assert tables["labels"]
    assert {row["name"] for row in tables["labels"]} <= {
        "dog",
        "noise",
        "red barn",
    }
    assert set(tables) == {"labels", "objects", "embeddings"}
    done = here("show", picture, "--job", path, "--operators", "labels", "--json", cwd=tmp_path, **environment)
    assert json.loads(done.stdout)["tables"] == {"labels": tables["labels"]}
    assert "--job" in refused(2, "show", "--grid", 4, "--job", path, **environment)


def test_a_gpu_that_is_not_there_is_an_error_before_any_work(home: Path, environment: dict[str, str]) -> None:
    path = job(home, {"labels": {"model": "vit"}}, "cuda", catalog="never")
    for words in (["run", path, "--device", "cuda"], ["plan", path, "--device", "cuda"]):
        line = refused(1, *words, **environment, CUDA_VISIBLE_DEVICES="")
        assert line.startswith("pinakes: device cuda: this machine")
        assert "--device cpu" in line
    assert "device" in refused(2, "plan", path, "--device", "gpu", **environment)
    path = job(home, {"media": {}}, "cuda", catalog="never", device="cuda")
    assert "device cuda" in refused(1, "run", path, **environment, CUDA_VISIBLE_DEVICES="")
    assert not (home / "never").exists()


def test_what_cannot_be_had_or_used_is_said_in_one_line(home: Path, environment: dict[str, str]) -> None:
    for operators, code, said in (
        ({"labels": {"model": "./nowhere"}}, 1, "nowhere"),
        ({"labels": {"model": "yolos"}}, 2, "is not an image classifier"),
        ({"labels": {"model": "vit", "revision": "main"}}, 1, "revision"),
        ({"labels": {"model": "clip", "vocabulary": "no-words.txt"}}, 2, "vocabulary no-words.txt: cannot be read"),
        ({"embeddings": {}}, 2, "operator embeddings: model: Field required"),
        ({"labels": {"vocabulary": "words.txt"}}, 2, "operator labels: model: Field required"),
    ):
        path = job(home, operators, "wrong", catalog="never")
        assert said in refused(code, "run", path, **environment)
    # The hub's library asks for its address when it is imported.
    path = job(home, {"labels": {"model": "someone/some-model"}}, "wrong", catalog="never")
    done = pinakes("run", path, **environment, **NO_HUB)
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert "pinakes models pull someone/some-model --to DIR" in line
    assert not (home / "never").exists()


def test_without_torch_one_is_told_what_to_install(home: Path, environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['torch'] = None\n")
    without = {**environment, "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
    path = job(home, {"labels": {"model": "vit"}}, "without", catalog="never")
    done = pinakes("plan", path, **without)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert "pip install 'pinakes[torch]'" in line
    # Whoever has no models of one's own needs none of it.
    path = job(home, {"properties": {}}, "without", catalog="never")
    assert pinakes("plan", path, **without).returncode == 0


def test_a_job_that_names_no_operators_takes_those_that_need_no_settings() -> None:
    script = (
        "from pinakes.operators.operator import by_default; import sys; print(*by_default(), 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [
        *("faces", "frames", "labels", "media", "moderation", "objects", "properties", "shots", "text", "tracks"),
        "False",
    ]
