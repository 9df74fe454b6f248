"""The operator `tracks`: people and faces followed through a video, from the boxes of `objects` and `faces`.

A track lives within a shot, as far as `shots` is part of the job; following.py says how boxes are put together. A
face is a track of its own, and of the person in whose box it is: that goes on while the face is turned away.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from pinakes.operators.assignment import assigned
from pinakes.operators.following import FACE_REACH, PERSON_REACH, Moments, Seen, follow
from pinakes.operators.operator import BOX, Operator, OperatorConfig, WholeVideo, described
from pinakes.operators.shots import segments

#: Of two boxes in one frame that overlap by more (intersection over union) the less confident is left out: models with
#: a vocabulary do not do that themselves.
SAME_BOX = 0.7


_BOX_OF_FRAME = pa.struct(
    [
        pa.field("frame_ms", pa.int64(), nullable=False),
        *BOX,
        pa.field("confidence", pa.float32(), nullable=False),
    ]
)

TRACKS = pa.schema(
    [
        described("track_id", pa.string(), "32 hex digits; the same for the same item, kind, time and place of entry"),
        described("kind", pa.string(), "person or face"),
        described("start_ms", pa.int64(), "entry: time of the first sampled frame it is seen in, in milliseconds"),
        described("end_ms", pa.int64(), "exit: time of the last sampled frame it is seen in"),
        described("frames", pa.int32(), "sampled frames it is seen in"),
        described("confidence", pa.float32(), "mean over those frames of the score in objects or faces, 0 to 1"),
        described("max_confidence", pa.float32(), "the highest of these scores"),
        described(
            "person_track_id", pa.string(), "of a face: track of the person in whose box it mostly is; null if in none"
        ),
        described(
            "face_ids", pa.list_(pa.string()), "rows of faces, and of embeddings, in order of time; none of a person"
        ),
        described(
            "boxes",
            pa.list_(_BOX_OF_FRAME),
            "of every frame it is seen in, in order of time: ratios of the upright picture",
        ),
    ],
    metadata={"description": "a person or a face through a shot of a video"},
)


#: The columns that are used of `objects` and of `faces`, for a job without one of them.
_NOTHING = pa.schema(
    [
        pa.field("frame_ms", pa.int64()),
        pa.field("name", pa.string()),
        pa.field("face_id", pa.string()),
        pa.field("box", BOX),
        pa.field("confidence", pa.float32()),
    ]
).empty_table()


class TracksConfig(OperatorConfig):
    """Settings of `tracks`: what a person is called by the model of `objects`, and the scores that begin a track.

    At 0.5, of 113 tracks of people in a music video cut quickly, at 2 frames a second, 24 were of one frame only: all
    of people, but two of somebody who had another track at the time. So they are kept. Another model's scores may be
    others: those of a model with a vocabulary are often under 0.3.
    """

    person: str = Field(default="person", min_length=1)
    person_confidence: float = Field(default=0.5, ge=0, le=1)
    face_confidence: float = Field(default=0.7, ge=0, le=1)


class Tracks(Operator):
    """Fills `tracks`, one row a person or face and shot, by time of entry."""

    name = "tracks"
    tables: ClassVar = {}
    video_tables: ClassVar = {"tracks": TRACKS}
    media_types = ("video",)
    sees = "rows"
    follows = ("objects", "faces", "shots")
    Config = TracksConfig
    config: TracksConfig

    def finish(self, video: WholeVideo) -> Mapping[str, pa.Table]:
        shot = np.searchsorted(_cuts(video), video.frame_ms, side="right")
        moments = Moments(video.frame_ms, shot, video.facts.width / video.facts.height)
        people, faces = _people(video, self.config.person), _faces(video)
        carrier = _carriers(people, faces)
        held = carrier >= 0
        people.vector[carrier[held]] = faces.vector[held]
        people = replace(people, vectors=faces.vectors)
        of_person = follow(people, moments, PERSON_REACH, self.config.person_confidence)
        faces.body[held] = of_person[carrier[held]]
        of_face = follow(faces, moments, FACE_REACH, self.config.face_confidence)
        person_ids, face_ids = _ids(video, "person", people, of_person), _ids(video, "face", faces, of_face)
        bodies = [person_ids[one] if one >= 0 else None for one in _mostly(of_face, faces.body)]
        rows = [
            _rows(video, "person", people, of_person, person_ids, [None] * len(person_ids)),
            _rows(video, "face", faces, of_face, face_ids, bodies),
        ]
        order = [("start_ms", "ascending"), ("kind", "descending"), ("track_id", "ascending")]
        return {"tracks": pa.concat_tables(rows).sort_by(order)}


def _cuts(video: WholeVideo) -> np.ndarray:
    """Times at which a shot begins, or begins to fade into the next, in milliseconds, ascending."""
    marks = video.rows.get("marks")
    if marks is None:
        return np.zeros(0, np.int64)
    shots = segments(marks.to_pylist(), video.facts)
    shots = shots.filter(pc.equal(shots["kind"], "shot"))
    return np.union1d(shots["start_ms"].to_numpy(), shots["end_ms"].to_numpy())


def _people(video: WholeVideo, name: str) -> Seen:
    """Without vectors: `finish` gives them those of their faces."""
    rows = video.rows.get("objects", _NOTHING)
    rows = rows.filter(pc.equal(rows["name"], name))
    none = pa.nulls(len(rows), pa.string())
    return _seen(video, rows, none, np.full(len(rows), -1), np.zeros((1, 1), np.float32))


def _faces(video: WholeVideo) -> Seen:
    """With vectors where there are any in `embeddings`: those of the operators that are followed are all of faces."""
    rows = video.rows.get("faces", _NOTHING)
    ids = rows["face_id"].combine_chunks()
    embeddings = video.rows.get("embeddings")
    if embeddings is None or not len(embeddings):
        return _seen(video, rows, ids, np.full(len(rows), -1), np.zeros((1, 1), np.float32))
    place = pc.index_in(ids, embeddings["subject_id"].combine_chunks()).fill_null(-1)
    vectors = embeddings["vector"].combine_chunks().flatten().to_numpy().reshape(len(embeddings), -1)
    none = np.zeros_like(vectors[:1])
    return _seen(video, rows, ids, place.to_numpy().astype(np.int64), np.concatenate([vectors, none]))


def _seen(video: WholeVideo, rows: pa.Table, ids: pa.Array, vector: np.ndarray, vectors: np.ndarray) -> Seen:
    """Rows of `objects` or `faces`, without boxes that are nearly another's in the same frame."""
    frame = np.searchsorted(video.frame_ms, rows["frame_ms"].to_numpy())
    sides = [pc.struct_field(rows["box"], side).to_numpy() for side in BOX.names]
    box = np.stack(sides, axis=1).astype(np.float64)
    confidence = rows["confidence"].to_numpy()
    every = Seen(frame, box, confidence, ids, vector, np.full(len(rows), -1), vectors)
    every = every.take(np.lexsort((*box.T, -confidence, frame)))
    kept = [rows.start + _apart_enough(every.box[rows]) for rows in every.frames()]
    return every.take(np.concatenate([np.zeros(0, np.int64), *kept]))


