"""Models in directories and behind URLs: what is found, what is refused, and what a kill leaves."""

import os
import shutil
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from hashlib import sha256
from multiprocessing import get_context
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from pinakes.operators import hub, hub_files, models
from pinakes.operators.errors import ModelError
from tests.hub_server import COUNTED, tiny_clip

__all__ = ["tiny_clip"]


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache; the folder in it for what is fetched from URLs."""
    monkeypatch.setenv(models.CACHE_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache" / "models" / "hub"


@pytest.fixture
def clip(tiny_clip, tmp_path):
    """A folder with a model and much that does not count, for a test to spoil."""
    folder = tmp_path / "clip"
    shutil.copytree(tiny_clip, folder)
    (folder / "README.md").write_text("words")
    (folder / "pytorch_model.bin").write_bytes(b"a pickle")
    (folder / "onnx").mkdir()
    (folder / "onnx" / "config.json").write_text("{}")
    return folder


@pytest.fixture
def memory():
    """fsspec's file system in memory, emptied afterwards."""
    filesystem = MemoryFileSystem()
    yield filesystem
    filesystem.store.clear()
    filesystem.pseudo_dirs[:] = [""]


def put(filesystem, folder, path):
    for file in folder.iterdir():
        if file.is_file():
            filesystem.pipe_file(f"{path}/{file.name}", file.read_bytes())


