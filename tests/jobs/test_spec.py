"""A job as a file and as words; what is wrong with it is one line that names the field and says what there is."""

import os
from pathlib import Path
from typing import Any

import pytest

from pinakes.jobs.errors import SpecError
from pinakes.jobs.spec import JobSpec, make_spec, read_spec


def read(folder: Path, text: str, **overrides: Any) -> JobSpec:
    (folder / "job.yaml").write_text(text)
    return read_spec(folder / "job.yaml", **overrides)


def test_a_job_from_a_file(tmp_path: Path) -> None:
    spec = read(tmp_path, "name: nightly\nsource: s3://bucket/photos\ncatalog: s3://bucket/catalog\nworkers: 3\n")
    assert (spec.job, spec.source, spec.catalog) == ("nightly", "s3://bucket/photos", "s3://bucket/catalog")
    assert (spec.workers, spec.operators) == (3, None)


def test_paths_are_from_the_folder_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    monkeypatch.setenv("HOME", "/home/me")
    spec = read(tmp_path, "source: photos/**/*.jpg\ncatalog: ../catalog\n")
    assert spec.source == f"{tmp_path}/photos/**/*.jpg"
    assert os.path.normpath(spec.catalog) == str(tmp_path.parent / "catalog")
    spec = read(tmp_path, "source: /photos\ncatalog: ~/catalog\n")
    assert (spec.source, spec.catalog) == ("/photos", "/home/me/catalog")
    # But words beside it are from where they are written.
    assert read(tmp_path, "source: photos\ncatalog: c\n", catalog="here").catalog == "here"
    assert read(tmp_path, "source: photos\ncatalog: c\n", catalog=None).catalog == f"{tmp_path}/c"


def test_a_budget_and_its_tariff(tmp_path: Path) -> None:
    job = "source: a\ncatalog: c\nbudget: "
    for spelled in ("{usd: 50}", "{usd: 50, tariff: own}", "{images: 1000000}", "{images: 5, video_minutes: 60}"):
        spec = read(tmp_path, job + spelled)
        assert spec.budget is not None
        # As a run writes it down, and a retry reads it.
        assert JobSpec.model_validate_json(spec.model_dump_json()) == spec
    spec = read(tmp_path, job + "{usd: 50, tariff: prices/ours.toml}")
    assert spec.budget is not None
    assert spec.budget.tariff == f"{tmp_path}/prices/ours.toml"
    assert read(tmp_path, "source: a\ncatalog: c\n").budget is None


@pytest.mark.parametrize(
    ("spelled", "meant"),
    [
        ("[labels, objects]", {"labels": {}, "objects": {}}),
        ("{labels: , objects: {min_confidence: 0.5}}", {"labels": {}, "objects": {"min_confidence": 0.5}}),
        ("{labels: {}}", {"labels": {}}),
        ("[]", {}),
        ("", None),
    ],
)
def test_operators_by_name_or_with_settings(tmp_path: Path, spelled: str, meant: Any) -> None:
    assert read(tmp_path, f"source: a\ncatalog: c\noperators: {spelled}\n").operators == meant


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "source"),
        ("photos", "source"),
        ("[a, b]", "source"),
        ("[" * 5000, "cannot be read"),
        ("source: [", "cannot be read"),
        ("source: !!python/object/apply:os.system ['touch pwned']\ncatalog: c", "cannot be read"),
        ("source: a", "catalog: Field required"),
        ("source: ''\ncatalog: c", "source: String should have at least 1 character"),
        ("source: 2024-01-01\ncatalog: c", "source: Input should be a valid string"),
        ("source: a\ncatalog: c\nsauce: d", "sauce: Extra inputs are not permitted"),
        ("source: a\ncatalog: c\noperators: labels", "operators"),
        ("source: a\ncatalog: c\noperators: {labels: 5}", r"operators\.labels"),
        ("source: a\ncatalog: c\nworkers: 0", "workers"),
        ("source: a\ncatalog: c\nworkers: 1.5", "workers"),
        ("source: a\ncatalog: c\ntime_limit_s: -1", "time_limit_s"),
        ("source: a\ncatalog: c\ntime_limit_s: .inf", "time_limit_s"),
        ("source: a\ncatalog: c\nmax_megapixels: .nan", "max_megapixels"),
        ("source: a\ncatalog: c\nbudget: 50", "budget"),
        ("source: a\ncatalog: c\nbudget: {}", "budget: give usd, or images, video_minutes or both"),
        ("source: a\ncatalog: c\nbudget: {usd: 5, images: 9}", "budget: give usd, or images"),
        ("source: a\ncatalog: c\nbudget: {images: 9, tariff: own}", "budget: tariff goes with usd"),
        ("source: a\ncatalog: c\nbudget: {usd: 0}", r"budget\.usd"),
        ("source: a\ncatalog: c\nbudget: {usd: .inf}", r"budget\.usd"),
        ("source: a\ncatalog: c\nbudget: {images: 1.5}", r"budget\.images"),
        ("source: a\ncatalog: c\nbudget: {video_minutes: -1}", r"budget\.video_minutes"),
        ("source: a\ncatalog: c\nbudget: {euros: 5}", r"budget\.euros"),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, says: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SpecError, match=says) as error:
        read(tmp_path, text)
    assert str(tmp_path / "job.yaml") in str(error.value)
    assert "\n" not in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["job.yaml"]


def test_an_unknown_field_is_answered_with_those_there_are() -> None:
    with pytest.raises(SpecError) as error:
        make_spec(source="a", catalog="c", speed=11)
    for field in JobSpec.model_fields:
        assert field in str(error.value)


def test_a_file_that_is_not_there_or_not_text(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"none\.yaml"):
        read_spec(tmp_path / "none.yaml")
    (tmp_path / "job.yaml").write_bytes(b"\xff\xfe\0")
    with pytest.raises(SpecError, match="utf-8"):
        read_spec(tmp_path / "job.yaml")