def _apart_enough(box: np.ndarray) -> np.ndarray:
    """Which of a frame's boxes stay, where of two that overlap by more than SAME_BOX only the earlier may."""
    alike = _overlap(box) > SAME_BOX if len(box) > 1 else np.zeros((1, 1), bool)
    if not np.tril(alike, -1).any():
        return np.arange(len(box))
    stay: list[int] = []
    for one in range(len(box)):
        if not alike[one, stay].any():
            stay.append(one)
    return np.array(stay)


def _overlap(box: np.ndarray) -> np.ndarray:
    """(n, n): intersection over union of left, top, width, height."""
    start, end = box[:, None, :2], box[:, None, :2] + box[:, None, 2:]
    sides = np.minimum(end, end.swapaxes(0, 1)) - np.maximum(start, start.swapaxes(0, 1))
    shared = sides.clip(0).prod(axis=2)
    area = box[:, 2] * box[:, 3]
    ratio: np.ndarray = shared / (area[:, None] + area - shared)
    return ratio


def _carriers(people: Seen, faces: Seen) -> np.ndarray:
    """Of each face the row of the person whose box holds it in its upper half, -1 if none: each has one face.

    Of several people the one whose head, in the middle at the top of the box, is nearest.
    """
    carrier = np.full(len(faces.frame), -1)
    people_of = {people.frame[rows.start]: rows for rows in people.frames()}
    for rows in faces.frames():
        near = people_of.get(faces.frame[rows.start])
        if near is None:
            continue
        face, person = faces.box[rows][:, None], people.box[near][None]
        middle = face[..., :2] + face[..., 2:] / 2
        place = (middle - person[..., :2]) / person[..., 2:]  # 0 to 1 from the left and the top of the person's box
        cost = np.abs(place[..., 0] - 0.5) + place[..., 1]
        inside = (place > 0).all(axis=2) & (place[..., 0] < 1) & (place[..., 1] < 0.5)
        one, other = assigned(np.where(inside, cost, np.inf))
        carrier[rows.start + one] = near.start + other
    return carrier


