"""A server that speaks as much of the Hugging Face hub as fetching models needs, and a tiny model to put on it.

The hub's library reads HF_ENDPOINT when it is imported, so what asks the server is a process of its own:
`Hub.environment` is for that. Import the fixtures where they are needed.
"""

import hashlib
import json
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

#: What the hub answers, by status and its own code, to who may not read a repository, or asks for what is not there.
Refusal = tuple[int, str]
GATED: Refusal = (401, "GatedRepo")
GATED_TO_THIS_TOKEN: Refusal = (403, "GatedRepo")
FORBIDDEN: Refusal = (403, "")
BROKEN: Refusal = (500, "")

Files = dict[str, bytes]

#: The files of the tiny model.
COUNTED = {"config.json", "model.safetensors", "preprocessor_config.json", "spiece.model"}


@pytest.fixture(scope="module")
def tiny_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a CLIP of 32 dimensions and two layers, as the transformers library writes it; only read."""
    from transformers import CLIPConfig, CLIPModel

    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    words = {**sizes, "vocab_size": 99, "max_position_embeddings": 16}
    pictures = {**sizes, "image_size": 32, "patch_size": 16}
    folder = tmp_path_factory.mktemp("tiny") / "clip"
    CLIPModel(CLIPConfig(text_config=words, vision_config=pictures, projection_dim=16)).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text('{"image_processor_type": "CLIPImageProcessor"}')
    (folder / "spiece.model").write_bytes(b"pieces of words")
    assert {file.name for file in folder.iterdir()} == COUNTED
    return folder


class Hub:
    """Repositories with their commits, and every request that came."""

    def __init__(self) -> None:
        self.endpoint = ""
        self.requests: list[str] = []
        self.commits: dict[str, dict[str, Files]] = {}
        self.branches: dict[str, dict[str, str]] = {}
        #: Answers to whatever path begins so.
        self.refusals: dict[str, Refusal] = {}
        #: While it is clear, weights are sent by half; `stalled` is set when that has happened.
        self.flowing = threading.Event()
        self.stalled = threading.Event()
        self.flowing.set()

    def publish(self, model: str, files: Mapping[str, bytes], branch: str = "main") -> str:
        """Makes these files the branch; the commit."""
        whole = repr(sorted(files.items())).encode()
        commit = hashlib.sha1(whole).hexdigest()
        self.commits.setdefault(model, {})[commit] = dict(files)
        self.branches.setdefault(model, {})[branch] = commit
        return commit

    def environment(self, home: Path) -> dict[str, str]:
        """Of a process that asks this hub, and keeps what it gets in `home`."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
        return {**kept, "HF_ENDPOINT": self.endpoint, "HF_HOME": str(home), "HF_HUB_DISABLE_TELEMETRY": "1"}


@contextmanager
def serve() -> Iterator[Hub]:
    """Run a hub on a free port, and stop it."""
    hub = Hub()

    class Handler(_Handler):
        said = hub

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    hub.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.flowing.set()
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    said: Hub

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def log_message(self, format: str, *arguments: object) -> None:
        """Keeps the terminal free."""

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        if path == "/api/agent-harnesses":  # the library asks for this by itself, once a day
            self._send(404, {}, b"")
            return
        self.said.requests.append(f"{self.command} {path}")
        for prefix, (status, code) in self.said.refusals.items():
            if path.startswith(prefix):
                self._refuse(status, code)
                return
        kind, _, rest = path.lstrip("/").partition("/")
        if kind == "api":
            self._tell(rest.removeprefix("models/"))
        else:
            self._file(path.lstrip("/"))

    def _tell(self, path: str) -> None:
        """What is known of a model: MODEL, MODEL/revision/REVISION, MODEL/tree/REVISION."""
        model, word, revision = _parted(path, "revision", "tree")
        commit = self._commit(model, revision)
        if commit is None:
            return
        files = self.said.commits[model][commit]
        if word == "tree":
            self._send_json([_listed(name, data) for name, data in files.items()])
        else:
            siblings = [{"rfilename": name} for name in files]
            self._send_json({"id": model, "modelId": model, "sha": commit, "siblings": siblings, "tags": []})

    def _file(self, path: str) -> None:
        model, _, rest = _parted(path, "resolve")
        revision, _, name = rest.partition("/")
        commit = self._commit(model, revision)
        if commit is None:
            return
        data = self.said.commits[model][commit].get(name)
        if data is None:
            self._refuse(404, "EntryNotFound")
            return
        headers = {"X-Repo-Commit": commit, "ETag": f'"{hashlib.sha1(data).hexdigest()}"'}
        if name.endswith(".safetensors"):
            headers |= {"X-Linked-Etag": f'"{hashlib.sha256(data).hexdigest()}"', "X-Linked-Size": str(len(data))}
            if self.command == "GET" and not self.said.flowing.is_set():
                self._send(200, headers, data, len(data) // 2)
                self.said.stalled.set()
                self.said.flowing.wait(60)
                self.close_connection = True
                return
        self._send(200, headers, data)

    def _commit(self, model: str, revision: str) -> str | None:
        """The commit of that revision; None when it has been said that there is none."""
        if model not in self.said.commits:
            self._refuse(401, "RepoNotFound")  # to those without a token the hub does not say what exists
            return None
        commit = self.said.branches[model].get(revision, revision)
        if commit not in self.said.commits[model]:
            self._refuse(404, "RevisionNotFound")
            return None
        return commit

    def _refuse(self, status: int, code: str) -> None:
        self._send(status, {"X-Error-Code": code, "X-Error-Message": "no"} if code else {}, b"{}")

    def _send_json(self, found: object) -> None:
        self._send(200, {"Content-Type": "application/json"}, json.dumps(found).encode())

    def _send(self, status: int, headers: Mapping[str, str], body: bytes, most: int | None = None) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[:most])
            self.wfile.flush()


def _parted(path: str, *words: str) -> tuple[str, str, str]:
    """The model, the word after it, and what follows that."""
    for word in words:
        model, between, rest = path.partition(f"/{word}/")
        if between:
            return model, word, rest
    return path, "", "main"


def _listed(name: str, data: bytes) -> dict[str, object]:
    entry: dict[str, object] = {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
    if name.endswith(".safetensors"):
        entry["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}
    return entry
