"""Text: what a reader would say it says, where it stands, and what rapidocr's own API answers on the same pixels."""

import os
from difflib import SequenceMatcher
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont
from rapidocr import RapidOCR

from pinakes.operators import models
from pinakes.operators.decode import decode
from pinakes.operators.operator import MediaFacts, Picture
from pinakes.operators.reading import filled
from pinakes.operators.text import FINDERS, READER, TURNER, Text, TextConfig

FACTS = MediaFacts("image", "png", 1, 1, 1, 1)
LINES = ["Callimachus of Cyrene", "wrote 120 scrolls", "ROOM 7"]


@pytest.fixture(scope="module")
def text(local_models) -> Text:
    operator = Text()
    operator.load()
    return operator


def page(width: int = 600, height: int = 400, size: int = 32, lines: list[str] = LINES) -> np.ndarray:
    image = Image.new("RGB", (width, height), (236, 232, 220))
    draw = ImageDraw.Draw(image)
    for row, line in enumerate(lines):
        draw.text((40, 40 + row * 3 * size), line, (30, 30, 60), ImageFont.load_default(size))
    return np.asarray(image)


def look(operator: Text, *pixels: np.ndarray) -> list[dict]:
    return operator.look([Picture(one, FACTS) for one in pixels])["texts"].to_pylist()


def lines_of(rows: list[dict]) -> list[str]:
    return [row["text"] for row in rows if row["kind"] == "line"]


def alike(said: str, meant: str) -> float:
    return SequenceMatcher(None, said, meant, autojunk=False).ratio()


def test_it_reads_lines_and_their_words_in_order(text):
    rows = look(text, page())
    assert lines_of(rows) == LINES
    for line in (row for row in rows if row["kind"] == "line"):
        words = [row for row in rows if row["parent_id"] == line["text_id"]]
        assert [word["text"] for word in words] == line["text"].split()
        assert all(word["kind"] == "word" and word["confidence"] > 0.9 for word in words)
        lefts = [word["box"]["left"] for word in words]
        assert lefts == sorted(lefts)
        for word in words:
            middle = word["box"]["left"] + word["box"]["width"] / 2
            assert line["box"]["left"] < middle < line["box"]["left"] + line["box"]["width"]
    assert [row["text_id"] for row in rows] == list(range(len(rows)))


def test_boxes_and_polygons_are_where_the_ink_is(text):
    pixels = page()
    ink = pixels.min(axis=2) < 128
    rows = look(text, pixels)
    for row, line in enumerate(one for one in rows if one["kind"] == "line"):
        band = np.zeros_like(ink)
        band[20 + row * 96 : 110 + row * 96] = ink[20 + row * 96 : 110 + row * 96]
        down, across = np.nonzero(band)
        left, top = line["box"]["left"] * 600, line["box"]["top"] * 400
        right, bottom = left + line["box"]["width"] * 600, top + line["box"]["height"] * 400
        assert left == pytest.approx(across.min(), abs=12)
        assert right == pytest.approx(across.max(), abs=12)
        assert top == pytest.approx(down.min(), abs=12)
        assert bottom == pytest.approx(down.max(), abs=12)
        corners = [(corner["x"], corner["y"]) for corner in line["polygon"]]
        assert corners[0] == pytest.approx((line["box"]["left"], line["box"]["top"]), abs=0.02)
        assert corners[2] == pytest.approx((right / 600, bottom / 400), abs=0.02)


def test_text_on_its_head_is_read_and_begins_at_the_right(text):
    rows = look(text, np.ascontiguousarray(page()[::-1, ::-1]))
    assert sorted(lines_of(rows)) == sorted(LINES)
    line = next(row for row in rows if row["text"] == LINES[0])
    corners = [(corner["x"], corner["y"]) for corner in line["polygon"]]
    assert corners[0][0] > corners[1][0]
    first, *_, last = [row["box"]["left"] for row in rows if row["parent_id"] == line["text_id"]]
    assert first > last


def test_a_line_that_runs_upwards_is_read(text):
    assert sorted(lines_of(look(text, np.rot90(page()).copy()))) == sorted(LINES)


def test_a_picture_without_text_has_no_rows(text):
    bars = np.zeros((480, 640, 3), np.uint8)
    bars[:, ::40] = 255
    smooth = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 255, (480, 640, 3), dtype=np.uint8), (0, 0), 12)
    assert look(text, bars, smooth, np.full((1000, 1500, 3), 200, np.uint8)) == []


@pytest.mark.parametrize("shape", [(1, 1), (1, 1900), (1900, 1), (3, 40), (31, 8), (33, 33)])
def test_odd_sizes_do_no_harm(text, shape):
    assert look(text, np.full((*shape, 3), 90, np.uint8)) == []