def refused(model, *others, **options):
    with pytest.raises(ModelError) as error:
        hub.find(str(model), *others, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


def names_in(folder):
    return {file.name for file in folder.iterdir()}


def flip(file):
    """Another byte, the same size."""
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


# --- a directory


def test_a_directory_is_used_where_it_lies(clip, monkeypatch):
    monkeypatch.chdir(clip.parent)
    found = hub.find("clip")
    assert (found.name, found.place) == ("clip", str(clip))
    assert [file.name for file in found.files] == sorted(COUNTED)
    for file in found.files:
        data = (clip / file.name).read_bytes()
        assert (file.bytes, file.sha256) == (len(data), sha256(data).hexdigest())
    assert found.weight_bytes == (clip / "model.safetensors").stat().st_size
    assert found.label == f"clip@{found.digest[:8]}"
    assert found.folder() == clip
    assert hub.find(f"{clip}/") == found
    assert hub.pull(str(clip)) == clip


def test_the_digest_is_of_names_and_bytes_wherever_they_lie(clip, tmp_path):
    digest = hub.find(str(clip)).digest
    assert len(digest) == 16
    (clip / "README.md").write_text("other words")
    other = tmp_path / "elsewhere" / "another name"
    shutil.copytree(clip, other)
    assert hub.find(str(other)).digest == digest
    seen = {digest}
    for name in ("preprocessor_config.json", "model.safetensors", "spiece.model"):
        flip(other / name)
        seen.add(hub.find(str(other)).digest)
    (other / "spiece.model").rename(other / "tokenizer.model")
    seen.add(hub.find(str(other)).digest)
    (other / "tokenizer.model").unlink()
    seen.add(hub.find(str(other)).digest)
    assert len(seen) == 6


def test_a_model_in_shards(tiny_clip, tmp_path):
    from transformers import CLIPModel

    CLIPModel.from_pretrained(tiny_clip).save_pretrained(tmp_path / "sharded", max_shard_size="50KB")
    shards = list((tmp_path / "sharded").glob("model-*.safetensors"))
    assert len(shards) > 2
    found = hub.find(str(tmp_path / "sharded"))
    assert {file.name for file in found.files} == names_in(tmp_path / "sharded") & COUNTED | {
        "model.safetensors.index.json",
        *(shard.name for shard in shards),
    }
    assert found.weight_bytes == sum(shard.stat().st_size for shard in shards)
    shards[1].unlink()
    assert shards[1].name in refused(tmp_path / "sharded")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        ({"model.safetensors": None}, "has no model.safetensors but 'pytorch_model.bin': weights are read as safeten"),
        ({"model.safetensors": None, "pytorch_model.bin": None}, "has no model.safetensors: weights"),
        ({"config.json": None}, "has no config.json"),
        ({"config.json": '{"auto_map": {"AutoModel": "evil.Model"}}'}, "code of its own (auto_map)"),
        ({"config.json": "[]"}, "its config.json cannot be read: not a JSON object"),
        ({"config.json": "{"}, "its config.json cannot be read"),
        ({"config.json": b"\xff"}, "its config.json cannot be read"),
        ({"config.json": "[" * 100_000}, "its config.json cannot be read"),
        ({"config.json": " " * 10_000_001}, "larger than 10 MB"),
        ({"model.safetensors.index.json": "{}"}, "model.safetensors.index.json names no files"),
        ({"model.safetensors.index.json": '{"weight_map": {"a": "model-2.safetensors"}}'}, "'model-2.safetensors'"),
        ({"model.safetensors.index.json": '{"weight_map": {"a": "../clip/model.safetensors"}}'}, "'../clip/model."),
        ({"model.safetensors.index.json": '{"weight_map": {"a": "spiece.model"}}'}, "'spiece.model'"),
        ({"model.safetensors.index.json": '{"weight_map": {"a": ["x"]}}'}, "is not there"),
        ({"model.safetensors.index.json": '{"weight_map": {"a": "a\\nb"}}'}, "is not there"),
    ],
)
def test_what_is_not_whole_or_not_safe_is_refused_in_one_line(clip, spoil, said):
    for name, text in spoil.items():
        if text is None:
            (clip / name).unlink()
        else:
            (clip / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    assert said in refused(clip)
    assert "model clip" in refused(clip)


def test_words_that_are_neither_a_directory_nor_a_hub_id(clip):
    for name in ("../nowhere", "/nowhere", "a/b/c", "owner/name@main", "a..b", "-x", "", "owner/na me", "x" * 97):
        assert "no such directory" in refused(name)
    assert "revisions" in refused(clip, "main")
    assert "revisions" in refused("memory://clip", "main")
    for revision in ("../../x", "/etc", "a b", ""):
        assert "no revision" in refused("owner/name", revision)


def test_a_machine_without_the_hub_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert "pip install 'pinakes[torch]'" in refused("owner/name")


def test_importing_it_imports_nothing_heavy():
    heavy = "{'huggingface_hub', 'transformers', 'torch', 'numpy'}"
    code = f"import sys, pinakes.operators.hub; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


# --- the folder on this machine


def test_a_file_that_changed_since_is_refused_unless_the_right_ones_are_kept(clip, cache, monkeypatch):
    found = hub.find(str(clip))
    hashed = []
    monkeypatch.setattr(hub_files, "sha256_of", lambda file: hashed.append(file) or models.sha256_of(file))
    assert found.folder() == clip
    assert not hashed  # once per process
    shutil.copytree(clip, cache / found.digest)
    flip(clip / "spiece.model")
    assert found.folder() == cache / found.digest
    flip(cache / found.digest / "model.safetensors")
    with pytest.raises(ModelError) as error:
        found.folder()
    assert f"{clip / 'spiece.model'} has changed" in str(error.value)
    assert "pinakes models pull" in str(error.value)
    shutil.rmtree(clip)
    with pytest.raises(ModelError, match="is not there"):
        found.folder()


# --- a URL


def test_a_url_is_fetched_once_and_again_when_it_has_changed(clip, cache, memory):
    put(memory, clip, "/models/clip")
    lines = []
    found = hub.find("memory://models/clip", report=lines.append)
    assert found.name == "clip"
    assert Path(found.place) == cache / found.digest
    assert found.folder() == Path(found.place)
    assert names_in(found.folder()) == COUNTED
    assert found.digest == hub.find(str(clip)).digest
    assert len([line for line in lines if "fetching" in line]) == len(COUNTED)

    lines.clear()
    assert hub.find("memory://models/clip", report=lines.append) == found
    assert not [line for line in lines if "fetching" in line]

    flip(clip / "model.safetensors")
    put(memory, clip, "/models/clip")
    other = hub.find("memory://models/clip")
    assert other.digest == hub.find(str(clip)).digest != found.digest
    assert found.folder() != other.folder()


def test_a_bucket_is_looked_at_anew(clip, cache, s3):
    for name in names_in(clip) - {"onnx"}:
        s3.put(f"models/clip/{name}", (clip / name).read_bytes())
    found = hub.find(f"{s3.url}/models/clip")
    assert found.digest == hub.find(str(clip)).digest
    flip(clip / "spiece.model")
    s3.put("models/clip/spiece.model", (clip / "spiece.model").read_bytes())
    assert hub.find(f"{s3.url}/models/clip").digest == hub.find(str(clip)).digest != found.digest


def test_what_was_fetched_and_is_damaged_is_fetched_again(clip, cache):
    found = hub.find(clip.as_uri())
    assert found.place != str(clip)
    flip(found.folder() / "model.safetensors")
    with pytest.raises(ModelError, match="has changed"):
        found.folder()
    assert hub.find(clip.as_uri()) == found
    assert found.folder()
    shutil.rmtree(found.place)
    assert hub.find(clip.as_uri()).folder() == Path(found.place)


def test_two_urls_of_the_same_files(clip, cache, memory):
    put(memory, clip, "/models/clip")
    assert hub.find("memory://models/clip") == hub.find(clip.as_uri())
    assert len([path for path in cache.iterdir() if path.is_dir()]) == 1


def test_nothing_behind_a_url_leads_out_of_its_folder(clip, cache, memory, tmp_path):
    (tmp_path / "secret").write_bytes(b"secret")
    (clip / "vocab.txt").symlink_to(tmp_path / "secret")
    assert "vocab.txt is a link" in refused(clip.as_uri())
    (clip / "vocab.txt").unlink()

    class Crooked(MemoryFileSystem):
        """Lists files of other folders as if they were its own."""

        def ls(self, path, detail=True, **kwargs):
            own = super().ls(path, detail=True)
            return [*own, {"name": "/outside/vocab.txt", "type": "file", "size": 6, "created": "then"}]

    fsspec.register_implementation("crooked", Crooked, clobber=True)
    put(memory, clip, "/models/clip")
    memory.pipe_file("/outside/vocab.txt", b"secret")
    assert "FileNotFoundError" in refused("crooked://models/clip")
    assert not list(cache.glob("*/vocab.txt"))


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("file:///nowhere/clip", "FileNotFoundError"),
        ("nosuch://bucket/clip", "nosuch"),
        ("memory://a/b", "FileNotFound"),
    ],
)
def test_a_url_that_cannot_be_read_says_what_to_do(cache, url, said):
    line = refused(url)
    assert said in line
    assert f"`pinakes models pull {url} --to DIR`" in line
    assert "`model: DIR`" in line


