"""Models of the transformers library: found by their Hugging Face hub id, in a directory, or behind a URL.

What comes from elsewhere is not trusted: only files that count are fetched (see hub_files), and no name from a listing
leads out of a folder.

Models of the hub lie in its own cache, which other programs share. The cache's note of what a branch is moves only
when everything is there, so a job stays with what it has until somebody pulls, and a kill changes nothing. What was
behind a URL lies under `hub/DIGEST` beside the models on record, with a note of how the URL's files were then.
"""

import errno
import hashlib
import json
import logging
import os
import re
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from filelock import FileLock

from pinakes.operators import hub_files
from pinakes.operators.errors import ModelError
from pinakes.operators.hub_files import HubFile, HubModel, one_line
from pinakes.operators.models import Report

__all__ = ["HubFile", "HubModel", "find", "pull"]

#: The hub's first answer; without one it counts as out of reach.
HUB_SECONDS = 15

_PART = r"\b[\w.-]{1,96}\b"
_HUB_ID = re.compile(rf"(?!.*(?:--|\.\.))(?:{_PART}/)?{_PART}(?<!\.git)", re.ASCII)
#: It becomes part of a path in the hub's cache.
_REVISION = re.compile(r"(?!.*\.\.)[^\s/\\][^\s\\]*")

#: What file systems call the version of a file.
_STAMPS = (
    *("ETag", "etag", "md5Hash", "Content-MD5", "content_md5", "Digest"),
    *("LastModified", "Last-Modified", "last_modified", "updated", "mtime", "modified", "created"),
)

_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR)


def find(model: str, revision: str | None = None, report: Report = lambda line: None) -> HubModel:
    """The model of that hub id (at a revision of the hub's: a branch, tag or commit), directory, or URL of a folder.

    What the hub's cache has whole is taken without asking the hub, and a directory is used where it lies; a URL is
    looked at, and fetched if it is not as it was. `report` gets a line of text per step. Raises ModelError, in one
    line, when there is no such model, when it cannot be had, or when it is not one that is safe to read.
    """
    return _find(model, revision, report, newest=False)


def pull(model: str, revision: str | None = None, to: Path | None = None, report: Report = lambda line: None) -> Path:
    """`find`, but of the hub what the revision is now. Returns the folder: with `to` that one, a copy made at once.

    The copy has plain files. It is renamed into place when it is whole; a kill may leave a folder beside it, whose
    name begins with a dot. Raises ModelError as `find` does, and when `to` has something else in it.
    """
    found = _find(model, revision, report, newest=True)
    report(f"{found.label}: {found.weight_bytes / 1e6:.1f} MB of weights, in {found.place}")
    return Path(found.place) if to is None else hub_files.copied(found, Path(os.path.realpath(to)), report)


def _find(model: str, revision: str | None, report: Report, newest: bool) -> HubModel:
    folder = os.path.abspath(os.path.expanduser(model))
    is_local = bool(model) and "://" not in model and os.path.isdir(folder)
    if revision is not None and ("://" in model or is_local):
        raise ModelError(f"model {model}: only models of the hub have revisions, directories and URLs do not")
    if "://" in model:
        found = _from_url(model, report)
    elif is_local:
        found = hub_files.described(os.path.basename(folder) or folder, Path(folder))
    elif _HUB_ID.fullmatch(model):
        found = _from_hub(model, revision, report, newest)
    else:
        raise ModelError(f"model {model!r}: there is no such directory, and a hub id is OWNER/NAME")
    return found


# --- the hub


def _from_hub(model: str, revision: str | None, report: Report, newest: bool) -> HubModel:
    if revision is not None and not _REVISION.fullmatch(revision):
        raise ModelError(f"model {model}: {revision!r} is no revision (a branch, tag or commit)")
    if find_spec("huggingface_hub") is None:
        raise ModelError(f"model {model}: a model of the hub needs `pip install 'pinakes[torch]'`")
    with _quiet():
        folder = None if newest else _cached(model, revision)
        if folder is None:
            try:
                folder = _download(model, revision, report)
            except ModelError:
                raise
            except Exception as error:  # of the hub's, of the connection's or of the disk's
                raise _refusal(model, revision, error) from error
    return hub_files.described(model, folder)


