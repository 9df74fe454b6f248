"""Catalogues with faces in them, made up row by row and committed for real; and all that their files hold."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import write_deltalake

from pinakes.catalog import Catalog
from pinakes.catalog.catalog import new_run_id
from pinakes.catalog.face_tables import TABLES as FACE_TABLES
from pinakes.catalog.schema import LEDGER, result_schema
from pinakes.operators.faces import Faces
from pinakes.operators.tracks import TRACKS

MODEL = "yunet-2023mar+sface-2021dec"
TABLES = {**Faces.tables, "tracks": TRACKS}


@dataclass(frozen=True)
class Face:
    """A face in an item: whose, of which content, how far from the left, and when in a film."""

    uri: str
    who: str
    left: float = 0.1
    frame_ms: int | None = None
    content: str | None = None  # that of the uri's own when not given
    fingerprint: str = "first"
    attempt: int = 1

    @property
    def face_id(self) -> str:
        return hexed(self.uri, self.fingerprint, self.frame_ms, self.left, self.attempt)

    @property
    def vector(self) -> list[float]:
        seed = int(hexed(self.who, self.face_id)[:8], 16)
        vector = np.random.default_rng(seed).normal(size=128).astype(np.float32)
        return list((vector / np.linalg.norm(vector)).tolist())

    @property
    def box(self) -> dict[str, float]:
        return {"left": self.left, "top": 0.2, "width": 0.1, "height": 0.15}

    @property
    def shared(self) -> dict[str, Any]:
        return {
            "uri": self.uri,
            "item_key": hexed(self.uri),
            "content_id": hexed("content", self.content or self.uri),
            "frame_ms": self.frame_ms,
            "window_start_ms": None,
            "model": MODEL,
            "fingerprint": self.fingerprint,
            "attempt": self.attempt,
        }


def hexed(*parts: Any) -> str:
    return hashlib.blake2b(repr(parts).encode(), digest_size=16).hexdigest()


def rows_of(faces: Sequence[Face], tracks: Mapping[str, Sequence[Face]] | None = None) -> dict[str, pa.Table]:
    """What `faces` and `tracks` would find, with the looks. `tracks` has each face track's faces, by its id."""
    points = {name: {"x": 0.15, "y": 0.25} for name in Faces.tables["faces"].field("landmarks").type.names}
    found: dict[str, list[dict[str, Any]]] = {"faces": [], "embeddings": [], "tracks": []}
    looks = {}
    for face in faces:
        about = {"face_id": face.face_id, "box": face.box, "confidence": 0.9, "landmarks": points}
        about["pose"] = {"roll": 0.0, "yaw": 0.0, "pitch": 0.0}
        about["quality"] = {"brightness": 0.5, "sharpness": 0.5}
        found["faces"].append({**face.shared, **about})
        vector = {"subject": "face", "subject_id": face.face_id, "vector": face.vector}
        found["embeddings"].append({**face.shared, **vector})
        look = {**face.shared, "operator": "faces", "status": "ok", "results": 2, "finished_at": datetime.now(UTC)}
        looks[face.uri, face.fingerprint, face.attempt] = look
    for track_id, held in (tracks or {}).items():
        for kind in ("face", "person"):
            boxes = [{"frame_ms": one.frame_ms, **one.box, "confidence": 0.9} for one in held]
            track = {"track_id": hexed(kind, track_id), "kind": kind, "start_ms": 0, "end_ms": 9, "frames": len(held)}
            track["face_ids"] = [one.face_id for one in held] if kind == "face" else []
            found["tracks"].append({**held[0].shared, "frame_ms": None, **track, "boxes": boxes})
    tables = {}
    for name, rows in [*found.items(), ("ledger", list(looks.values()))]:
        every = LEDGER if name == "ledger" else result_schema(TABLES[name])
        schema = pa.schema([field for field in every if field.name not in ("run_id", "n")])
        tables[name] = pa.Table.from_pylist(rows, schema=schema)
    return tables


def commit(url: Path | str, faces: Sequence[Face], tracks: Mapping[str, Sequence[Face]] | None = None) -> None:
    """As a run does that has looked at their items."""
    catalog = Catalog(str(url), create=True)
    last = catalog.finish()
    catalog.commit_log(new_run_id(), TABLES, last).commit(rows_of(faces, tracks))


def add(url: Path | str, table: str, *rows: Mapping[str, Any]) -> None:
    """Rows of a table of face search; what a row does not say is null, or 0, or a text."""
    schema = FACE_TABLES[table]
    usual = {"collection": "all", "recorded_at": datetime.now(UTC), "searched_at": datetime.now(UTC), "load": 1}
    usual |= {"milvus_name": "all_1", "uri": "", "action": "indexed", "how": "reference", "threshold": 0.4}
    usual |= {"search_id": "0" * 32, "searched_by": "me@here"}
    made = [{**{name: value for name, value in usual.items() if name in schema.names}, **row} for row in rows]
    catalog = Catalog(str(url))
    write_deltalake(catalog.table(table, schema), pa.Table.from_pylist(made, schema=schema), mode="append")


def contents(folder: Path) -> dict[str, str]:
    """By path what every file below a folder holds, Parquet decoded; vectors as `numbers` spells them."""
    found = {}
    for path in sorted(one for one in folder.rglob("*") if one.is_file()):
        text = path.read_bytes().decode("latin-1")
        if path.suffix == ".parquet":
            text += json.dumps(pq.ParquetFile(path).read().to_pylist(), default=str, ensure_ascii=False)
        found[str(path.relative_to(folder))] = text
    return found


def numbers(vector: Sequence[float]) -> str:
    """The start of a vector as `contents` spells it."""
    return json.dumps([float(np.float32(one)) for one in vector[:4]])[1:-1]


def holding(folder: Path, *wanted: str) -> set[str]:
    """The files that hold one of those texts."""
    return {path for path, text in contents(folder).items() if any(one in text for one in wanted)}
