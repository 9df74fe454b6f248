"""The command `pinakes` as its users meet it: its exit code, its answer and its one line of error."""

import csv
import io
import json
import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pinakes.catalog import Catalog
from pinakes.operators import models
from tests.cluster.nodes import cluster
from tests.faults.committing import drive
from tests.jobs.command import PINAKES, here, pinakes, refused
from tests.jobs.small_run import loaded, small_jpeg, small_run, stop_sign


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("small") / "archive"
    folder.mkdir()
    (folder / "stop sign.jpg").write_bytes(stop_sign())
    (folder / "plain.jpg").write_bytes(small_jpeg())
    return folder


@pytest.fixture(scope="module")
def url(archive: Path) -> Path:
    """A catalogue of it; only read."""
    small_run(archive, archive.parent / "catalog", loaded("media", "labels", "objects"))
    return archive.parent / "catalog"


@pytest.fixture(scope="module")
def ray() -> Iterator[dict[str, str]]:
    """The environment of runs that find a Ray of two cores running."""
    with cluster(num_cpus=2) as made:
        yield {"RAY_ADDRESS": made.address}


# --- words


def test_help_is_for_everyone_and_loads_nothing_heavy() -> None:
    script = """
import sys
from pinakes.jobs.cli import app
try:
    app(sys.argv[1:], prog_name="pinakes")
except SystemExit as end:
    assert end.code == 0, end.code
heavy = {"ray", "pyarrow", "duckdb", "openvino", "cv2", "numpy", "deltalake", "PIL", "fsspec"} & set(sys.modules)
assert not heavy, heavy
"""
    for words in (["--help"], ["run", "--help"], ["sql", "--help"], ["models", "--help"]):
        done = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert "Usage: pinakes" in done.stdout
    said = here("--help").stdout
    for command in ("run", "retry", "plan", "status", "sql", "models"):
        assert f"  {command} " in said
    assert "Exit codes" in said


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["frobnicate"], "frobnicate"),
        (["run", "--fast", "x"], "--fast"),
        (["run"], "source"),
        (["run", "x", "--workers", "none"], "--workers"),
        (["run", "x", "--workers", "0"], "--workers"),
        (["models", "push"], "push"),
    ],
)
def test_unknown_words_are_named(words: list[str], named: str) -> None:
    line = refused(2, *words)
    assert named in line
    assert "--help" in line


def test_a_process_ends_with_the_code_and_the_line(tmp_path: Path) -> None:
    """The other tests ask for most of that in this process."""
    for code, words in ((2, ["run"]), (2, ["plan", "x"]), (1, ["status", "--catalog", tmp_path])):
        done = pinakes(*words)
        assert (done.returncode, done.stdout) == (code, "")
        assert done.stderr == here(*words).stderr
        assert done.stderr.count("\n") == 1


def test_no_words_at_all_are_answered_with_the_help() -> None:
    assert pinakes().stderr.rstrip() == here("--help").stdout.rstrip()


def test_unknown_operators_fields_and_settings_are_answered_with_those_there_are(archive: Path, tmp_path: Path) -> None:
    catalog = tmp_path / "catalog"
    line = refused(2, "run", archive, "--catalog", catalog, "--operators", "media,lables")
    assert "lables" in line
    assert "labels" in line
    assert "--catalog" in refused(2, "status")
    assert "catalog" in refused(2, "plan", archive)
    job = tmp_path / "job.yaml"
    whole = f"source: {archive}\ncatalog: c\n"
    for text, wrong, allowed in (
        (whole + "sauce: photos\n", "sauce", "source"),
        (whole + "operators: {labels: {min_confidense: 0.2}}\n", "min_confidense", "min_confidence"),
        (whole + "operators: {labels: {min_confidence: 2}}\n", "min_confidence", "less than or equal to 1"),
        (whole + "operators: {lables: {}}\n", "lables", "labels"),
        (whole + "operators: labels\n", "operators", "dictionary"),
        (whole + "workers: many\n", "workers", "integer"),
        (f"source: {archive}\n", "catalog", "required"),
        ("- photos\n", "job.yaml", "source"),
        ("source: [\n", "job.yaml", "cannot be read"),
        ("", "job.yaml", "source"),
    ):
        job.write_text(text)
        line = refused(2, "plan", job)
        assert wrong in line
        assert allowed in line
    assert "nowhere.yaml" in refused(2, "run", tmp_path / "nowhere.yaml")
    assert sorted(tmp_path.iterdir()) == [tmp_path / "job.yaml"]


