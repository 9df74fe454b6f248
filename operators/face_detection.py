"""Faces in a picture, with five landmarks each, by YuNet: what `faces` looks at.

Preprocessing, anchors and suppression are those of OpenCV's FaceDetectorYN: RGB turned to BGR, samples of 0..255, zeros
on the right and at the bottom, score = sqrt(class * object), boxes cut to whole pixels before their overlap is taken.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pinakes.operators.graph import Opener, resize

#: A longer picture is made this long; a shorter one is left as it is. Of 54 large photos 960 found 22 faces for the 21
#: of 640. Enlarging 126 small ones to 640 found a third more, a third of which were no faces.
LONG_SIDE = 640

#: Height and width.
Size = tuple[int, int]

#: `graph.resize` brings it there, bilinear: 1.4 ms of CPU a photo where INTER_AREA took 6.6. Of 67 large photos both
#: gave the same 28 faces at 0.7, and the former a 29th, a wall; their scores were within .002 of one another for 19 of
#: 20. With noise of deviation 20 added: 29 and 29.

#: A graph has one size, and a picture takes the smallest that holds it: (640, 384) for 16:9, 448 for 3:2, 480 for 4:3,
#: a square for the rest, and the same upright. On 233 photos of 60 sizes, CPU a photo (bf16, compiled) and memory:
#: these 7 sizes 4.8 ms, 143 MB; one square 6.9 ms, 55 MB; every multiple of 32 its own 4.1 ms, 696 MB; a graph of open
#: size 5.7 ms, 240 MB, up to 690 MB once it has seen all sizes. Where a picture is padded more than OpenCV pads it, the
#: answers are OpenCV's for the padded picture: all but equal away from the edge.
SHORT_SIDES = (384, 448, 480, 640)
SIZES = sorted(
    {(short, LONG_SIDE) for short in SHORT_SIDES} | {(LONG_SIDE, short) for short in SHORT_SIDES},
    key=lambda size: size[0] * size[1],
)

STRIDES = (8, 16, 32)
OVERLAP = 0.3  # IoU from which the lower score goes, and how many are compared: OpenCV's defaults
COMPARED = 5000

#: In pixels. What a graph places beyond it, or nowhere (NaN), is no face.
FAR = 1e5


class Detector:
    """YuNet, its graphs compiled when a picture of their size first comes (some 135 ms of CPU each)."""

    def __init__(self, file: Path, open_graph: Opener, min_confidence: float, sizes: Sequence[Size] = SIZES) -> None:
        self._file = file
        self._open_graph = open_graph
        self._min_confidence = min_confidence
        self._sizes = sizes
        self._graphs: dict[Size, Any] = {}

    def detect(self, pixels: np.ndarray) -> np.ndarray:
        """(n, 15) float32, highest score first: left, top, width, height; x, y of five landmarks; score 0..1.

        `pixels` is (height, width, 3) uint8 RGB, and coordinates are in its pixels; they may lie outside it. The
        landmarks are the subject's own right eye, left eye, nose tip, right and left corner of the mouth.
        """
        canvas, small_height, small_width = fit(pixels, self._sizes)
        rows = self._rows(canvas)
        rows[:, 0:14:2] *= pixels.shape[1] / small_width
        rows[:, 1:14:2] *= pixels.shape[0] / small_height
        return rows

    def _rows(self, canvas: np.ndarray) -> np.ndarray:
        """`detect` for a picture of one of its sizes."""
        height, width = size = canvas.shape[:2]
        if size not in self._graphs:
            self._graphs[size] = self._open_graph(
                self._file,
                image_input="input",
                shape=(1, height, width, 3),
                mean=(0, 0, 0),
                deviation=(1, 1, 1),
                bgr=True,
            )
        found = self._graphs[size].infer({"input": canvas[None]}, share_inputs=True, share_outputs=True)
        rows: np.ndarray = np.concatenate([self._anchors(found, stride, width // stride) for stride in STRIDES])
        rows = rows[(np.abs(rows) < FAR).all(axis=1)]
        boxes, scores = rows[:, :4].astype(np.int32), rows[:, 14]
        kept = cv2.dnn.NMSBoxes(boxes.tolist(), scores.tolist(), self._min_confidence, OVERLAP, top_k=COMPARED)
        rows = rows[np.asarray(kept, np.int64).ravel()]
        return rows

    def _anchors(self, found: Any, stride: int, columns: int) -> np.ndarray:
        """(n, 15) rows of `detect`, of the anchors of that stride that score enough; none suppressed yet."""
        kind, thing, box, points = (found[f"{name}_{stride}"][0] for name in ("cls", "obj", "bbox", "kps"))
        score = np.sqrt(np.clip(kind[:, 0], 0, 1) * np.clip(thing[:, 0], 0, 1))
        enough = np.flatnonzero(score >= self._min_confidence)
        cell = np.stack([enough % columns, enough // columns], axis=1).astype(np.float32)
        with np.errstate(over="ignore"):  # a box too large for a float is dropped by the caller
            size = np.exp(box[enough, 2:]) * stride
        corner = (cell + box[enough, :2]) * stride - size / 2
        landmarks = (np.tile(cell, 5) + points[enough]) * stride
        return np.concatenate([corner, size, landmarks, score[enough, None]], axis=1)


def fit(pixels: np.ndarray, sizes: Sequence[Size] = SIZES) -> tuple[np.ndarray, int, int]:
    """The picture at most LONG_SIDE long, on black, in the first size that holds it; and its height and width there."""
    height, width = pixels.shape[:2]
    scale = min(1, LONG_SIDE / max(height, width))
    height, width = max(1, round(height * scale)), max(1, round(width * scale))
    size = next(size for size in sizes if size[0] >= height and size[1] >= width)
    canvas = np.zeros((*size, 3), np.uint8)
    if scale < 1:
        pixels = resize(pixels, width, height, cv2.INTER_LINEAR)
    canvas[:height, :width] = pixels
    return canvas, height, width