def test_only_what_can_be_a_model_is_fetched(clip, cache):
    (clip / "model.safetensors").unlink()
    assert "has no model.safetensors but 'pytorch_model.bin'" in refused(clip.as_uri())
    assert not cache.exists()


def test_a_file_that_does_not_come_whole_is_refused(clip, cache, monkeypatch):
    real = hub_files.copy
    monkeypatch.setattr(hub_files, "copy", lambda stream, file: real(stream, file) or os.truncate(file, 10))
    assert "did not come whole" in refused(clip.as_uri())
    assert not list(cache.glob("*/"))


def stop_at_the_weights(stream, file, real=hub_files.copy):
    if file.name == "model.safetensors":
        raise KeyboardInterrupt
    real(stream, file)


def test_a_fetch_that_was_killed_leaves_nothing_that_looks_whole(clip, cache, monkeypatch):
    # A kill cleans nothing up.
    monkeypatch.setattr(hub.shutil, "rmtree", lambda *_, **__: None)
    monkeypatch.setattr(hub_files, "copy", stop_at_the_weights)
    with pytest.raises(KeyboardInterrupt):
        hub.find(clip.as_uri())
    assert [path.suffix for path in cache.iterdir() if path.is_dir()] == [".partial"]
    monkeypatch.undo()
    monkeypatch.setenv(models.CACHE_VARIABLE, str(cache.parents[1]))
    found = hub.find(clip.as_uri())
    assert names_in(found.folder()) == COUNTED
    assert [path.name for path in cache.iterdir() if path.is_dir()] == [found.digest]


