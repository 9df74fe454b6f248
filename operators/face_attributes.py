"""Guesses about a face: age and gender by networks of dlib-models, emotions by one of FER2013.

They say what a face looks like to a small model, not what somebody is or feels; the registry says how often they were
right where that could be measured.
"""

from threading import Lock
from typing import Any

import cv2
import numpy as np

from pinakes.operators import models
from pinakes.operators.face_alignment import crop, similarity
from pinakes.operators.graph import Opener, Precision, compile_graph

AGE_MODEL, AGE_SIDE = "dlib-age-v1", 64
GENDER_MODEL, GENDER_SIDE = "dlib-gender-v1", 32
EMOTION_MODEL, EMOTION_SIDE = "fer-2013", 64

#: Where dlib's chips (padding 0.2) show the middles of the eyes and the corners of the mouth, as ratios of the side, in
#: the detector's order; worked out from the five points that dlib itself aligns by.
CHIP = np.array([[0.305, 0.301], [0.681, 0.301], [0.355, 0.715], [0.63, 0.715]])
CHIP_POINTS = [0, 1, 3, 4]  # of the five landmarks: all but the nose

#: dlib's means of red, green and blue.
CHIP_MEAN = (122.782, 117.001, 104.298)
CHIP_SCALE = (256.0, 256.0, 256.0)

#: What each of the 81 probabilities stands for, in years; the first is of the first year, as the authors weigh it.
YEARS = np.array([0.25, *range(1, 81)])

GENDERS = ("female", "male")

#: FER2013's names in the order of the probabilities.
EMOTIONS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")

#: The crop for emotions is a square as long as the box's longer side, and a fifth: the 10 pixels that the authors
#: leave on each side, for a face of 100.
EMOTION_MARGIN = 1.2


class Age:
    """Years, as the expectation over the model's 81 ages."""

    def __init__(self, open_graph: Opener) -> None:
        self._graph = _chip_graph(AGE_MODEL, "age-v1.onnx", AGE_SIDE, open_graph)

    def __call__(self, pixels: np.ndarray, points: np.ndarray) -> float:
        """For (height, width, 3) uint8 RGB and (5, 2) landmarks in its pixels: 0.25..80."""
        return float(_of_chip(self._graph, pixels, points, AGE_SIDE) @ YEARS)


class Gender:
    """`female` or `male`: what the model takes the face for."""

    def __init__(self, open_graph: Opener) -> None:
        self._graph = _chip_graph(GENDER_MODEL, "gender-v1.onnx", GENDER_SIDE, open_graph)

    def __call__(self, pixels: np.ndarray, points: np.ndarray) -> tuple[str, float]:
        """The name and the model's probability of it, 0.5..1; arguments as of Age."""
        scores = _of_chip(self._graph, pixels, points, GENDER_SIDE)
        best = int(np.argmax(scores))
        return GENDERS[best], float(scores[best])


class Emotions:
    """Probabilities of seven expressions."""

    def __init__(self, precision: Precision) -> None:
        file = models.path(EMOTION_MODEL) / "emotion_model_quantized.tflite"
        self._graph = compile_graph(
            file, precision, "x", (1, EMOTION_SIDE, EMOTION_SIDE, 1), layout="NHWC", mean=(127.5,), deviation=(127.5,)
        )
        self._lock = Lock()  # for when other graphs are on a GPU, and several pictures looked at at once

    def __call__(self, pixels: np.ndarray, box: np.ndarray) -> list[tuple[str, float]]:
        """All seven, the likeliest first; together 1. `box` is left, top, width, height in pixels."""
        with self._lock:
            scores = _first(self._graph, "x", expression(pixels, box)[..., None])
        return [(EMOTIONS[index], float(scores[index])) for index in np.argsort(-scores, kind="stable")]


def expression(pixels: np.ndarray, box: np.ndarray) -> np.ndarray:
    """(64, 64) uint8: the luma of the square around a box, black outside the picture.

    Bilinear as the authors', but averaged first where the square is at least twice as large, as in `graph.resize`.
    """
    long = EMOTION_MARGIN * max(box[2], box[3])
    times = max(1, int(long / EMOTION_SIDE))
    side = EMOTION_SIDE * times
    scale = side / long
    shift = (side - 1) / 2 - scale * (box[:2] + box[2:] / 2 - 0.5)  # a pixel's middle is half a pixel from its edge
    square = crop(pixels, np.array([[scale, 0, shift[0]], [0, scale, shift[1]]]), side)
    small = cv2.resize(square, (EMOTION_SIDE, EMOTION_SIDE), interpolation=cv2.INTER_AREA)
    return cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)


def chip(pixels: np.ndarray, points: np.ndarray, side: int) -> np.ndarray:
    """(side, side, 3) uint8: the face as dlib cuts it, by the eyes and the mouth; black outside the picture.

    Like dlib, it halves the picture (Gaussian, 5 x 5) while the face is more than twice as large as the chip, and takes
    a bilinear crop of that. Only the part that shows the face is halved.
    """
    # Fitted from chip to picture, as dlib does: the opposite shows more of a profile. Ratios count from a pixel's edge.
    back = similarity(CHIP * side - 0.5, points[CHIP_POINTS])
    matrix: np.ndarray = cv2.invertAffineTransform(back)
    corners = np.array([(0, 0, 1), (side, 0, 1), (0, side, 1), (side, side, 1)]) @ back.T
    around = 4 / np.hypot(matrix[0, 0], matrix[1, 0])  # so much that the edge of the part does not show
    (left, top), (right, bottom) = (corners.min(axis=0) - around).clip(0), (corners.max(axis=0) + around).clip(0)
    left, top = int(left) // 32 * 32, int(top) // 32 * 32  # so that halving takes the pixels it takes of the whole
    part = pixels[top : int(bottom) + 1, left : int(right) + 1]
    if part.size == 0:
        return np.zeros((side, side, 3), np.uint8)
    matrix[:, 2] += matrix[:, :2] @ (left, top)
    while np.hypot(matrix[0, 0], matrix[1, 0]) < 0.5:
        part = cv2.pyrDown(part)
        matrix[:, :2] *= 2
    return crop(part, matrix, side)


def _chip_graph(model: str, file: str, side: int, open_graph: Opener) -> Any:
    shape, path = (1, side, side, 3), models.path(model) / file
    return open_graph(path, image_input="images", shape=shape, mean=CHIP_MEAN, deviation=CHIP_SCALE)


def _of_chip(graph: Any, pixels: np.ndarray, points: np.ndarray, side: int) -> np.ndarray:
    return _first(graph, "images", chip(pixels, points, side))


def _first(graph: Any, name: str, image: np.ndarray) -> np.ndarray:
    """The first output for one image."""
    scores: np.ndarray = graph.infer({name: image[None]}, share_inputs=True)[0][0]
    return scores
