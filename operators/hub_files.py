"""The files of a model of the transformers library: which of them count, whether they are whole and safe, copies.

Such a model is the names and hashes of its files; where they lie changes nothing. Only what cannot carry code counts:
settings, the words of tokenizers, and weights as safetensors (the other formats are pickles, or worse).
"""

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import IO, Any

from pinakes.operators.errors import ModelError
from pinakes.operators.models import Report, cache_folder
from pinakes.operators.wheels import sha256_of

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"

#: All that is ever read of a model.
PATTERNS = [
    *(CONFIG, "preprocessor_config.json", "processor_config.json"),
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.json", "vocab.txt", "merges.txt", "*.model"),
    *(WEIGHTS, "model-*.safetensors", INDEX),
]

#: How weights end that may be there instead: named in the refusal.
OTHER_WEIGHTS = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".h5", ".msgpack", ".onnx", ".safetensors")

MOST_JSON_BYTES = 10_000_000

_FILE_NAME = re.compile(r"[A-Za-z0-9._-]+")


@dataclass(frozen=True)
class HubFile:
    """One file of a model."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class HubModel:
    """A model as it was found. `place` is the folder on the machine that found it."""

    name: str
    files: tuple[HubFile, ...]
    place: str

    @property
    def digest(self) -> str:
        """16 hex digits over the names and contents of its files, wherever they lie."""
        parts = [f"{file.name}:{file.sha256}" for file in self.files]
        return hashlib.blake2b("\n".join(parts).encode(), digest_size=8).hexdigest()

    @property
    def label(self) -> str:
        return f"{self.name}@{self.digest[:8]}"

    @property
    def weight_bytes(self) -> int:
        return sum(file.bytes for file in self.files if file.name.endswith(".safetensors"))

    def folder(self) -> Path:
        """The folder with these very files on this machine, each compared with its hash once per process.

        Raises ModelError when they are neither where they were found nor in the cache of models.
        """
        fault = _fault(Path(self.place), self.files)
        if fault is None:
            return Path(self.place)
        fetched = kept() / self.digest
        if _fault(fetched, self.files) is None:
            return fetched
        raise ModelError(
            f"model {self.label}: {fault}: run `pinakes models pull` on this machine with what the job names as its "
            "model, or keep the model in a directory that every machine reaches"
        )


def kept() -> Path:
    """Where models that were fetched from URLs lie, each in a folder named by its digest."""
    return cache_folder() / "hub"


def described(name: str, folder: Path) -> HubModel:
    """The model in a folder. Raises ModelError when it is not whole, not safe, or cannot be read."""
    try:
        names = whole(name, folder)
        _check_settings(name, read_json(name, folder / CONFIG))
        files = tuple(HubFile(file, (folder / file).stat().st_size, _sha256(folder / file)) for file in names)
    except OSError as error:
        raise ModelError(f"model {name}: {folder} cannot be read: {one_line(error)}") from error
    return HubModel(name, files, str(folder))


def _check_settings(name: str, settings: dict[str, Any]) -> None:
    """Raises ModelError when they, or settings inside them, would have something else fetched, read or run."""
    if "auto_map" in settings:
        raise ModelError(
            f"model {name}: its {CONFIG} asks for code of its own (auto_map), which is never run: take a model that "
            "the transformers library itself knows"
        )
    for setting, value in settings.items():
        # Another file of weights; a part that is fetched by its name; computing kernels of somebody's.
        other = setting in ("transformers_weights", "backbone") and value
        kernels = setting.endswith("attn_implementation") and "/" in str(value)
        if other or kernels:
            raise ModelError(
                f"model {name}: its {CONFIG} asks for {setting} {str(value)[:100]!r}, which is not among its own "
                "files: such models are not run"
            )
        for inner in value if isinstance(value, list) else [value]:
            if isinstance(inner, dict):
                _check_settings(name, inner)


def whole(name: str, folder: Path) -> list[str]:
    """The names of the files that count, in order. Raises ModelError when some are missing, or OSError."""
    there = sorted(entry.name for entry in folder.iterdir() if entry.is_file())
    check_names(name, there)
    if "adapter_config.json" in there:
        raise ModelError(f"model {name} is an adapter to another model: merge it into that first, and save the whole")
    names = [file for file in there if counts(file)]
    if INDEX in names:
        shards = read_json(name, folder / INDEX).get("weight_map")
        if not isinstance(shards, dict) or not shards:
            raise ModelError(f"model {name}: its {INDEX} names no files")
        for shard in shards.values():
            # By any other ending it would not be read as safetensors.
            if shard not in names or not shard.endswith(".safetensors"):
                missing = repr(str(shard)[:100])
                raise ModelError(f"model {name}: {missing}, which its {INDEX} names, is not there: fetch it again")
    return names


def check_names(name: str, there: Iterable[str]) -> None:
    """Raises ModelError when no model can be in a folder that has these files."""
    names = set(there)
    if not names & {WEIGHTS, INDEX}:
        others = [repr(file) for file in sorted(names) if file.endswith(OTHER_WEIGHTS)]
        instead = f" but {', '.join(others[:3])}" if others else ""
        raise ModelError(
            f"model {name} has no {WEIGHTS}{instead}: weights are read as safetensors only, because other formats can "
            "run code; `save_pretrained` writes them, and on the hub a pull request often has them (revision "
            "refs/pr/NUMBER)"
        )
    if CONFIG not in names:
        raise ModelError(f"model {name} has no {CONFIG}: it is not one of the transformers library")


def counts(name: str) -> bool:
    """Whether a file of that name, in the folder itself, is part of a model."""
    return bool(_FILE_NAME.fullmatch(name)) and any(fnmatchcase(name, pattern) for pattern in PATTERNS)


def read_json(name: str, file: Path) -> dict[str, Any]:
    """One of a model's files, an object. Raises ModelError."""
    try:
        if file.stat().st_size > MOST_JSON_BYTES:
            raise ValueError(f"larger than {MOST_JSON_BYTES / 1e6:.0f} MB")
        found = json.loads(file.read_bytes())
        if not isinstance(found, dict):
            raise ValueError("not a JSON object")
    except (ValueError, RecursionError) as error:
        raise ModelError(f"model {name}: its {file.name} cannot be read: {one_line(error)}") from error
    return found


