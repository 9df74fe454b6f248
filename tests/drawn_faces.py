"""Catalogues of faces that were drawn, not seen: as many as a test needs, in a moment."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from hashlib import blake2b

import numpy as np
import pyarrow as pa

from pinakes.catalog import Catalog
from pinakes.catalog.catalog import new_run_id
from pinakes.catalog.schema import LEDGER, result_schema
from pinakes.operators.faces import SCHEMA as FACES
from pinakes.operators.media import Media
from pinakes.operators.operator import EMBEDDINGS

MODEL = "drawn-1"
TABLES = {"media": Media.tables["media"], "faces": FACES, "embeddings": EMBEDDINGS}


def identities(count: int, faces: int, dimensions: int = 128, seed: int = 0) -> np.ndarray:
    """(count * faces, dimensions) float32 of length 1: so many faces of each person, a person's one after the other."""
    draw = np.random.default_rng(seed)
    people = draw.standard_normal((count, dimensions))
    people /= np.linalg.norm(people, axis=1, keepdims=True)
    noise = draw.standard_normal((count, faces, dimensions))
    noise /= np.linalg.norm(noise, axis=2, keepdims=True)
    vectors = (people[:, None] + 0.55 * noise).reshape(-1, dimensions)
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def add_faces(
    catalog: Catalog,
    uris: Sequence[str],
    vectors: Sequence[np.ndarray],
    *,
    fingerprint: str = "settings-1",
    model: str = MODEL,
    version: str = "1",
    source: str = "drawn://",
    width: int = 1000,
    sharpness: Sequence[float] | None = None,
    captured_at: datetime | None = None,
    ages: Sequence[float] | None = None,
    operator: str = "faces",
    media: str = "media",
) -> list[list[str]]:
    """One run that looks at these pictures and sees in each the faces of those vectors. Returns the ids by picture.

    `operator` is the name of the one that looks for faces, `media` the fingerprint with which media are looked at.
    """
    run_id = new_run_id()
    ask(catalog, run_id, fingerprint, model, source, operator, media)
    log = catalog.commit_log(run_id, TABLES, catalog.finish())
    now = datetime.now(UTC)
    rows: dict[str, list[dict[str, object]]] = {"media": [], "faces": [], "embeddings": [], "ledger": []}
    ids = []
    for at, (uri, found) in enumerate(zip(uris, vectors, strict=True)):
        key = blake2b(f"{uri} {version}".encode(), digest_size=16).hexdigest()
        shared = {
            "uri": uri,
            "item_key": key,
            "content_id": blake2b(f"content of {uri} {version}".encode(), digest_size=16).hexdigest(),
            "attempt": 1,
        }
        by_faces = {**shared, "model": model, "fingerprint": fingerprint}
        by_media = {**shared, "model": "media", "fingerprint": media}
        for name, row, results in ((operator, by_faces, len(found)), ("media", by_media, 1)):
            rows["ledger"].append({**row, "operator": name, "status": "ok", "results": results, "finished_at": now})
        facts = {"media_type": "image", "format": "jpeg", "width": width, "height": width, "orientation": 1, "size": 1}
        rows["media"].append({**by_media, **facts, "captured_at": captured_at})
        ids.append([])
        for number, vector in enumerate(found):
            name = blake2b(repr((key, fingerprint, number)).encode(), digest_size=16).hexdigest()
            box = {"left": 0.1 * number, "top": 0.2, "width": 0.09, "height": 0.12}
            quality = {"brightness": 0.5, "sharpness": 0.8 if sharpness is None else sharpness[at]}
            face = {"face_id": name, "box": box, "confidence": 0.9, "quality": quality}
            rows["faces"].append(
                {
                    **by_faces,
                    **face,
                    "pose": {"roll": 0.0, "yaw": 0.0, "pitch": 0.0},
                    "age": None if ages is None else ages[at],
                }
            )
            rows["embeddings"].append({**by_faces, "subject": "face", "subject_id": name, "vector": vector})
            ids[-1].append(name)
    schemas = {**{name: result_schema(columns) for name, columns in TABLES.items()}, "ledger": LEDGER}
    log.commit(
        {
            name: pa.Table.from_pylist(
                found, schema=pa.schema([field for field in schemas[name] if field.name not in ("run_id", "n")])
            )
            for name, found in rows.items()
        }
    )
    return ids


def ask(
    catalog: Catalog,
    run_id: str,
    fingerprint: str,
    model: str = MODEL,
    source: str = "drawn://",
    operator: str = "faces",
    media: str = "media",
) -> None:
    """The first row of a run that asks for faces with those settings."""
    operators = {
        operator: {"model": model, "fingerprint": fingerprint, "video_fingerprint": None},
        "media": {"model": "media", "fingerprint": media, "video_fingerprint": None},
    }
    run = {"run_id": run_id, "status": "started", "job": "drawn", "source": source, "spec": "{}", "versions": "{}"}
    catalog.record_run({**run, "operators": json.dumps(operators), "host": "here"})