# --- what cannot run


def test_what_is_missing_newer_or_broken_is_said_in_one_line(archive: Path, tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    assert "nowhere" in refused(1, "run", nowhere, "--catalog", tmp_path / "c", "--operators", "media")
    assert "nowhere" in refused(1, "plan", nowhere, "--catalog", tmp_path / "c", "--operators", "media")
    for words in (["status"], ["sql", "SELECT 1"], ["retry"]):
        assert "pinakes run" in refused(1, *words, "--catalog", nowhere)
    assert "pinakes run" in refused(1, "status", PINAKES_CATALOG=str(nowhere))
    assert not nowhere.exists()
    assert not (tmp_path / "c").exists()

    assert "not empty" in refused(1, "run", archive, "--catalog", archive, "--operators", "media")
    assert sorted(path.name for path in archive.iterdir()) == ["plain.jpg", "stop sign.jpg"]

    catalog = tmp_path / "catalog"
    drive(str(catalog), 7, seed=1)
    about = catalog / "_pinakes" / "catalog.json"
    source = [str(archive), "--operators", "media"]
    for text, says in (('{"format": 9, "pinakes": "9.0"}', "update pinakes"), ("{", "catalog.json")):
        about.write_text(text)
        for words in (["run", *source], ["plan", *source], ["status"], ["sql", "FROM ledger"]):
            assert says in refused(1, *words, "--catalog", catalog)
    about.write_text('{"format": 1}')
    min((catalog / "ledger").glob("*.parquet")).unlink()
    for words in (["plan", *source], ["status"], ["sql", "FROM ledger"]):
        assert "ledger" in refused(1, *words, "--catalog", catalog)
    assert "selec" in refused(1, "sql", "selec 1", "--catalog", catalog)
    done = here("run", *source, "--catalog", catalog)
    assert done.returncode == 1
    assert [line for line in done.stderr.splitlines() if "ledger" in line and line.startswith("pinakes: ")]
    assert "Traceback" not in done.stderr


@pytest.mark.timeout(180)
def test_a_model_that_is_not_the_one_on_record_stops_the_run(archive: Path, tmp_path: Path) -> None:
    loaded("labels")  # so that it is here
    (name,) = loaded("labels")["labels"].model_names()
    folder = models.folder_of(models.entry(name))
    copy = tmp_path / "cache" / "models" / folder.name
    copy.mkdir(parents=True)
    for file in folder.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    largest = max(copy.iterdir(), key=lambda file: file.stat().st_size)
    largest.write_bytes(largest.read_bytes()[:-1] + b"!")

    words = ("run", archive, "--catalog", tmp_path / "catalog", "--operators", "labels", "--workers", 1)
    done = pinakes(*words, PINAKES_CACHE=str(tmp_path / "cache"))
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("pinakes: ")]
    assert done.stderr.splitlines()[-1] == line
    assert largest.name in line
    assert f"pinakes models pull {name}" in line
    assert "Traceback" not in done.stderr
    catalog = Catalog(str(tmp_path / "catalog"))
    assert catalog.sql("FROM ledger").num_rows == 0
    (last,) = catalog.sql("SELECT status, message FROM runs ORDER BY recorded_at DESC LIMIT 1").to_pylist()
    assert last["status"] == "failed"
    assert largest.name in last["message"]


# --- an archive as they are