def _cached(model: str, revision: str | None) -> Path | None:
    """Its folder in the hub's cache, if it is whole there."""
    from huggingface_hub import HfApi, get_cached_repo_tree
    from huggingface_hub.errors import CachedRepoTreeNotFoundError

    try:
        folder = _snapshot(model, revision, fetch=False)
        try:
            get_cached_repo_tree(model, revision=folder.name)
        except CachedRepoTreeNotFoundError:
            # Another program has cached single files, those that it needed. The rest of the same commit is asked for,
            # lest the model be another one here than elsewhere; where no hub answers, what is here may do.
            with suppress(Exception):
                HfApi().model_info(model, revision=folder.name, timeout=HUB_SECONDS)  # it tries once, the next often
                _snapshot(model, folder.name)
        hub_files.whole(model, folder)
    except (OSError, ModelError):
        return None
    return folder


def _download(model: str, revision: str | None, report: Report) -> Path:
    from huggingface_hub import HfApi

    # The library itself makes do with what is cached when there is no answer: not when somebody pulls.
    found = HfApi().model_info(model, revision=revision, timeout=HUB_SECONDS)
    hub_files.check_names(model, [file.rfilename for file in found.siblings or ()])
    report(f"{model}: fetching what is not here of commit {found.sha}")
    # First the commit, then the branch: the cache's note of it is written before any file is fetched.
    folder = _snapshot(model, found.sha)
    if _snapshot(model, revision) != folder:
        raise ModelError(f"model {model}: it changed on the hub while it was fetched: run the command again")
    return folder


def _snapshot(model: str, revision: str | None, fetch: bool = True) -> Path:
    from huggingface_hub import snapshot_download

    only, never = hub_files.PATTERNS, ["*/*"]
    return Path(
        snapshot_download(
            model, revision=revision, local_files_only=not fetch, allow_patterns=only, ignore_patterns=never
        )
    )


def _refusal(model: str, revision: str | None, error: Exception) -> ModelError:
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    command = f"`pinakes models pull {model}{f' --revision {revision}' if revision else ''} --to DIR`"
    if isinstance(error, RevisionNotFoundError):
        return ModelError(f"model {model}: the hub has no revision {revision or 'main'!r} of it: look at its page")
    if isinstance(error, RepositoryNotFoundError) and not isinstance(error, GatedRepoError):
        return ModelError(
            f"model {model}: there is no such directory, and on the hub no such model, or a private one: look at the "
            "spelling, or set HF_TOKEN to the token of somebody who may read it"
        )
    if _status(error) in (401, 403):
        return ModelError(
            f"model {model}: the hub does not let you read it: accept its terms on its page "
            f"and set HF_TOKEN, or run {command} where that is done, then `model: DIR`"
        )
    if isinstance(error, OSError) and error.errno in _DISK:
        return ModelError(
            f"model {model}: the hub's cache cannot be written: {one_line(error)}: make room, or set HF_HOME to "
            "another folder"
        )
    return ModelError(
        f"model {model} is not here, and the hub does not give it ({one_line(error)}): run {command} on a connected "
        "machine, then `model: DIR`"
    )


def _status(error: BaseException | None) -> int | None:
    """The hub's status code, of the error or of what it came from."""
    while error is not None:
        if (code := getattr(getattr(error, "response", None), "status_code", None)) is not None:
            return int(code)
        error = error.__cause__
    return None


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the hub library's progress bars, log and warnings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from huggingface_hub.utils import logging as hub_logging
        from huggingface_hub.utils.tqdm import disable_progress_bars

        verbosity = hub_logging.get_verbosity()
        hub_logging.set_verbosity(logging.CRITICAL)
        try:
            with disable_progress_bars():
                yield
        finally:
            hub_logging.set_verbosity(verbosity)