def _meet(barrier):
    global _barrier
    _barrier = barrier


def _find(url):
    lines = []
    _barrier.wait(60)
    return hub.find(url, report=lines.append), [line for line in lines if "fetching" in line]


def test_of_several_processes_one_fetches(clip, cache):
    spawn = get_context("spawn")
    with ProcessPoolExecutor(3, spawn, _meet, (spawn.Barrier(3),)) as pool:
        answers = list(pool.map(_find, [clip.as_uri()] * 3))
    assert len({found for found, _ in answers}) == 1
    assert sorted(len(lines) for _, lines in answers) == [0, 0, len(COUNTED)]


# --- a copy


def test_a_copy_is_plain_files_that_work_as_the_model(clip, tmp_path):
    from transformers import CLIPModel

    blobs = tmp_path / "blobs"
    blobs.mkdir()
    for name in COUNTED:  # as the hub's cache has them
        (clip / name).rename(blobs / name)
        (clip / name).symlink_to(blobs / name)
    to = tmp_path / "new" / "copy"
    assert hub.pull(str(clip), to=to) == to
    assert names_in(to) == COUNTED
    assert not any(file.is_symlink() for file in to.iterdir())
    assert to.stat().st_mode & 0o777 == (tmp_path / "blobs").stat().st_mode & 0o777
    shutil.rmtree(clip)
    shutil.rmtree(blobs)
    found = hub.find(str(to))
    assert CLIPModel.from_pretrained(found.folder(), local_files_only=True).config.projection_dim == 16
    assert names_in(to.parent) == {"copy"}


def test_a_copy_is_not_written_over_anything_else(clip, tmp_path):
    to = tmp_path / "to"
    to.mkdir()
    assert hub.pull(str(clip), to=to) == to  # an empty folder will do
    lines = []
    assert hub.pull(str(clip), to=to, report=lines.append) == to
    assert lines[-1].endswith("already")
    flip(to / "spiece.model")
    before = {file.name: file.read_bytes() for file in to.iterdir()}
    with pytest.raises(ModelError, match="is not empty, and what it has is not clip@"):
        hub.pull(str(clip), to=to)
    assert {file.name: file.read_bytes() for file in to.iterdir()} == before
    (tmp_path / "file").write_text("words")
    for target in (tmp_path / "file", tmp_path / "file" / "to"):
        with pytest.raises(ModelError, match="cannot be written") as error:
            hub.pull(str(clip), to=target)
        assert "\n" not in str(error.value)
    assert names_in(tmp_path) == {"clip", "file", "to"}


def test_a_copy_that_was_killed_is_not_there(clip, tmp_path, monkeypatch):
    monkeypatch.setattr(hub_files, "copy", stop_at_the_weights)
    with pytest.raises(KeyboardInterrupt):
        hub.pull(str(clip), to=tmp_path / "to")
    assert not (tmp_path / "to").exists()


def test_a_cache_that_cannot_be_written(clip, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("words")
    monkeypatch.setenv(models.CACHE_VARIABLE, str(tmp_path / "file" / "cache"))
    assert "Not a directory" in refused(clip.as_uri())
