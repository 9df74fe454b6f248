"""Faces whose people are known, for face_accuracy.py: of photos that say who is in them, of strangers, of films."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from pinakes.catalog.face_quality import QualityLimits, reasons
from pinakes.operators.decode import MAX_PIXELS, decode
from pinakes.operators.faces import Faces
from pinakes.operators.operator import MediaFacts, Picture
from pinakes.operators.video import Window, open_video
from tests.benchmarks.photos import SUFFIXES

#: Of the photos with several people who they are, from left to right; None is nobody of the six. In all other photos
#: the largest face counts, and its person is named by the file or the folder.
GROUPS: dict[str, tuple[str | None, ...]] = {
    "kit_with_rose": ("rose_leslie", "kit_harington"),
    "obama_and_biden": ("biden", "obama", None),
    "two_people": ("obama", "biden"),
}
#: Made from other photos of the set: a pair of a photo with itself is no pair.
MADE_FROM = {
    "obama_partial_face": "obama",
    "obama_partial_face2": "obama",
    "two_people": ("obama3", "biden"),
}
NAMES = {"johnsnow_test": "kit_harington", "lin-manuel-miranda": "lin_manuel_miranda"}

#: Faces of strangers that are this alike are one photo, found twice.
COPY = 0.75

#: In a film a face is that of the sampled frame before when their boxes overlap by so much (intersection over union):
#: the vectors, which are to be judged, have no say.
SAME_PLACE = 0.3


@dataclass(frozen=True)
class Face:
    """A face, and who it is: the same `who` is the same person."""

    who: str
    vector: np.ndarray  # (128,) float32 of length 1
    source: str  # the photo or the film
    box: tuple[float, float, float, float]  # left, top, width, height: ratios
    left_out: tuple[str, ...]  # reasons, by the limits that indexing has
    made_from: frozenset[str] = frozenset()  # the photos that it was in first
    ms: int = 0


class Reader:
    """Finds faces as a job does, with the settings that a job has by default."""

    def __init__(self, limits: QualityLimits | None = None) -> None:
        self.operator = Faces()
        self.operator.load()
        self._reasons = reasons(limits or QualityLimits())
        self._connection = duckdb.connect()

    def faces(
        self, pixels: np.ndarray, facts: MediaFacts, source: str, ms: int = 0
    ) -> list[tuple[Face, dict[str, Any]]]:
        """All faces in a picture, the largest first, whose `who` is empty yet; and their rows."""
        found = self.operator.look([Picture(pixels, facts, item_key="0" * 32)])
        size = {"media_width": facts.width, "media_height": facts.height}
        table = found["faces"]
        for name, value in size.items():
            table = table.append_column(name, pa.array([value] * len(table), pa.int32()))
        self._connection.register("seen", table)
        rows = self._connection.sql(f"SELECT *, {self._reasons} AS left_out FROM seen").to_arrow_table().to_pylist()
        vectors = {row["subject_id"]: row["vector"] for row in found["embeddings"].to_pylist()}
        return [
            (
                Face(
                    who="",
                    vector=np.array(vectors[row["face_id"]], np.float32),
                    source=source,
                    box=tuple(row["box"][side] for side in ("left", "top", "width", "height")),
                    left_out=tuple(row["left_out"]),
                    ms=ms,
                ),
                row,
            )
            for row in rows
        ]

    def photo(self, file: Path) -> list[Face]:
        pixels, facts = decode(file.read_bytes())
        return [face for face, _ in self.faces(pixels, facts, str(file))]


def photos(folder: Path) -> Iterator[Path]:
    """The photos in a folder, no two of the same bytes."""
    seen: set[bytes] = set()
    for file in sorted(folder.rglob("*")):
        if file.suffix.lower() in SUFFIXES:
            digest = hashlib.blake2b(file.read_bytes()).digest()
            if digest not in seen:
                seen.add(digest)
                yield file


def evaluation(name: str) -> Path:
    """A folder of the evaluation data. Ends the program when there is none."""
    if not os.environ.get("PINAKES_EVAL"):
        raise SystemExit("PINAKES_EVAL does not say where the evaluation data is")
    return Path(os.environ["PINAKES_EVAL"]) / name


def public_figures(reader: Reader) -> list[Face]:
    """The faces of the evaluation set."""
    known: list[Face] = []
    for file in photos(evaluation("faces")):
        made_from = MADE_FROM.get(file.stem, file.stem)
        origins = frozenset((made_from,) if isinstance(made_from, str) else made_from)
        found = reader.photo(file)
        if file.stem in GROUPS:
            found = sorted(found, key=lambda face: face.box[0])
            names = GROUPS[file.stem]
            assert len(found) == len(names), f"{file}: {len(found)} faces"
        else:
            stem = file.parent.name if file.stem.startswith("img") else file.stem
            person = NAMES.get(stem.rstrip("0123456789"), stem.rstrip("0123456789"))
            found, names = found[:1], ("obama" if person.startswith("obama") else person,)
        known += [replace(face, who=name, made_from=origins) for face, name in zip(found, names, strict=True) if name]
    return known


def strangers(reader: Reader, folders: Sequence[Path]) -> tuple[list[Face], list[tuple[float, str, str]]]:
    """Every face in those photos, as a person of its own; and what was left out as the same photo again."""
    kept: list[Face] = []
    copies: list[tuple[float, str, str]] = []
    for folder in folders:
        for file in photos(folder):
            others = np.array([face.vector for face in kept])
            for number, face in enumerate(reader.photo(file)):
                alike = others @ face.vector if len(others) else np.zeros(1)
                if alike.max() >= COPY:
                    copies.append((float(alike.max()), str(file), kept[int(alike.argmax())].source))
                else:
                    kept.append(replace(face, who=f"{file}#{number}"))
    return kept, copies


def film(reader: Reader, file: Path, names: Sequence[str]) -> list[Face]:
    """The faces of two frames a second, followed by their places; `names` are those of the tracks, from left to right.

    A track without a name is a person of its own.
    """
    tracks: list[list[Face]] = []
    times: list[int] = [-1]
    with open_video(str(file), file.name, file.stat().st_size, MAX_PIXELS) as video:
        for frame in video.frames(Window(0, None), "2fps"):
            assert frame.pixels is not None
            live = [track for track in tracks if track[-1].ms == times[-1]]
            for face, _ in reader.faces(frame.pixels, video.facts, str(file), frame.frame_ms):
                near = max(live, key=lambda track: overlap(track[-1].box, face.box), default=None)
                if near is not None and overlap(near[-1].box, face.box) > SAME_PLACE:
                    near.append(face)
                    live = [track for track in live if track is not near]
                else:
                    tracks.append([face])
            times.append(frame.frame_ms)
    if names:
        tracks.sort(key=lambda track: float(np.mean([face.box[0] for face in track])))
        assert len(tracks) == len(names), f"{file}: {len(tracks)} tracks"
    named = [names[number] if names else f"{file}#{number}" for number in range(len(tracks))]
    return [replace(face, who=name) for track, name in zip(tracks, named, strict=True) for face in track]


def overlap(one: Sequence[float], other: Sequence[float]) -> float:
    """Intersection over union of two boxes."""
    common = 1.0
    for axis in (0, 1):
        end = min(one[axis] + one[axis + 2], other[axis] + other[axis + 2])
        common *= max(0.0, end - max(one[axis], other[axis]))
    return common / (one[2] * one[3] + other[2] * other[3] - common)
