"""The operator `faces`: faces with five landmarks by YuNet, and a vector of each by SFace to compare people by.

Age, gender and emotions are guesses by further models, made only when a setting asks for them.
"""

import hashlib
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from pydantic import Field

from pinakes.operators import models, onnx
from pinakes.operators.face_alignment import LANDMARKS, SIDE, TEMPLATE, crop, pose, quality, similarity
from pinakes.operators.face_attributes import AGE_MODEL, EMOTION_MODEL, GENDER_MODEL, Age, Emotions, Gender
from pinakes.operators.face_detection import SIZES, Detector, Size
from pinakes.operators.graph import Each, Opener, Precision, compile_graph
from pinakes.operators.operator import BOX, EMBEDDINGS, PICTURE, POINT, Operator, OperatorConfig, Picture, Results

DETECTOR = "yunet-2023mar"
RECOGNIZER = "sface-2021dec"


def _described(name: str, kind: pa.DataType, description: str) -> pa.Field:
    return pa.field(name, kind, metadata={"description": description})


SCHEMA = pa.schema(
    [
        _described("face_id", pa.string(), "32 hex digits; the same for the same item, settings and place"),
        _described("box", BOX, "ratios of the upright picture, 0 to 1, origin at the top left"),
        _described("confidence", pa.float32(), "score by the model, 0 to 1; not a probability"),
        _described(
            "landmarks",
            pa.struct([pa.field(name, POINT, nullable=False) for name in LANDMARKS]),
            "ratios of the upright picture; left and right are the subject's own, so right_eye is to the left in a "
            "picture of a face seen from the front; may lie outside 0 to 1 where the picture cuts the face",
        ),
        _described(
            "pose",
            pa.struct([pa.field(name, pa.float32(), nullable=False) for name in ("roll", "yaw", "pitch")]),
            "degrees, rough; roll: clockwise as one sees the picture; yaw: nose to the picture's right; pitch: up. "
            "The median pitch of 91 faces in photos was -10, and a head tilted by 25 read as 15",
        ),
        _described(
            "quality",
            pa.struct([pa.field(name, pa.float32(), nullable=False) for name in ("brightness", "sharpness")]),
            "0 to 1, of the face turned upright at 112 x 112 pixels: its mean luma, and v / (v + 300) with v the "
            "variance of its Laplacian; a small face is not sharp",
        ),
        _described("age", pa.float32(), "a guess by a model, in years; null unless asked for"),
        _described("gender", pa.string(), "a guess by a model: female or male; null unless asked for"),
        _described("gender_confidence", pa.float32(), "the model's probability of it, 0.5 to 1"),
        _described(
            "emotions",
            pa.list_(pa.struct([("name", pa.string()), ("confidence", pa.float32())])),
            "a guess by a model at the expression, the likeliest of seven first; null unless asked for",
        ),
    ],
    metadata={"description": "a face"},
)


#: A picture's pixels, the key of its item, and the time of its frame.
Seen = tuple[np.ndarray, str, int | None]


class FacesConfig(OperatorConfig):
    """Settings of `faces`.

    Judged by eye on 233 photos: of 172 faces at 0.7, 164 were people's; at 0.6 about 180 of 198; at 0.8 135 of 136; at
    OpenCV's own 0.9 59 of 59. So 0.9 loses two of three, and between 0.6 and 0.7 every third is no face.

    In bf16 172 of the 173 faces of f32 were found; their landmarks lay .3 % of the face's width from those in f32, and
    their vectors had a cosine of .9987 with them (medians; 8 below .98, where of two boxes about as good the other was
    left). Writing the photos again as JPEGs of quality 95 moves the vectors far more: .965, 96 of 169 below .98. At the
    same landmarks the cosine is .9990 or more, and ages differ by .07 years (median), 1.2 at most.
    """

    min_confidence: float = Field(default=0.7, ge=0, le=1)
    max_faces: int = Field(default=100, ge=1, le=1000)
    embeddings: bool = True
    age: bool = False
    gender: bool = False
    emotions: bool = False
    precision: Precision = "bf16"