def png(width: int, height: int, data: bytes) -> bytes:
    """A PNG of that many pixels, as far as its header goes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def versions(url: Path) -> dict[str, int]:
    catalog = Catalog(str(url))
    return {name: catalog.table(name).version() for name in catalog.tables()}


@pytest.mark.timeout(240)
def test_an_archive_with_all_sorts_of_files(tmp_path: Path, ray: dict[str, str]) -> None:
    folder, url = tmp_path / "archive", tmp_path / "catalog"
    folder.mkdir()
    good = ["plain.jpg", "two words.jpg", "é ü 猫.jpg", "[brackets] #1 100%.jpg", "UPPER.JPEG", "no suffix"]
    for number, name in enumerate(good):
        (folder / name).write_bytes(small_jpeg(number))
    odd = {
        "truncated.jpg": (stop_sign()[:-5000], "truncated"),
        "zero.jpg": (b"", "empty"),
        "text.jpg": (b"I am no picture, whatever my name says\n", "unsupported_format"),
        "page.png": (b"<!DOCTYPE html><html>404</html>", "unsupported_format"),
        "film.jpg": (b"\0\0\0\x18ftypmp42" + bytes(99), "unsupported_format"),
        "garbage.png": (png(64, 64, b"no zlib stream"), "corrupt"),
        "bomb.png": (png(60_000, 60_000, zlib.compress(bytes(999))), "too_many_pixels"),
        "LICENSE": (b"words", "not_media"),
    }
    expected = {name: code for name, (_, code) in odd.items()}
    for name, (data, _) in odd.items():
        (folder / name).write_bytes(data)
    (folder / "notes.txt").write_bytes(b"passed over")
    (folder / "dangling.jpg").symlink_to(folder / "nowhere")
    expected["dangling.jpg"] = "not_found"
    with open(os.fsencode(folder) + b"/caf\xe9.jpg", "wb") as file:  # Latin-1
        file.write(small_jpeg())
    expected["caf\\xe9.jpg"] = "bad_name"
    if os.geteuid():  # root may read anything
        (folder / "secret.jpg").write_bytes(small_jpeg())
        (folder / "secret.jpg").chmod(0)
        expected["secret.jpg"] = "permission_denied"

    words = (folder, "--catalog", url, "--operators", "media,properties", "--workers", 1, "--json")
    done = pinakes("run", *words, **ray)
    assert done.returncode == 3, done.stderr
    assert "Traceback" not in done.stderr
    summary = json.loads(done.stdout)
    assert summary["items"] == len(good) + len(expected)
    assert summary["looks"]["media"] == {"ok": len(good), "failed": len(expected) - 1, "skipped": 1}
    assert summary["plan"]["passed_over"] == 1

    ledger = Catalog(str(url)).sql("SELECT uri, operator, error_code FROM latest_ledger").to_pylist()
    codes = {(row["uri"].rpartition("/")[2], row["operator"]): row["error_code"] for row in ledger}
    assert codes == {
        (name, operator): code
        for name, code in {**dict.fromkeys(good), **expected}.items()
        for operator in ("media", "properties")
    }
    failures = json.loads(here("status", "--catalog", url, "--json").stdout)["failures"]
    told: dict[str, int] = {}
    for row in failures:
        assert row["message"]
        if row["operator"] == "media":
            told[row["error_code"]] = row["items"]
    assert told == {code: list(expected.values()).count(code) for code in expected.values()}

    # Again: nothing to look at, and nothing written but that there was a run.
    before = versions(url)
    done = here("run", *words[:-1])
    assert (done.returncode, done.stderr.count("Traceback")) == (0, 0)
    assert done.stdout.startswith("nothing to look at")
    assert "pinakes retry" in done.stdout
    assert {**versions(url), "runs": 0} == {**before, "runs": 0}

    # What failed, and nothing else.
    (folder / "new.jpg").write_bytes(small_jpeg(99))
    done = pinakes("retry", "--catalog", url, "--workers", 1, "--json", **ray)
    assert done.returncode == 3, done.stderr
    summary = json.loads(done.stdout)
    assert summary["plan"]["new"] == 1
    assert summary["items"] == len(expected) - 1
    assert summary["looks"]["properties"] == {"failed": len(expected) - 1}


@pytest.mark.timeout(300)
def test_broken_pictures_of_the_world(tmp_path: Path, ray: dict[str, str]) -> None:
    if not os.environ.get("PINAKES_EVAL"):
        pytest.skip("PINAKES_EVAL is not set")
    folder = Path(os.environ["PINAKES_EVAL"]) / "broken"
    items = sum(1 for path in folder.rglob("*") if path.is_file())
    words = (folder, "--catalog", tmp_path / "catalog", "--operators", "media,labels,objects", "--json")
    done = pinakes("run", *words, **ray)
    assert done.returncode == 3, done.stderr
    summary = json.loads(done.stdout)
    assert summary["status"] == "finished"
    assert summary["items"] + summary["plan"]["passed_over"] == items
    for counts in summary["looks"].values():
        assert sum(counts.values()) == summary["items"]
        assert counts["ok"] > items / 2
    assert not {"crashed", "out_of_memory", "time_limit", "operator_failed", "unreachable"} & set(summary["errors"])
    good = Catalog(str(tmp_path / "catalog")).sql(
        "SELECT count(*) AS items, count(*) FILTER (status = 'ok') AS ok FROM latest_ledger "
        "WHERE regexp_matches(parse_filename(uri), '^(hopper|flower)') AND operator = 'media'"
    )
    ((items, ok),) = zip(*good.to_pydict().values(), strict=True)
    assert items == ok > 10


# --- answers


def test_answers_for_other_programs(url: Path, tmp_path: Path) -> None:
    query = "SELECT parse_filename(uri) AS photo, name, confidence, ancestors FROM latest_labels ORDER BY ALL"
    rows = Catalog(str(url)).sql(query).to_pylist()
    assert rows
    assert rows[0]["ancestors"]

    done = pinakes("sql", query, "--catalog", url, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert [json.loads(line) for line in done.stdout.splitlines()] == rows

    table = list(csv.DictReader(io.StringIO(here("sql", query, "--csv", PINAKES_CATALOG=str(url)).stdout)))
    assert [row["photo"] for row in table] == [row["photo"] for row in rows]
    assert [json.loads(row["ancestors"]) for row in table] == [row["ancestors"] for row in rows]
    assert [float(row["confidence"]) for row in table] == pytest.approx([row["confidence"] for row in rows])

    twice = "SELECT 1 AS uri, 2 AS uri, INTERVAL 1 DAY AS took"
    done = here("sql", twice, "--catalog", url, "--json")
    assert json.loads(done.stdout) | {"took": ""} == {"uri": 1, "uri_1": 2, "took": ""}
    assert here("sql", twice, "--catalog", url, "--csv").stdout.splitlines()[0] == '"uri","uri_1","took"'

    done = here("sql", query, "--catalog", url, "--output", "answer.parquet", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "")
    assert pq.read_table(tmp_path / "answer.parquet").to_pylist() == rows

    boxes = here("sql", "SELECT name, box FROM latest_objects", "--catalog", url, "--csv").stdout
    (box,) = csv.DictReader(io.StringIO(boxes))
    assert json.loads(box["box"]).keys() == {"left", "top", "width", "height"}


def test_awkward_answers(url: Path, tmp_path: Path) -> None:
    query = """SELECT 'a "quoted", [red]text[/red]' AS text, NULL AS nothing, TIMESTAMP '2024-02-03 04:05:06' AS at,
               1.5::DECIMAL(9, 2) AS price, [1, 2] AS list, {'a': [true, NULL]} AS struct, 'x'::BLOB AS bytes"""
    shown = here("sql", query, "--catalog", url).stdout
    assert "[red]text[/red]" in shown
    found = json.loads(here("sql", query, "--catalog", url, "--json").stdout)
    assert found["text"] == 'a "quoted", [red]text[/red]'
    assert (found["nothing"], found["list"], found["struct"]) == (None, [1, 2], {"a": [True, None]})
    (row,) = csv.DictReader(io.StringIO(here("sql", query, "--catalog", url, "--csv").stdout))
    assert row["text"] == 'a "quoted", [red]text[/red]'
    assert (row["nothing"], json.loads(row["list"]), json.loads(row["struct"])) == ("", [1, 2], {"a": [True, None]})

    empty = "SELECT * FROM latest_labels WHERE false"
    for form in ([], ["--csv"], ["--json"], ["--output", str(tmp_path / "empty.parquet")]):
        assert here("sql", empty, "--catalog", url, *form).returncode == 0
    assert "ancestors" in here("sql", empty, "--catalog", url, "--csv").stdout
    line = refused(1, "sql", "SELECT 1", "--catalog", url, "--output", tmp_path / "no" / "such" / "folder.parquet")
    assert "folder.parquet" in line


def test_an_answer_that_nobody_reads_to_its_end(url: Path) -> None:
    words: list[Any] = [PINAKES, "sql", "SELECT range FROM range(200000)", "--catalog", url, "--json"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as asked:
        assert asked.stdout
        assert asked.stderr
        assert json.loads(asked.stdout.readline()) == {"range": 0}
        asked.stdout.close()
        assert asked.stderr.read() == b""


def test_status_and_plan_in_words(archive: Path, url: Path) -> None:
    said = here("status", "--catalog", url)
    assert (said.returncode, said.stderr) == (0, "")
    assert "labels" in said.stdout
    assert "no failures" in said.stdout
    said = here("plan", archive, "--catalog", url, "--operators", "media")
    assert (said.returncode, said.stderr) == (0, "")
    assert "nothing to do" in said.stdout


def test_the_models_are_listed(tmp_path: Path) -> None:
    there = json.loads(here("models", "--json").stdout)
    assert {row["model"] for row in there} == {entry.name for entry in models.entries()}
    assert all(row["licence"] for row in there)
    empty = json.loads(here("models", "--json", PINAKES_CACHE=str(tmp_path)).stdout)
    assert {row["here"] for row in empty} == {"no"}
    assert "there is no model" in refused(1, "models", "pull", "no-such-model")