# --- a URL


def _from_url(url: str, report: Report) -> HubModel:
    name = url.rstrip("/").rpartition("/")[2] or url
    key = hashlib.blake2b(url.rstrip("/").encode(), digest_size=8).hexdigest()
    try:
        listing = _listing(url, name)
        hub_files.kept().mkdir(parents=True, exist_ok=True)
        with FileLock(hub_files.kept() / f"{key}.lock"):
            return _remembered(name, key, listing) or _fetched(url, name, key, listing, report)
    except ModelError:
        raise
    except Exception as error:  # every file system has its own
        raise ModelError(
            f"model {url} cannot be fetched ({type(error).__name__}: {one_line(error)}): run `pinakes models pull "
            f"{url} --to DIR` where it can be read, then `model: DIR`"
        ) from error


def _listing(url: str, name: str) -> dict[str, list[Any]]:
    """Size and version of its files, as far as the file system says."""
    from fsspec.core import url_to_fs

    filesystem, root = url_to_fs(url)
    filesystem.invalidate_cache()  # this process may have looked before
    # Only the last part of what is listed is used: a listing cannot name a file outside the folder.
    there = {entry["name"].rstrip("/").rpartition("/")[2]: entry for entry in filesystem.ls(root, detail=True)}
    hub_files.check_names(name, there)
    listing = {}
    for file in sorted(filter(hub_files.counts, there)):
        if there[file].get("islink") or there[file]["type"] != "file":
            raise ModelError(f"model {url}: its {file} is a link or a folder: behind a URL only plain files are read")
        about = filesystem.info(f"{root.rstrip('/')}/{file}")
        stamp = next((str(about[key]) for key in _STAMPS if about.get(key)), None)
        listing[file] = [about.get("size"), stamp]
    return listing


def _remembered(name: str, key: str, listing: dict[str, list[Any]]) -> HubModel | None:
    """What was fetched before, if the files behind the URL have not changed since, and neither have those here."""
    try:
        note = json.loads((hub_files.kept() / f"{key}.json").read_bytes())
        if note["listing"] != listing or any(stamp is None for _, stamp in listing.values()):
            return None
        found = hub_files.described(name, hub_files.kept() / note["digest"])
        return found if found.digest == note["digest"] else None
    except (OSError, ValueError, KeyError, TypeError, ModelError):
        return None


def _fetched(url: str, name: str, key: str, listing: dict[str, list[Any]], report: Report) -> HubModel:
    from fsspec.core import url_to_fs

    filesystem, root = url_to_fs(url)
    home = hub_files.kept()
    partial, note = home / f"{key}.partial", home / f"{key}.new"
    shutil.rmtree(partial, ignore_errors=True)  # of a fetch that was killed
    partial.mkdir()
    try:
        for file, (size, _) in listing.items():
            report(f"{name}: fetching {file}")
            with filesystem.open(f"{root.rstrip('/')}/{file}", "rb") as stream:
                hub_files.copy(stream, partial / file)
            if size not in (None, (partial / file).stat().st_size):
                raise ModelError(f"model {url}: its {file} did not come whole: run the command again")
        found = hub_files.described(name, partial)
        place = home / found.digest
        with FileLock(home / f"{found.digest}.lock"):  # another URL may lead to the same files
            if not hub_files.is_model(place, found.digest):
                shutil.rmtree(place, ignore_errors=True)
                os.replace(partial, place)
        note.write_text(json.dumps({"listing": listing, "digest": found.digest}))
        os.replace(note, home / f"{key}.json")
        return replace(found, place=str(place))
    finally:
        shutil.rmtree(partial, ignore_errors=True)
