"""The operator `properties`: a picture's main colours, and how bright, sharp and full of contrast it is. No model."""

from collections.abc import Sequence
from functools import cache
from typing import ClassVar

import cv2
import numpy as np
import pyarrow as pa
from PIL import ImageColor
from pydantic import Field

from pinakes.operators.operator import PICTURE, Operator, OperatorConfig, Picture, Results

#: Colours are counted on a grid of this many by this many pixels. They are picked, not averaged, which would make up
#: colours that the picture has not: grey between black letters and white paper.
GRID = 128

#: Colours nearer to each other than this, in CIE Lab, are one. 2 is about what an eye can tell apart side by side; a
#: wall in uneven light, or a sky, spreads over 10 to 20.
APART = 16.0

#: Colours that are looked for; of these the ones with the largest shares are given.
MOST = 20

#: A colour of less than this share of the picture is not a main one.
LEAST = 0.005

#: Brightness, contrast and sharpness are measured with the long side at this many pixels, so that a picture and a
#: smaller copy of it get about the same.
LONG_SIDE = 480

#: Pixels over which the blur for sharpness averages, as in its paper.
BLUR = 9

#: What the 12 plain names stand for: the nearest of these shades decides. The names of CSS would not do, they have few
#: muted and dark shades: brown grass is nearest to its grey, a dark wood to its black.
SHADES = {
    "red": "ff0000 c81e1e b22222 8b0000 e04a4a cd5c5c 5a1420",
    "pink": "ffc0cb ff69b4 ff1493 dc96a0 c71585 f4a0a0",
    "orange": "ffa500 ff7f00 ff4500 f08228 e1693c ffa07a e9967a",
    "yellow": "ffff00 ffd700 e1b40a fffaa0 d7c850 f0e68c",
    "brown": "8b4513 a52a2a a0703c 96503c 6e4b3c 46301e 2d1e12 8b7a5d aa965a b48c28 c8a078 d2b48c decaae 605040",
    "green": "008000 00ff00 5a7832 1e3c1e 006400 90ee90 6b8e23 808000 2e8b57 3c6e5a a0bea0 55583c 9acd32",
    "cyan": "00ffff 008b8b 40e0d0 5f9ea0 afeeee 20646e",
    "blue": "0000ff 00008b 1e90ff 87ceeb 4169e1 4682b4 285a78 465573 0a0f3c 191970 193241 aabed2 add8e6",
    "purple": "800080 9370db ff00ff 8a2be2 b9a0c8 4b0082 64328c 3c1e46 dda0dd e6e6fa",
    "white": "ffffff f0eee8 e8eef2",
    "grey": "404042 606064 808080 a0a0a0 c0c0c0 d8d8d8 69645f c8bab4 708090 c0ced8",
    "black": "000000 141414 202022",
}

COLOR = pa.struct(
    [
        pa.field("red", pa.int32(), nullable=False),
        pa.field("green", pa.int32(), nullable=False),
        pa.field("blue", pa.int32(), nullable=False),
        pa.field("hex", pa.string(), nullable=False),
        pa.field("css_name", pa.string(), nullable=False),
        pa.field("simplified_name", pa.string(), nullable=False),
        pa.field("share", pa.float32(), nullable=False),
    ]
)

SCHEMA = pa.schema(
    [
        pa.field(
            "dominant_colors",
            pa.list_(COLOR),
            metadata={
                "description": "the largest share of the picture first: red, green and blue from 0 to 255, #rrggbb, "
                "the nearest colour of CSS, one of 12 plain names; the shares add up to at most 1"
            },
        ),
        pa.field("brightness", pa.float32(), metadata={"description": "mean luma: 0 is black, 1 is white"}),
        pa.field(
            "sharpness",
            pa.float32(),
            metadata={"description": "share of the detail that a blur would take, 0 to 1; of most photos 0.55 to 0.8"},
        ),
        pa.field(
            "contrast",
            pa.float32(),
            metadata={"description": "twice the deviation of luma: 0 is flat, 1 is half black and half white"},
        ),
    ],
    metadata={"description": "a picture: its colours and how it was taken"},
)


class PropertiesConfig(OperatorConfig):
    """Settings of `properties`."""

    max_colors: int = Field(default=10, ge=0, le=MOST)


class Properties(Operator):
    """Fills `properties`: one row a picture."""

    name = "properties"
    tables: ClassVar = {"properties": SCHEMA}
    Config = PropertiesConfig
    config: PropertiesConfig

    def look(self, pictures: Sequence[Picture]) -> Results:
        quality = np.array([measure(picture.pixels) for picture in pictures], np.float32).reshape(len(pictures), 3)
        columns = {
            "picture": pa.array(np.arange(len(pictures), dtype=np.int32)),
            "dominant_colors": pa.array(
                [dominant_colors(picture.pixels, self.config.max_colors) for picture in pictures], pa.list_(COLOR)
            ),
            "brightness": pa.array(quality[:, 0]),
            "sharpness": pa.array(quality[:, 1]),
            "contrast": pa.array(quality[:, 2]),
        }
        return {"properties": pa.table(columns, schema=pa.schema([PICTURE, *SCHEMA]))}