def test_small_text_on_a_large_page_is_read_when_there_is_larger(text):
    pixels = page(1800, 1300, 64).copy()
    pixels[900:1000, 900:1700] = page(800, 100, 24, ["and this in small print"])
    assert lines_of(look(text, pixels)) == [*LINES, "and this in small print"]


def test_an_answer_does_not_depend_on_the_batch(text):
    pages = [page(), page(700, 500, 40), page(1500, 1100, 50)]
    together = look(text, *pages)
    for index, one in enumerate(pages):
        alone = look(text, one)
        assert alone
        assert [{**row, "picture": index} for row in alone] == [row for row in together if row["picture"] == index]


def test_settings_are_kept(text):
    without_words = Text(TextConfig(words=False))
    without_words.load()
    assert {row["kind"] for row in look(without_words, page())} == {"line"}
    strict = Text(TextConfig(min_confidence=1))
    strict.load()
    assert all(row["confidence"] == 1 for row in look(strict, page()) if row["kind"] == "line")
    assert len({Text(TextConfig(**one)).fingerprint for one in ({}, {"detector": "small"}, {"precision": "f32"})}) == 3


def rapidocr(detector: str) -> RapidOCR:
    """rapidocr's own API on ONNX Runtime, told to look at the same sizes."""
    files = [str(next(models.path(name).glob("*.onnx"))) for name in (FINDERS[detector], READER, TURNER)]
    return RapidOCR(
        params={
            "Global.log_level": "error",
            "Det.model_path": files[0],
            "Det.limit_type": "max",
            "Det.limit_side_len": 640,
            "Rec.model_path": files[1],
            "Rec.rec_img_shape": [3, 48, 160],
            "Rec.rec_batch_num": 1,
            "Cls.model_path": files[2],
        }
    )


def pictures_of_text() -> list[np.ndarray]:
    """Of sizes that need no change, so that both see the very same pixels."""
    found = [page(), page(640, 480, 20, [*LINES, "and a fourth, longer line of text"]), page(500, 120, 18)]
    if "PINAKES_EVAL" in os.environ:
        names = ["ch_en_num.jpg", "check_return_word_len.jpeg", "return_word_debug.jpg", "text_rec.jpg"]
        files = [Path(os.environ["PINAKES_EVAL"]) / "ocr" / name for name in names]
        files += sorted((Path(os.environ["PINAKES_EVAL"]) / "coco").rglob("*.jpg"))[:20]
        found += [decode(file.read_bytes())[0] for file in files]
    return [filled(pixels) for pixels in found]


@pytest.mark.parametrize("detector", ["tiny", "small"])
def test_answers_are_those_of_rapidocr(detector):
    ours = Text(TextConfig(detector=detector, precision="f32", min_confidence=0.5))
    ours.load()
    theirs = rapidocr(detector)
    lines = same = meant = 0
    for pixels in pictures_of_text():
        # A first look by the other detector would leave pictures out that rapidocr looks at.
        found = ours._reader.read(pixels, ours._second.find(pixels, 640), 0.5)
        answer = theirs(cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), return_word_box=True)
        expected = [
            one
            for one in zip(answer.txts or (), answer.scores or (), answer.boxes if answer.txts else (), strict=True)
            if any(map(str.isalnum, one[0]))
        ]
        meant += len(expected)
        for line in found:
            # Ours begin where the text does, also of a line on its head.
            distance = [np.abs(np.sort(box, axis=0) - np.sort(line.corners, axis=0)).max() for _, _, box in expected]
            nearest = int(np.argmin(distance))
            if distance[nearest] <= 3:
                lines += 1
                text, score, _ = expected[nearest]
                if text == line.text:
                    same += 1
                    assert line.confidence == pytest.approx(score, abs=0.06)
    # Not all: widths are rounded up to 32 pixels here, and what is nearly a line may become one.
    assert meant >= 8
    assert lines >= 0.95 * meant
    assert same >= 0.95 * lines


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("en_rec.jpg", "To facilitate the shot type analysis in videos, we collect MovieShots, a large-scale"),
        ("latin.jpg", "Alphabetum in mundo hodie frequentissime adhibitum est alphabetum Latinum."),
        ("img_exif_orientation.jpg", "我是中国人"),
        ("black_font_color_transparent.png", "我是中国人"),
        ("test_without_det.jpg", "在中国作家协会第三届儿童文学"),
    ],
)
def test_it_says_what_is_written(text, evaluation, name, says):
    pixels, _ = decode((evaluation / "ocr" / name).read_bytes())
    assert alike(" ".join(lines_of(look(text, pixels))), says) > 0.98