def _mostly(of_face: np.ndarray, body: np.ndarray) -> np.ndarray:
    """Of each face track the person track that most of its faces are in, the earliest of equals; -1 if in none."""
    most = np.full(of_face.max(initial=-1) + 1, -1)
    known = (of_face >= 0) & (body >= 0)
    pairs, counts = np.unique(np.stack([of_face[known], body[known]]), axis=1, return_counts=True)
    order = np.lexsort((-pairs[1], counts))  # the last to be written stays
    most[pairs[0, order]] = pairs[1, order]
    return most


def _ids(video: WholeVideo, kind: str, seen: Seen, track: np.ndarray) -> list[str]:
    """Of each track: a hash of the item, the kind, and the time and place, in thousandths, of its first box."""
    _, first = np.unique(track[track >= 0], return_index=True)
    first = np.flatnonzero(track >= 0)[first]
    places = np.round(seen.box[first] * 1000).astype(np.int64).tolist()
    times = video.frame_ms[seen.frame[first]].tolist()
    wholes = [repr((video.item_key, Tracks.name, kind, *whole)) for whole in zip(times, places, strict=True)]
    return [hashlib.blake2b(whole.encode(), digest_size=16).hexdigest() for whole in wholes]


def _rows(
    video: WholeVideo, kind: str, seen: Seen, track: np.ndarray, ids: list[str], persons: Sequence[str | None]
) -> pa.Table:
    """Rows of the table `tracks`, in the order of the tracks' numbers."""
    order = np.argsort(track, kind="stable")
    order = order[track[order] >= 0]
    seen, track = seen.take(order), track[order]
    first = np.flatnonzero(np.diff(track, prepend=-1))
    if not len(first):
        return TRACKS.empty_table()
    offsets = np.append(first, len(track)).astype(np.int32)
    times, confidence = video.frame_ms[seen.frame], seen.confidence.astype(np.float64)
    sides = [pa.array(side.astype(np.float32)) for side in seen.box.T]
    boxes = pa.StructArray.from_arrays(
        [pa.array(times), *sides, pa.array(seen.confidence, pa.float32())], fields=list(_BOX_OF_FRAME)
    )
    face_offsets = offsets if kind == "face" else np.zeros_like(offsets)
    columns = {
        "track_id": pa.array(ids, pa.string()),
        "kind": pa.array([kind] * len(first), pa.string()),
        "start_ms": pa.array(times[first]),
        "end_ms": pa.array(times[offsets[1:] - 1]),
        "frames": pa.array(np.diff(offsets)),
        "confidence": pa.array((np.add.reduceat(confidence, first) / np.diff(offsets)).astype(np.float32)),
        "max_confidence": pa.array(np.maximum.reduceat(confidence, first).astype(np.float32)),
        "person_track_id": pa.array(persons, pa.string()),
        "face_ids": pa.ListArray.from_arrays(pa.array(face_offsets), seen.ids),
        "boxes": pa.ListArray.from_arrays(pa.array(offsets), boxes, type=TRACKS.field("boxes").type),
    }
    return pa.table(columns, schema=TRACKS)