def measure(pixels: np.ndarray) -> tuple[float, float, float]:
    """Brightness, sharpness and contrast, each 0 to 1.

    Luma is 0.299 red + 0.587 green + 0.114 blue. Contrast is its root mean square deviation over the largest there can
    be. Sharpness is 1 less the blur of Crete and others, "The blur effect" (2007): blurring a sharp picture takes most
    of the difference between neighbours away, blurring a blurred one hardly any. Noise counts as detail.
    """
    height, width = pixels.shape[:2]
    luma = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    by = max(height, width) // LONG_SIDE
    if by >= 2:
        # OpenCV is quick with whole ratios only. What is left at the edges is less than `by` pixels.
        high, wide = max(1, height // by), max(1, width // by)
        luma = cv2.resize(luma[: high * by, : wide * by], (wide, high), interpolation=cv2.INTER_AREA)
    scale = LONG_SIDE / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    luma = cv2.resize(luma, size, interpolation=cv2.INTER_LINEAR)
    mean, deviation = (float(values[0, 0]) for values in cv2.meanStdDev(luma))
    differences = taken = 0.0
    for ahead, behind, reach in (
        (np.s_[:, 1:], np.s_[:, :-1], (BLUR, 1)),
        (np.s_[1:], np.s_[:-1], (1, BLUR)),
    ):
        blurred = cv2.blur(luma, reach)
        before = cv2.absdiff(luma[ahead], luma[behind])
        after = cv2.absdiff(blurred[ahead], blurred[behind])
        differences += cv2.sumElems(before)[0]
        taken += cv2.sumElems(cv2.subtract(before, after))[0]  # under 0 is 0
    return mean / 255, taken / differences if differences else 0.0, min(1.0, 2 * deviation / 255)


def dominant_colors(pixels: np.ndarray, most: int) -> list[dict[str, object]]:
    """Up to `most` colours as rows of COLOR, the largest share first.

    The fullest of 4096 cells of the RGB cube and all colours within APART of it make the first one, with their mean;
    what is left makes the next. Nothing is random, and a flat area keeps its very colour.
    """
    height, width = pixels.shape[:2]
    down, across = (((np.arange(GRID) + 0.5) * side / GRID).astype(int) for side in (height, width))
    sample = pixels[down[:, None], across].reshape(-1, 3)
    cells = np.ravel_multi_index((sample >> 4).T, (16, 16, 16))
    counts = np.bincount(cells, minlength=4096)
    filled = np.flatnonzero(counts)
    counts = counts[filled]
    sums = np.stack([np.bincount(cells, channel, 4096)[filled] for channel in sample.T], axis=1)
    places = _lab(sums / counts[:, None])
    left = counts.copy()
    found: list[tuple[int, np.ndarray]] = []
    while len(found) < MOST and left.any():
        fullest = int(left.argmax())
        near = (left > 0) & (((places - places[fullest]) ** 2).sum(axis=1) < APART**2)
        found.append((int(counts[near].sum()), sums[near].sum(axis=0)))
        left[near] = 0
    found.sort(key=lambda color: -color[0])
    shares = [(count / GRID**2, total / count) for count, total in found[:most]]
    return [_color(mean, share) for share, mean in shares if share >= LEAST]


def _color(mean: np.ndarray, share: float) -> dict[str, object]:
    red, green, blue = (int(value) for value in mean.round())
    place = _lab(np.array([[red, green, blue]]))
    css, plain = (names[int(((places - place) ** 2).sum(axis=1).argmin())] for places, names in _named())
    return {
        "red": red,
        "green": green,
        "blue": blue,
        "hex": f"#{red:02x}{green:02x}{blue:02x}",
        "css_name": css,
        "simplified_name": plain,
        "share": share,
    }


@cache
def _named() -> tuple[tuple[np.ndarray, list[str]], ...]:
    """Colours in Lab and their names: those of CSS, and the twelve."""
    # Of two names that CSS has for one colour the later is taken: cyan, grey, magenta.
    css = {ImageColor.getrgb(name)[:3]: name for name in tuple(ImageColor.colormap)}
    plain = {tuple(bytes.fromhex(code)): name for name, codes in SHADES.items() for code in codes.split()}
    return tuple((_lab(np.array(list(named))), list(named.values())) for named in (css, plain))


def _lab(colors: np.ndarray) -> np.ndarray:
    """(n, 3) of RGB, 0 to 255, in CIE Lab (D65): float32, lightness 0 to 100."""
    scaled = (colors / 255).astype(np.float32)
    places: np.ndarray = cv2.cvtColor(scaled[None], cv2.COLOR_RGB2Lab)[0]
    return places
