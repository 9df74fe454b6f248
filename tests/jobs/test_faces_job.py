"""Faces as a user finds them: a job that fills a collection, and every command on it."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from pinakes.catalog import Catalog
from pinakes.jobs.cli import app
from pinakes.operators import models
from pinakes.operators.operator import create
from tests.drawings import drawn_faces
from tests.jobs.command import pinakes, refused
from tests.jobs.photos import write_photos
from tests.jobs.small_run import small_run


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos of one drawn face in several places, two of a picture in one of them; and a job."""
    folder = tmp_path_factory.mktemp("faces")
    write_photos(folder / "photos", 4)
    for name, faces in {
        "left": [(250, 220, 1.0)],
        "right": [(600, 300, 1.1)],
        "two": [(250, 220, 1), (640, 240, 1.2)],
    }.items():
        drawn_faces((900, 600), faces).save(folder / "photos" / f"{name}.jpg", quality=92)
    drawn_faces((900, 600), [(420, 260, 1.3)]).save(folder / "asked.jpg", quality=92)
    Image.new("RGB", (300, 200), (90, 120, 90)).save(folder / "nobody.jpg")
    job = {
        "source": "photos",
        "catalog": "catalog",
        "operators": ["faces"],
        "commit_every_s": 0.01,
        "faces": {"collection": "people", "quality": {"min_pixels": 20}},
    }
    (folder / "job.yaml").write_text(yaml.safe_dump(job))
    (folder / "cache").mkdir()
    models.pull_all(["yunet-2023mar", "sface-2021dec"])
    (folder / "cache" / "models").symlink_to(models.cache_folder())
    return folder


@pytest.fixture(scope="module")
def environment(home: Path) -> dict[str, str]:
    return {"PINAKES_CACHE": str(home / "cache"), "PINAKES_CATALOG": str(home / "catalog")}


def said(home: Path, environment: dict[str, str], *words: object) -> Any:
    """What `pinakes faces ... --json` answers; in this process, where the models are open already."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        done = CliRunner().invoke(app, ["faces", *map(str, words), "--json"], env=environment, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


@pytest.mark.timeout(280)
def test_faces_find_people(home: Path, environment: dict[str, str]) -> None:
    done = pinakes("run", "job.yaml", cwd=home, **environment)
    assert done.returncode == 0, done.stderr
    assert "collection people: 4 faces, 4 of them added now" in done.stdout
    catalog = Catalog(str(home / "catalog"))
    ids = set(catalog.sql("SELECT face_id FROM latest_faces")["face_id"].to_pylist())
    assert len(ids) == 4

    assert said(home, environment, "index", "people", "--job", "job.yaml")["added"] == 0
    (row,) = said(home, environment, "collections")
    assert (row["collection"], row["faces"]) == ("people", 4)
    about = said(home, environment, "describe", "people")
    assert (about["faces in Milvus"], about["commits since"], about["index"]["type"]) == (4, 0, "FLAT")

    found = said(home, environment, "search", "people", "asked.jpg", "--sheet", "found.png")
    (asked,) = found["faces"]
    assert {match["face_id"] for match in asked["matches"]} == ids
    assert 0.7 < asked["matches"][0]["similarity"] <= 1
    with Image.open(home / "found.png") as sheet:
        assert sheet.width > 600
    only = said(home, environment, "search", "people", "asked.jpg", "--where", "uri LIKE '%/two.jpg'", "--limit", 1)
    assert [match["uri"].rsplit("/", 1)[1] for match in only["faces"][0]["matches"]] == ["two.jpg"]
    assert len(said(home, environment, "search", "people", "photos/two.jpg")["faces"]) == 2
    assert len(said(home, environment, "search", "people", "photos/two.jpg", "--largest")["faces"]) == 1
    assert said(home, environment, "search", "people", "nobody.jpg")["faces"] == []
    face = asked["matches"][0]["face_id"]
    (by_id,) = said(home, environment, "search", "people", face)["faces"]
    assert {match["face_id"] for match in by_id["matches"]} == ids - {face}

    compared = said(home, environment, "compare", "asked.jpg", "photos/two.jpg")
    assert len(compared["matches"]) == 2
    named = said(home, environment, "name", "Ada Lovelace", "asked.jpg")
    assert (named["collection"], named["matched"]) == ("people", 4)
    found = said(home, environment, "search", "people", "asked.jpg")
    assert {match["name"] for match in found["faces"][0]["matches"]} == {"Ada Lovelace"}
    grouped = said(home, environment, "people", "people", "--sheet", "people.png")
    assert [(row["name"], row["faces"]) for row in grouped["rows"]] == [("Ada Lovelace", 4)]
    assert (home / "people.png").stat().st_size > 1000

    receipt = said(home, environment, "forget", "--uri", f"file://{home}/photos/left.jpg", "--yes")
    assert receipt["faces"] == 1
    left = said(home, environment, "search", "people", "asked.jpg")["faces"][0]["matches"]
    assert "left.jpg" not in {match["uri"].rsplit("/", 1)[1] for match in left}
    assert len(left) == 3
    receipt = said(home, environment, "forget", "--like", "asked.jpg", "--yes")
    assert receipt["faces"] == 3
    assert said(home, environment, "search", "people", "asked.jpg")["faces"][0]["matches"] == []
    # With other settings every picture is looked at again; what was forgotten does not come back.
    operators = {"media": create("media"), "faces": create("faces", {"min_confidence": 0.65})}
    operators["faces"].load()
    assert small_run(home / "photos", home / "catalog", operators).looks["faces"] == 7
    assert said(home, environment, "index", "people")["faces"] == 0
    assert catalog.sql("SELECT face_id FROM faces").num_rows == 0
    # The searches stay on record, and say of nobody whom they found.
    audit = catalog.sql("SELECT face_id, searched_by FROM audit").to_pylist()
    assert len(audit) > 12
    assert {row["face_id"] for row in audit} == {None}

    shutil.rmtree(home / "cache" / "faces")
    assert pinakes("faces", "drop", "people", cwd=home, **environment).returncode == 0
    assert said(home, environment, "collections") == []


def test_what_is_not_there_is_said_in_a_line(home: Path, environment: dict[str, str], tmp_path: Path) -> None:
    words = {**environment, "PINAKES_CATALOG": str(tmp_path / "none")}
    assert "there is no catalogue at" in refused(1, "faces", "collections", **words)
    assert "say one of --person, --face, --uri and --like" in refused(2, "faces", "forget", "--yes", **environment)
    assert "collection_ " in refused(1, "faces", "index", "collection_ ", **environment)
    lacking = home / "lacking.yaml"
    lacking.write_text(
        yaml.safe_dump({"source": "photos", "catalog": "c", "operators": ["text"], "faces": {"collection": "p"}})
    )
    assert "the job has none: add `faces` to its operators" in refused(2, "run", lacking, **environment)