class Faces(Operator):
    """Fills `faces`, at most `max_faces` rows a picture, the largest first; and `embeddings`, one row a face."""

    name = "faces"
    tables: ClassVar = {"faces": SCHEMA, "embeddings": EMBEDDINGS}
    Config = FacesConfig
    config: FacesConfig

    @classmethod
    def for_settings(cls, settings: Mapping[str, Any]) -> type[Operator]:
        if not onnx.is_installed():
            return cls
        from pinakes.operators.pictures_on_cuda import CudaFaces

        return CudaFaces

    def model_names(self) -> tuple[str, ...]:
        asked = self.config
        optional = {
            RECOGNIZER: asked.embeddings,
            AGE_MODEL: asked.age,
            GENDER_MODEL: asked.gender,
            EMOTION_MODEL: asked.emotions,
        }
        return (DETECTOR, *(name for name, wanted in optional.items() if wanted))

    @property
    def model(self) -> str:
        """Without those of age, gender and emotions: vectors are compared with those of the same model."""
        return "+".join(name for name in (DETECTOR, RECOGNIZER) if name in self.model_names())

    def load(self) -> None:
        """Raises ModelError when a model is not on this machine."""
        self.open_models(partial(compile_graph, precision=self.config.precision))

    def open_models(self, open_graph: Opener, sizes: Sequence[Size] = SIZES) -> None:
        """`load` on a runtime that takes pictures of those sizes; emotions, not in ONNX, are on OpenVINO on any."""
        asked = self.config
        file = models.path(DETECTOR) / "face_detection_yunet_2023mar.onnx"
        self._detector = Detector(file, open_graph, asked.min_confidence, sizes)
        if asked.embeddings:
            file = models.path(RECOGNIZER) / "face_recognition_sface_2021dec.onnx"
            shape, same = (1, SIDE, SIDE, 3), (1.0, 1.0, 1.0)  # it takes 0..255: mean and scale are inside
            self._recognizer = open_graph(file, image_input="data", shape=shape, mean=(0, 0, 0), deviation=same)
        self._age = Age(open_graph) if asked.age else None
        self._gender = Gender(open_graph) if asked.gender else None
        self._emotions = Emotions(asked.precision) if asked.emotions else None

    def look(self, pictures: Sequence[Picture]) -> Results:
        return self.results([(one.pixels, one.item_key, one.frame_ms) for one in pictures])

    def results(self, pictures: Sequence[Seen], each: Each = map) -> Results:
        """What `look` gives."""
        faces: list[dict[str, Any]] = []
        vectors: list[dict[str, Any]] = []
        for number, seen in enumerate(each(self._faces, pictures)):
            for face, vector in seen:
                faces.append({"picture": number, **face})
                if vector is not None:
                    about = {"subject": "face", "subject_id": face["face_id"], "vector": vector}
                    vectors.append({"picture": number, **about})
        return {
            "faces": pa.Table.from_pylist(faces, schema=pa.schema([PICTURE, *SCHEMA])),
            "embeddings": pa.Table.from_pylist(vectors, schema=pa.schema([PICTURE, *EMBEDDINGS])),
        }

    def _faces(self, seen: Seen) -> list[tuple[dict[str, Any], np.ndarray | None]]:
        """A row of `faces` for each face in a picture, and its vector if vectors are asked for."""
        pixels, item_key, frame_ms = seen
        rows = []
        for found in self._detect(pixels):
            face, vector = self._describe(pixels, found)
            place = quantised(found[None], pixels.shape)[0].tolist()
            rows.append(({"face_id": self._face_id(item_key, frame_ms, place), **face}, vector))
        return rows

    def _detect(self, pixels: np.ndarray) -> np.ndarray:
        """(n, 15) rows of `Detector.detect` that lie in the picture, no two in one place, the largest first."""
        found = self._detector.detect(pixels)
        box = clipped(found, pixels.shape)
        found = found[(box[:, 2] > 0) & (box[:, 3] > 0) & (np.ptp(found[:, 4:14:2], axis=1) > 0)]
        _, first = np.unique(quantised(found, pixels.shape), axis=0, return_index=True)
        found = found[np.sort(first)]
        largest = np.argsort(-found[:, 2] * found[:, 3], kind="stable")[: self.config.max_faces]
        rows: np.ndarray = found[largest]
        return rows

    def _face_id(self, item_key: str, frame_ms: int | None, place: list[int]) -> str:
        whole = repr((item_key, self.fingerprint, frame_ms, place))
        return hashlib.blake2b(whole.encode(), digest_size=16).hexdigest()

    def _describe(self, pixels: np.ndarray, found: np.ndarray) -> tuple[dict[str, Any], np.ndarray | None]:
        """A row of `faces` without its id, and the vector if vectors are asked for."""
        height, width = pixels.shape[:2]
        points = found[4:14].reshape(5, 2).astype(np.float64)
        matrix = similarity(points, TEMPLATE)
        face = crop(pixels, matrix, SIDE)
        roll, yaw, pitch = pose(points)
        brightness, sharpness = quality(face, matrix, pixels.shape)
        gender = self._gender(pixels, points) if self._gender else (None, None)
        emotions = None
        if self._emotions:
            named = self._emotions(pixels, found[:4])
            emotions = [{"name": name, "confidence": score} for name, score in named]
        row = {
            "box": dict(zip(BOX.names, clipped(found[None], pixels.shape)[0].tolist(), strict=True)),
            "confidence": float(found[14]),
            "landmarks": {
                name: {"x": x / width, "y": y / height} for name, (x, y) in zip(LANDMARKS, points.tolist(), strict=True)
            },
            "pose": {"roll": roll, "yaw": yaw, "pitch": pitch},
            "quality": {"brightness": brightness, "sharpness": sharpness},
            "age": self._age(pixels, points) if self._age else None,
            "gender": gender[0],
            "gender_confidence": gender[1],
            "emotions": emotions,
        }
        return row, self._vector(face) if self.config.embeddings else None

    def _vector(self, face: np.ndarray) -> np.ndarray:
        """(128,) float32 of length 1, of a crop for SFace."""
        vector = self._recognizer.infer({"data": face[None]}, share_inputs=True)[0][0]
        length: np.ndarray = vector / np.linalg.norm(vector)
        return length


def clipped(found: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """(n, 4) float32: left, top, width, height of rows of `Detector.detect`, the part in the picture, as ratios."""
    size = np.array([shape[1], shape[0]], np.float32)
    start = np.clip(found[:, :2] / size, 0, 1)
    end = np.clip((found[:, :2] + found[:, 2:4]) / size, 0, 1)
    return np.concatenate([start, end - start], axis=1)


def quantised(found: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """(n, 4) int64: the boxes in thousandths of the picture: what the id of a face is made from."""
    sides = np.array([shape[1], shape[0]] * 2, np.float32)
    return np.round(found[:, :4] / sides * 1000).astype(np.int64)
