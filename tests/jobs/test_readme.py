"""The README does what it says: its operator runs, its Python runs, its commands and job file are understood."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import typer
import yaml

from pinakes.catalog import Catalog
from pinakes.jobs.cli import app
from pinakes.jobs.spec import JobSpec
from pinakes.operators.operator import create

README = (Path(__file__).parents[2] / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def photos(folder: Path, count: int) -> None:
    folder.mkdir()
    random = np.random.default_rng(5)
    for number in range(count):
        pixels = cv2.resize(random.integers(0, 255, (9, 12, 3), dtype=np.uint8), (640, 480))
        cv2.imwrite(str(folder / f"{number}.jpg"), pixels)
    cv2.imwrite(str(folder / "plain.jpg"), np.full((480, 640, 3), 127, np.uint8))


def run(arguments: list[str], cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.timeout(180)
def test_the_example_operator_runs_from_a_package_of_the_users(tmp_path: Path) -> None:
    (code,) = [block for block in blocks("python") if block.startswith("# blur.py")]
    (entry_point,) = blocks("toml")
    assert len(code.splitlines()) < 40
    # What `pip install` of such a package would leave behind.
    package = tmp_path / "site"
    installed = package / "blur-1.0.dist-info"
    installed.mkdir(parents=True)
    (package / "blur.py").write_text(code)
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: blur\nVersion: 1.0\n")
    line = entry_point.splitlines()[-1].replace('"', "")
    (installed / "entry_points.txt").write_text(f"[pinakes.operators]\n{line}\n")
    photos(tmp_path / "photos", 4)
    (command,) = re.findall(r"`(pinakes run photos --catalog catalog --operators blur)`", README)

    done = run(["-m", *command.replace("pinakes", "pinakes.jobs.cli", 1).split()], tmp_path, PYTHONPATH=str(package))

    assert done.returncode == 0, done.stderr
    catalog = Catalog(str(tmp_path / "catalog"))
    found = catalog.sql(
        "SELECT parse_filename(uri) AS photo, sharpness FROM latest_blur ORDER BY sharpness"
    ).to_pylist()
    assert len(found) == 5
    assert found[0] == {"photo": "plain.jpg", "sharpness": 0.0}
    assert found[1]["sharpness"] > 0


@pytest.mark.timeout(180)
def test_the_python_runs_as_it_stands(tmp_path: Path) -> None:
    (code,) = [block for block in blocks("python") if "from pinakes.jobs import" in block]
    photos(tmp_path / "photos", 1)
    done = run(["-c", code], tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "2 {}\n"


def test_every_command_of_the_readme_is_understood() -> None:
    lines = [line.split("#")[0] for block in blocks("sh") for line in block.splitlines() if line.startswith("pinakes")]
    assert len(lines) > 4
    command = typer.main.get_command(app)
    for line in lines:
        _, name, *arguments = shlex.split(line)
        known: Any = command.commands[name]  # type: ignore[attr-defined]
        if name == "faces":
            name, *arguments = arguments
            known = known.commands[name]
        # Raises for an option or argument that there is not.
        known.make_context(name, arguments)


def test_every_command_and_option_is_in_the_readme() -> None:
    command: Any = typer.main.get_command(app)
    every = {name: known for name, known in command.commands.items() if name != "faces"}
    every |= {f"faces {name}": known for name, known in command.commands["faces"].commands.items()}
    for name, known in every.items():
        assert f"pinakes {name}" in README
        for parameter in known.params:
            for option in parameter.opts:
                if option.startswith("--") and option != "--help":
                    assert option in README, f"{name} {option}"


def test_the_job_file_of_the_readme_names_every_field() -> None:
    fields = yaml.safe_load(blocks("yaml")[0])
    assert JobSpec.model_validate(fields).operators == {
        "labels": {"min_confidence": 0.2, "max_labels": 5},
        "objects": {"min_confidence": 0.4},
    }
    assert set(fields) == set(JobSpec.model_fields)


def test_defaults_that_the_job_file_states_are_those_of_the_code() -> None:
    stated = yaml.safe_load(blocks("yaml")[0])
    for name in ("commit_every_s", "time_limit_s", "max_megapixels", "max_megabytes"):
        assert json.dumps(stated[name]) == json.dumps(int(JobSpec.model_fields[name].default))
    for name in ("device", "placement"):
        assert stated[name] == JobSpec.model_fields[name].default


def test_the_job_with_models_of_ones_own_is_understood() -> None:
    spec = JobSpec.model_validate(yaml.safe_load(blocks("yaml")[1]))
    assert spec.operators is not None
    made = {name: create(name, settings) for name, settings in spec.operators.items()}
    assert [type(one).__name__ for one in made.values()] == ["ZeroShotLabels", "DetectorObjects", "Embeddings"]


def test_settings_of_models_of_ones_own_are_those_of_the_code() -> None:
    rows = re.findall(r"^\| `(labels|objects|embeddings)` \| (model[^|]*) \| [^|]* \|([^|]*)\|$", README, re.MULTILINE)
    assert len(rows) == 5
    for name, given, stated in rows:
        config = type(create(name, dict.fromkeys(given.split(", "), "x"))).Config
        for setting, value in re.findall(r"(min_confidence|max_labels|max_objects) ([0-9.]+)", stated):
            assert config.model_fields[setting].default == float(value), (name, setting)
        for template in re.findall(r'templates \["(.*?)"\]', stated):
            assert config.model_fields["templates"].default == (template,)