def _fault(folder: Path, files: Iterable[HubFile]) -> str | None:
    """What is wrong with these files there, if anything is."""
    for file in files:
        local = folder / file.name
        try:
            if not local.is_file():
                return f"{local} is not there"
            if local.stat().st_size != file.bytes or _sha256(local) != file.sha256:
                return f"{local} has changed since it was found"
        except OSError as error:
            return f"{local} cannot be read: {one_line(error)}"
    return None


def _sha256(file: Path) -> str:
    seen = file.stat()
    return _hash(str(file), seen.st_size, seen.st_ctime_ns)


@cache
def _hash(file: str, size: int, changed_ns: int) -> str:
    """Once per process, as long as nobody touches the file: weights are gigabytes."""
    return sha256_of(Path(file))


def copied(model: HubModel, to: Path, report: Report) -> Path:
    """`to`, with plain files, whole at once. Raises ModelError when it cannot be written or has something else."""
    try:
        if to.is_dir() and any(to.iterdir()):
            if not is_model(to, model.digest):
                raise ModelError(f"{to} is not empty, and what it has is not {model.label}: name another directory")
            report(f"{model.label}: in {to} already")
            return to
        to.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{to.name}-", dir=to.parent) as scratch:
            new = Path(scratch) / to.name  # made with the rights of any folder, which the scratch folder has not
            new.mkdir()
            for file in model.files:
                with (Path(model.place) / file.name).open("rb") as stream:
                    copy(stream, new / file.name)
            if fault := _fault(new, model.files):
                raise ModelError(f"model {model.label}: {fault}: pull it again")
            os.replace(new, to)
    except OSError as error:
        raise ModelError(f"model {model.label} cannot be written to {to}: {one_line(error)}") from error
    report(f"{model.label}: copied to {to}")
    return to


def is_model(folder: Path, digest: str) -> bool:
    """Whether the folder has the model of that digest."""
    try:
        return described(folder.name, folder).digest == digest
    except ModelError:
        return False


def copy(stream: IO[bytes], file: Path) -> None:
    """Write what a stream gives, to the disk itself: a file must not be there in name only. Raises OSError."""
    with file.open("wb") as out:
        shutil.copyfileobj(stream, out, 1 << 20)
        out.flush()
        os.fsync(out.fileno())


def one_line(error: BaseException) -> str:
    """What an error says, short and without line breaks."""
    return " ".join(str(error).split())[:300] or type(error).__name__
