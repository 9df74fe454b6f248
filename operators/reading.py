"""Finding and reading lines of text: PP-OCRv6's detector and reader on OpenVINO, rapidocr's steps around them.

The steps around the graphs (contours to boxes, cutting lines out, characters to words) are rapidocr's own
(https://github.com/RapidAI/RapidOCR, Apache-2.0), so that on the same pixels the answers are those of its API. Three
things differ, for speed: a line is 160 pixels wide at least, not 320; its width is rounded up to a multiple of 32; and
a picture is filled up to the detector's size, not stretched. On 345 lines of 244 pictures the first two mended as many
characters as they broke.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import openvino
from rapidocr.cal_rec_boxes import CalRecBoxes
from rapidocr.ch_ppocr_det import TextDetector
from rapidocr.ch_ppocr_det.utils import DBPostProcess
from rapidocr.ch_ppocr_rec.typings import TextRecOutput, WordInfo
from rapidocr.ch_ppocr_rec.utils import CTCLabelDecode
from rapidocr.utils.process_img import apply_vertical_padding, get_rotate_crop_image

from pinakes.operators import models
from pinakes.operators.graph import Opener, resize

#: The models' samples are in -1..1.
MEAN = (127.5, 127.5, 127.5)

#: The detector's sides are rounded up to a multiple of it, or of twice that when a side is over 640 pixels, and filled
#: with the edge. Its graph is open in size, and each new size costs 20 ms and memory: so there are few.
GRID = 64
#: The height of a line, its least width and that of the graph that turns it, and what widths are a multiple of.
LINE_HEIGHT, LINE_LEAST, TURNER_WIDTH, LINE_GRID = 48, 160, 192, 32
#: A line longer than that is squeezed: 60 times its height, some 120 characters.
LINE_MOST = 60 * LINE_HEIGHT

#: rapidocr's settings: a pixel is text from MASK on, a box from BOX on; the box grows by UNCLIP; strips of less than
#: LEAST_HEIGHT or of more than STRIP times their height get a border above and below.
MASK, BOX, UNCLIP, LEAST_HEIGHT, STRIP = 0.3, 0.5, 1.6, 30, 8
#: From this probability on a line is taken to stand on its head.
HEAD = 0.9


@dataclass(frozen=True, slots=True)
class Word:
    text: str
    confidence: float
    corners: np.ndarray  # (4, 2) pixels, clockwise from the top left


@dataclass(frozen=True, slots=True)
class Line:
    """`corners` is (4, 2) pixels of the picture, clockwise from where the text begins."""

    text: str
    confidence: float  # mean over its characters
    corners: np.ndarray
    words: tuple[Word, ...]


class Finder:
    """Says where lines of text are."""

    def __init__(self, file: Path, open_graph: Opener) -> None:
        shape = (1, -1, -1, 3)
        self._graph = open_graph(file, image_input="x", shape=shape, mean=MEAN, deviation=MEAN, bgr=True)
        self._boxes = DBPostProcess(MASK, BOX, max_candidates=1000, unclip_ratio=UNCLIP, use_dilation=True)

    def find(self, pixels: np.ndarray, side: int) -> np.ndarray:
        """(n, 4, 2) float32 corners in pixels, in reading order. A picture longer than `side` is made smaller first."""
        strip, done = apply_vertical_padding(pixels, {}, STRIP, LEAST_HEIGHT)
        top = done["padding_1"]["top"]
        height, width = strip.shape[:2]
        scale = min(1.0, side / max(height, width))
        down, across = max(1, round(height * scale)), max(1, round(width * scale))
        canvas = filled(resize(strip, across, down, cv2.INTER_LINEAR))
        probability = self._graph.infer({"x": canvas[None]}, share_inputs=True)[0]
        whole = (round(canvas.shape[0] * height / down), round(canvas.shape[1] * width / across))
        boxes, _ = self._boxes(probability, whole)
        if not len(boxes):
            return np.zeros((0, 4, 2), np.float32)
        found: np.ndarray = TextDetector.sorted_boxes(boxes).astype(np.float32)
        found[:, :, 1] -= top
        found = found.clip(0, np.array([pixels.shape[1] - 1, pixels.shape[0] - 1], np.float32))
        found = found[np.ptp(found, axis=1).min(axis=1) > 3]  # what lay in the border is flat now
        return found


def filled(pixels: np.ndarray) -> np.ndarray:
    """The picture with its right and lower edge drawn out to the next size that the detector takes."""
    height, width = pixels.shape[:2]
    grid = GRID if max(height, width) <= 640 else 2 * GRID
    whole: np.ndarray = cv2.copyMakeBorder(pixels, 0, -height % grid, 0, -width % grid, cv2.BORDER_REPLICATE)
    return whole


class Reader:
    """Reads the lines that a Finder has found."""

    def __init__(self, reader: str, turner: str, open_graph: Opener) -> None:
        """By the names of the models that read a line and that say which way up it is."""
        file = next(models.path(reader).glob("*.onnx"))
        shape = (1, LINE_HEIGHT, -1, 3)
        self._graph = open_graph(file, image_input="x", shape=shape, mean=MEAN, deviation=MEAN, bgr=True)
        self._characters = CTCLabelDecode(character=characters(file))
        turner_file = next(models.path(turner).glob("*.onnx"))
        shape = (1, LINE_HEIGHT, TURNER_WIDTH, 3)
        self._turner = open_graph(turner_file, image_input="x", shape=shape, mean=MEAN, deviation=MEAN, bgr=True)
        self._words = CalRecBoxes()

    def read(self, pixels: np.ndarray, boxes: np.ndarray, least: float) -> list[Line]:
        """The lines with a letter or digit whose confidence is `least` or more, in the order of `boxes`."""
        lines = []
        for corners in boxes:
            cut = get_rotate_crop_image(pixels, corners.copy())
            if min(cut.shape[:2]) < 1:
                continue
            if self._on_its_head(cut):
                cut, corners = cv2.rotate(cut, cv2.ROTATE_180), np.roll(corners, 2, axis=0)
            text, confidence, word = self._line(cut)
            if confidence >= least and any(map(str.isalnum, text)):
                lines.append(Line(text, confidence, corners, self._boxed(text, word, cut, corners)))
        return lines

    def _on_its_head(self, cut: np.ndarray) -> bool:
        probability: np.ndarray = self._turner.infer({"x": _fitted(cut, TURNER_WIDTH)}, share_inputs=True)[0][0]
        return bool(probability[1] > HEAD)

    def _line(self, cut: np.ndarray) -> tuple[str, float, WordInfo]:
        ratio = cut.shape[1] / cut.shape[0]
        width = min(LINE_MOST, max(LINE_LEAST, -(-int(LINE_HEIGHT * ratio) // LINE_GRID) * LINE_GRID))
        scores = self._graph.infer({"x": _fitted(cut, width)}, share_inputs=True)[0]
        lines, words = self._characters(
            scores, True, wh_ratio_list=[min(ratio, LINE_MOST / LINE_HEIGHT)], max_wh_ratio=width / LINE_HEIGHT
        )
        return (*lines[0], words[0])

    def _boxed(self, text: str, info: WordInfo, cut: np.ndarray, corners: np.ndarray) -> tuple[Word, ...]:
        # Its annotation of word_results fits what comes out, not what goes in.
        line = TextRecOutput(txts=(text,), word_results=(info,))  # type: ignore[arg-type]
        found: Any = self._words([cut], corners[None].copy(), line).word_results[0]
        # What rapidocr says of the n-th word's confidence is that of the line's n-th character.
        confidences = (value for value, sign in zip(info.confs, text, strict=True) if not sign.isspace())
        return tuple(
            Word(word, float(np.mean([next(confidences) for _ in word])), np.array(box, np.float32))
            for word, _, box in found
        )


def _fitted(cut: np.ndarray, width: int) -> np.ndarray:
    """(1, LINE_HEIGHT, width, 3): the line at its own ratio, squeezed if it must be, and grey to its right."""
    own = min(width, math.ceil(LINE_HEIGHT * cut.shape[1] / cut.shape[0]))
    line = np.full((1, LINE_HEIGHT, width, 3), 127, np.uint8)
    line[0, :, :own] = cv2.resize(cut, (own, LINE_HEIGHT))
    return line


def characters(file: Path) -> list[str]:
    """The characters that a reader knows, as its ONNX file says."""
    model = openvino.Core().read_model(file)
    return model.get_rt_info(["framework", "character"]).astype(str).splitlines()  # type: ignore[no-any-return]
