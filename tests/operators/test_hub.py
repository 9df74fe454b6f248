"""Models by their id on the hub, as processes ask for them: what is fetched, when the hub is asked, what is refused."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pinakes.operators import hub
from tests.hub_server import BROKEN, COUNTED, FORBIDDEN, GATED, GATED_TO_THIS_TOKEN, serve, tiny_clip

__all__ = ["tiny_clip"]

ID = "owner/clip"

FIND = """
import json, sys
from pinakes.operators import hub
lines = []
found = hub.find(*sys.argv[1:], report=lines.append)
print(json.dumps({"digest": found.digest, "name": found.name, "folder": str(found.folder()), "lines": lines}))
"""

PULL = """
import sys
from pathlib import Path
from pinakes.operators import hub
from pinakes.operators.errors import ModelError
model, revision, to = sys.argv[1:]
try:
    print("pulled", hub.pull(model, revision or None, Path(to)))
except ModelError as error:
    print(error)
"""

#: What transformers does when it loads a model that needs no more.
CACHE_SOME = """
import sys
from huggingface_hub import hf_hub_download
for file in sys.argv[2:]:
    hf_hub_download(sys.argv[1], file)
"""

NOWHERE = {"HF_ENDPOINT": "http://127.0.0.1:9"}


@pytest.fixture
def files(tiny_clip):
    """What a repository has, files that do not count among it."""
    model = {file.name: file.read_bytes() for file in tiny_clip.iterdir()}
    return {**model, "README.md": b"words", "pytorch_model.bin": b"a pickle", "onnx/spiece.model": b"words"}


@pytest.fixture
def served(files):
    with serve() as there:
        there.publish(ID, files)
        yield there


@pytest.fixture
def ask(served, tmp_path):
    """A function: a process of this machine, whose hub's cache is empty at first; what it did."""

    def run(*command, **environment):
        kept = served.environment(tmp_path / "home") | {"PINAKES_CACHE": str(tmp_path / "cache")}
        words = [str(word) for word in command]
        return subprocess.run(
            [sys.executable, *words], env=kept | environment, capture_output=True, text=True, timeout=120, check=False
        )

    return run


@pytest.fixture
def find(ask):
    """A function: `find` in a process of its own; what it found."""

    def run(*words, **environment):
        done = ask("-c", FIND, *words, **environment)
        assert (done.returncode, done.stderr) == (0, "")  # no progress bars, no warnings
        return json.loads(done.stdout)

    return run


@pytest.fixture
def pull(ask):
    """A function: `pinakes models pull`; the folder that it names."""

    def run(*words, **environment):
        done = ask("-m", "pinakes.jobs.cli", "models", "pull", *words, **environment)
        assert done.returncode == 0, done.stderr
        return Path(done.stdout.strip())

    return run


@pytest.fixture
def refused(ask, tmp_path):
    """A function: the only line that `pull` says in a process of its own, having written nothing."""

    def run(model, revision="", **environment):
        done = ask("-c", PULL, model, revision, tmp_path / "to", **environment)
        assert (done.returncode, done.stderr) == (0, "")  # no progress bars, no warnings
        (line,) = done.stdout.splitlines()
        assert not line.startswith("pulled")
        assert not (tmp_path / "to").exists()
        return line

    return run


@pytest.fixture
def command_refused(ask):
    """A function: the last and only line in red of `pinakes models pull` when it ends with that code."""

    def run(code, *words):
        done = ask("-m", "pinakes.jobs.cli", "models", "pull", *words)
        assert (done.returncode, done.stdout) == (code, "")
        assert [line for line in done.stderr.splitlines() if line.startswith("pinakes: ")] == done.stderr.splitlines()[
            -1:
        ]
        return done.stderr.splitlines()[-1]

    return run


def flipped(data):
    """Other bytes of the same size."""
    return data[:-1] + bytes([data[-1] ^ 1])


# --- when the hub is asked


def test_it_is_fetched_once_and_then_without_the_hub(served, find, tiny_clip):
    found = find(ID)
    assert found["name"] == ID
    assert found["digest"] == hub.find(str(tiny_clip)).digest
    assert {file.name for file in Path(found["folder"]).iterdir()} == COUNTED
    fetched = [request.rpartition("/")[2] for request in served.requests if request.startswith("GET /owner")]
    assert sorted(fetched) == sorted(COUNTED)
    asked = len(served.requests)
    for environment in ({}, NOWHERE, {"HF_HUB_OFFLINE": "1"}):
        again = find(ID, **environment)
        assert {**again, "lines": []} == {**found, "lines": []}
    assert len(served.requests) == asked


def test_it_stays_as_it_is_until_it_is_pulled(served, find, pull, files):
    before = find(ID)
    commit = served.publish(ID, {**files, "model.safetensors": flipped(files["model.safetensors"])})
    assert find(ID)["digest"] == before["digest"]
    folder = pull(ID)
    assert folder.name == commit
    after = find(ID, **NOWHERE)
    assert after["folder"] == str(folder)
    assert after["digest"] != before["digest"]


def test_a_revision_is_a_branch_or_a_commit(served, find, pull, files):
    main = find(ID)["digest"]
    commit = served.publish(ID, {**files, "spiece.model": b"others"}, "refs/pr/7")
    other = find(ID, "refs/pr/7")
    assert other["digest"] != main
    assert find(ID, commit)["folder"] == other["folder"]
    assert pull(ID, "--revision", "refs/pr/7").name == commit
    assert find(ID, **NOWHERE)["digest"] == main


