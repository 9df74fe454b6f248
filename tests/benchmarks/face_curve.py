"""The picture of face_accuracy.py: how similar one person's faces are and those of two, and the rates by threshold."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from pinakes.jobs.lettering import Letters

WIDTH, HEIGHT = 1400, 1080
LEFT, RIGHT = 110, 40
#: Top and bottom of the two charts.
UPPER, LOWER = (120, 440), (530, 890)
BINS = 50
#: The lowest rate that is drawn.
LEAST = 1e-6

PAPER, INK, FAINT, GRID = (252, 252, 250), (30, 30, 30), (110, 110, 110), (222, 222, 218)
PERSON, FILMED, STRANGERS = (20, 110, 60), (60, 130, 200), (190, 50, 40)

Curve = Sequence[tuple[float, float]]


def draw(
    path: Path,
    same: Sequence[float],
    filmed: Sequence[float],
    different: np.ndarray,
    tail: Callable[[float], float],
    data: str,
    model: str,
    marks: Sequence[float] = (0.363, 0.5, 0.55),
) -> None:
    """Write a PNG; `tail` gives the false match rate beyond the pairs that there are."""
    image = Image.new("RGB", (WIDTH, HEIGHT), PAPER)
    draw = ImageDraw.Draw(image)
    title, text, small = Letters(26), Letters(18), Letters(15)
    title.write(draw, (LEFT, 22), "Faces: the same person and strangers", INK)
    text.write(draw, (LEFT, 62), f"{model}; faces within the limits of indexing", FAINT)
    _axes(draw, text, UPPER, "share of pairs", [(at / 20, f"{at * 5} %") for at in range(1, 5)], 0.0, 0.2)
    kinds = (
        (different, STRANGERS, "strangers, photos"),
        (same, PERSON, "same person, photos"),
        (filmed, FILMED, "same person, with films"),
    )
    for values, colour, _ in kinds:
        if len(values):
            share = np.histogram(values, BINS, (0, 1))[0] / len(values)
            # Below 0 is said as 0: that pile is no part of the shape.
            steps = [(edge / BINS, float(share[bin_])) for bin_ in range(BINS) for edge in (bin_, bin_ + 1)]
            _line(draw, [(x, min(y, 0.2)) for x, y in steps], UPPER, 0.0, 0.2, colour)
    powers = [(float(power), f"1e{power}") for power in range(-6, 1)]
    _axes(draw, text, LOWER, "rate", powers, math.log10(LEAST), 0.0)
    ends = (math.log10(LEAST), 0.0)
    for values, colour, above in ((different, STRANGERS, True), (same, PERSON, False), (filmed, FILMED, False)):
        if len(values):
            _line(draw, _rates(np.array(values), above), LOWER, *ends, colour)
    beyond = [(at / 200, math.log10(max(LEAST, tail(at / 200)))) for at in range(60, 150)]
    _line(draw, [point for point in beyond if point[1] > ends[0]], LOWER, *ends, STRANGERS, dashed=True)
    for mark in marks:
        x = _x(mark)
        for top, bottom in (UPPER, LOWER):
            draw.line((x, top, x, bottom), FAINT)
        small.write(draw, (x + 4, LOWER[0] + 4), f"{mark:g}", FAINT)
    x = LEFT
    for _, colour, name in (*kinds, (None, STRANGERS, "strangers, extrapolated (dashed)")):
        draw.rectangle((x, HEIGHT - 142, x + 16, HEIGHT - 126), colour)
        small.write(draw, (x + 24, HEIGHT - 144), name, INK)
        x += 60 + small.width(name)
    words = (
        "upper: similarity (cosine; below 0 said as 0, a pile that is cut). lower, by threshold: false matches "
        "(strangers at or above it) and false non-matches (same person below it)."
    )
    lines = small.wrap(words, WIDTH - LEFT - RIGHT, 2)
    for number, line in enumerate([*lines, *small.wrap(f"Data: {data}", WIDTH - LEFT - RIGHT, 4)]):
        small.write(draw, (LEFT, HEIGHT - 114 + number * small.height), line, FAINT)
    image.save(path, "PNG")


def _x(value: float) -> float:
    return LEFT + value * (WIDTH - LEFT - RIGHT)


def _y(value: float, chart: tuple[int, int], low: float, high: float) -> float:
    top, bottom = chart
    return bottom - (value - low) / (high - low) * (bottom - top)


def _axes(
    draw: ImageDraw.ImageDraw,
    letters: Letters,
    chart: tuple[int, int],
    name: str,
    ticks: Sequence[tuple[float, str]],
    low: float,
    high: float,
) -> None:
    top, bottom = chart
    letters.write(draw, (LEFT, top - 28), name, INK)
    for tenth in range(11):
        x = _x(tenth / 10)
        draw.line((x, top, x, bottom), GRID)
        letters.write(draw, (x - 10, bottom + 6), f"{tenth / 10:g}", FAINT)
    for value, word in ticks:
        y = _y(value, chart, low, high)
        draw.line((LEFT, y, WIDTH - RIGHT, y), GRID)
        letters.write(draw, (LEFT - 10 - letters.width(word), y - 11), word, FAINT)
    draw.line((LEFT, top, LEFT, bottom, WIDTH - RIGHT, bottom), INK)


def _rates(values: np.ndarray, above: bool) -> Curve:
    """The share at or above, or below, each threshold, as a power of ten; where none is left the curve ends."""
    at = np.linspace(0, 1, 1001)
    share = [np.mean(values >= one) if above else np.mean(values < one) for one in at]
    return [(float(one), math.log10(rate)) for one, rate in zip(at, share, strict=True) if rate > 0]


def _line(
    draw: ImageDraw.ImageDraw,
    points: Curve,
    chart: tuple[int, int],
    low: float,
    high: float,
    colour: tuple[int, int, int],
    dashed: bool = False,
) -> None:
    places = [(_x(x), _y(y, chart, low, high)) for x, y in points]
    if not dashed:
        draw.line(places, colour, 3, joint="curve")
        return
    for start, end in zip(places[::2], places[1::2], strict=False):
        draw.line((start, end), colour, 2)