def test_what_another_program_cached_is_used_and_completed(served, ask, find, files):
    assert ask("-c", CACHE_SOME, ID, "config.json").returncode == 0
    assert "is not here" in ask("-c", FIND, ID, **NOWHERE).stderr.splitlines()[-1]
    assert ask("-c", CACHE_SOME, ID, "model.safetensors").returncode == 0
    # Without an answer what is there has to do ...
    some = find(ID, **NOWHERE)
    assert {file.name for file in Path(some["folder"]).iterdir()} == {"config.json", "model.safetensors"}
    served.publish(ID, {**files, "config.json": files["config.json"] + b"\n"})
    served.requests.clear()
    # ... with one, the rest of the same commit comes.
    found = find(ID)
    assert found["folder"] == some["folder"]
    assert {file.name for file in Path(found["folder"]).iterdir()} == COUNTED
    fetched = {request.rpartition("/")[2] for request in served.requests if request.startswith("GET /owner")}
    assert fetched == COUNTED - {"config.json", "model.safetensors"}


def test_a_file_gone_from_the_cache_is_fetched_again(find):
    found = find(ID)
    (Path(found["folder"]) / "model.safetensors").unlink()
    assert find(ID)["digest"] == found["digest"]


def test_a_pull_that_is_killed_leaves_what_was_there(served, ask, find, files, tmp_path):
    before = find(ID)
    served.publish(ID, {**files, "model.safetensors": flipped(files["model.safetensors"])})
    served.flowing.clear()
    command = [sys.executable, "-m", "pinakes.jobs.cli", "models", "pull", ID, "--to", str(tmp_path / "to")]
    with subprocess.Popen(command, env=served.environment(tmp_path / "home"), stderr=subprocess.DEVNULL) as pulling:
        try:
            assert served.stalled.wait(60)
        finally:
            pulling.kill()
    served.flowing.set()
    assert not (tmp_path / "to").exists()
    assert find(ID, **NOWHERE)["digest"] == before["digest"]
    assert find(ID)["digest"] == before["digest"]


# --- a folder to carry


def test_a_folder_to_carry_away_is_the_model(find, pull, tmp_path):
    to = tmp_path / "usb" / "clip"
    assert pull(ID, "--to", to) == to
    assert {file.name for file in to.iterdir()} == COUNTED
    assert not any(file.is_symlink() for file in to.iterdir())
    assert hub.find(str(to)).digest == find(ID)["digest"]
    assert pull(ID, "--to", to) == to
    assert os.listdir(to.parent) == ["clip"]


# --- what cannot be had


TO_DIR = f"`pinakes models pull {ID} --to DIR`"


@pytest.mark.parametrize(
    ("refusals", "words", "said"),
    [
        ({f"/{ID}/resolve": GATED}, [ID], ["accept its terms", "HF_TOKEN", TO_DIR, "`model: DIR`"]),
        ({f"/{ID}/resolve": GATED_TO_THIS_TOKEN}, [ID], ["accept its terms", "HF_TOKEN"]),
        ({f"/{ID}/resolve": FORBIDDEN}, [ID], ["does not let you read it", "HF_TOKEN"]),
        ({f"/api/models/{ID}": FORBIDDEN}, [ID], ["does not let you read it", "HF_TOKEN"]),
        ({f"/api/models/{ID}": BROKEN}, [ID], ["500", f"{TO_DIR} on a connected machine", "`model: DIR`"]),
        ({}, ["owner/nothing"], ["on the hub no such model", "HF_TOKEN"]),
        ({}, [ID, "v9"], ["no revision 'v9'"]),
        ({}, [ID, "../v9"], ["'../v9' is no revision"]),
    ],
)
def test_what_the_hub_refuses_is_said_in_one_line(served, refused, refusals, words, said):
    served.refusals = refusals
    line = refused(*words)
    for part in said:
        assert part in line


@pytest.mark.parametrize("environment", [NOWHERE, {"HF_HUB_OFFLINE": "1"}])
def test_without_the_hub_a_pull_says_what_to_do(find, refused, environment):
    line = refused(ID, "main", **environment)
    for part in ("is not here", f"`pinakes models pull {ID} --revision main --to DIR`", "`model: DIR`"):
        assert part in line
    find(ID)
    # What is here may not be what is newest.
    assert "the hub does not give it" in refused(ID, **environment)


def test_a_model_that_is_not_safe_is_refused_and_its_weights_are_not_fetched(served, refused, files):
    served.publish(ID, {name: data for name, data in files.items() if not name.endswith(".safetensors")})
    line = refused(ID)
    assert "has no model.safetensors but 'pytorch_model.bin'" in line
    assert "refs/pr/NUMBER" in line
    assert not [request for request in served.requests if request.startswith(f"GET /{ID}")]
    config = {**json.loads(files["config.json"]), "auto_map": {"AutoModel": "evil.Model"}}
    served.publish(ID, {**files, "config.json": json.dumps(config).encode()})
    assert "auto_map" in refused(ID)


def test_a_cache_that_cannot_be_written(refused, tmp_path):
    (tmp_path / "file").write_text("words")
    line = refused(ID, HF_HOME=str(tmp_path / "file" / "home"))
    assert "Not a directory" in line
    assert "HF_HOME" in line


# --- the command


@pytest.mark.parametrize(
    "words",
    [["--to", "x"], [ID, "owner/other", "--to", "x"], ["picodet-416", "--to", "x"], ["picodet-416", "--revision", "x"]],
)
def test_options_that_do_not_go_together(served, command_refused, words):
    assert "--to and --revision go with one model" in command_refused(2, *words)
    assert not served.requests


def test_a_slip_in_the_name_of_a_model_on_record(served, command_refused):
    line = command_refused(1, "picodet")
    assert "there is no model 'picodet' on record" in line
    assert "on the hub no such model" in line
    served.refusals = {f"/{ID}/resolve": GATED}
    line = command_refused(1, ID)
    assert "accept its terms" in line
    assert "on record" not in line
