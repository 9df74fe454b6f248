"""Good faces made poorer step by step, for face_accuracy.py: when is someone missed, and when do strangers match?"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pinakes.operators.decode import decode
from pinakes.operators.operator import MediaFacts
from tests.benchmarks.face_sources import Face, Reader, overlap, photos

#: Short side in pixels of the faces that are good enough to be made poorer.
LARGE = 120
#: What they are made before they are blurred, darkened, ... : what the recognizer takes.
SIDE = 112
#: The same person counts as missed below this.
THRESHOLD = 0.5

Box = tuple[float, ...]  # left, top, width, height


@dataclass(frozen=True)
class Good:
    face: Face
    pixels: np.ndarray  # the face and as much again on every side
    box: Box  # in those pixels
    facts: MediaFacts


def good_faces(reader: Reader, figures: Sequence[Face], folders: Sequence[Path]) -> list[Good]:
    """The large faces of the six, and of the folders' photos, that would be indexed."""
    known = {(face.source, face.box): face.who for face in figures}
    files = {face.source for face in figures} | {str(file) for folder in folders for file in photos(folder)}
    made_from = {face.source: face.made_from for face in figures}
    good: list[Good] = []
    for name in sorted(files):
        pixels, facts = decode(Path(name).read_bytes())
        height, width = pixels.shape[:2]
        for number, (face, _) in enumerate(reader.faces(pixels, facts, name)):
            left, top, wide, high = np.array(face.box) * (width, height, width, height)
            who = known.get((name, face.box), f"{name}#{number}")
            if min(wide, high) < LARGE or face.left_out or (name in made_from and "#" in who):
                continue
            reach = max(wide, high)
            x, y = int(max(0, left - reach)), int(max(0, top - reach))
            around = pixels[y : int(top + high + reach), x : int(left + wide + reach)]
            origins = made_from.get(name, frozenset({name}))
            whose = Face(who, face.vector, name, face.box, (), origins)
            good.append(Good(whose, around, (left - x, top - y, wide, high), facts))
    return good


def resized(good: Good, side: float) -> tuple[np.ndarray, Box]:
    factor = side / min(good.box[2:])
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    return cv2.resize(good.pixels, None, fx=factor, fy=factor, interpolation=how), tuple(x * factor for x in good.box)


def small(good: Good, side: float) -> tuple[np.ndarray, Box]:
    pixels, box = resized(good, side)
    return as_jpeg(pixels), box


def blurred(good: Good, deviation: float) -> tuple[np.ndarray, Box]:
    pixels, box = resized(good, SIDE)
    return as_jpeg(cv2.GaussianBlur(pixels, (0, 0), deviation)), box


def lit(good: Good, factor: float) -> tuple[np.ndarray, Box]:
    """Darker or brighter, clipped, with a little noise of the camera."""
    pixels, box = resized(good, SIDE)
    noise = np.random.default_rng(0).normal(0, 3, pixels.shape)
    return as_jpeg(np.clip(pixels.astype(np.float32) * factor + noise, 0, 255).astype(np.uint8)), box


def noisy(good: Good, deviation: float) -> tuple[np.ndarray, Box]:
    pixels, box = resized(good, SIDE)
    noise = np.random.default_rng(0).normal(0, deviation, pixels.shape)
    return as_jpeg(np.clip(pixels + noise, 0, 255).astype(np.uint8)), box


def squeezed(good: Good, quality: float) -> tuple[np.ndarray, Box]:
    pixels, box = resized(good, SIDE)
    return as_jpeg(pixels, int(quality)), box


def tilted(good: Good, degrees: float) -> tuple[np.ndarray, Box]:
    """Turned clockwise about the middle of the face."""
    pixels, box = resized(good, SIDE)
    left, top, width, height = box
    turn = cv2.getRotationMatrix2D((left + width / 2, top + height / 2), -degrees, 1)
    return as_jpeg(cv2.warpAffine(pixels, turn, (pixels.shape[1], pixels.shape[0]))), box


def as_jpeg(pixels: np.ndarray, quality: int = 85) -> np.ndarray:
    decoded = cv2.imdecode(cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)
    assert decoded is not None
    return decoded


Series = tuple[str, Callable[[Good, float], tuple[np.ndarray, Box]], tuple[float, ...]]
SERIES: tuple[Series, ...] = (
    ("pixels", small, (160, 112, 80, 60, 48, 40, 32, 28, 24, 20, 16, 14, 12)),
    ("blur, pixels of 112", blurred, (1, 1.5, 2, 2.5, 3, 4, 5, 6)),
    ("light", lit, (0.5, 0.3, 0.2, 0.15, 0.1, 0.07, 1.5, 2, 2.5, 3, 4)),
    ("tilt, degrees", tilted, (15, -15, 30, -30, 45, -45, 60, -60, 75, -75, 90, -90)),
    ("JPEG quality", squeezed, (50, 20, 10, 5)),
    ("noise of 255", noisy, (10, 25, 50)),
)


def make_poorer(reader: Reader, figures: Sequence[Face], folders: Sequence[Path]) -> None:
    """Print for each step how much is found, missed and mistaken, and what quality and pose say of it."""
    good = good_faces(reader, figures, folders)
    people = len({one.face.who for one in good})
    print(f"{len(good)} faces of {people} people, {LARGE} pixels and more; missed: below {THRESHOLD}")
    print(
        "found | same person, another photo: pairs, median, 5 % below, missed | two strangers made poorer alike: pairs,"
    )
    print("99 % below, highest | medians: pixels, sharpness, brightness, roll, confidence | left out by the limits")
    for name, degrade, steps in SERIES:
        for step in steps:
            print(f"{name} {step:g}: {one_step(reader, good, lambda one, d=degrade, s=step: d(one, s))}", flush=True)


def one_step(reader: Reader, good: Sequence[Good], degrade: Callable[[Good], tuple[np.ndarray, Box]]) -> str:
    found: list[tuple[Good, Face, dict[str, Any]]] = []
    for one in good:
        pixels, box = degrade(one)
        height, width = pixels.shape[:2]
        place = tuple(np.array(box) / (width, height, width, height))
        facts = replace(one.facts, width=width, height=height)
        seen = reader.faces(np.ascontiguousarray(pixels), facts, one.face.source)
        face, row = max(seen, key=lambda each: overlap(each[0].box, place), default=(None, {}))
        if face is not None and overlap(face.box, place) > 0.3:
            row["pixels"] = min(face.box[2] * width, face.box[3] * height)
            found.append((one, face, row))
    if not found:
        return "none found"
    same = [
        float(face.vector @ other.face.vector)
        for one, face, _ in found
        for other in good
        if one.face.who == other.face.who and not one.face.made_from & other.face.made_from
    ]
    alike = [
        float(face.vector @ other.vector)
        for (one, face, _), (another, other, _) in combinations(found, 2)
        if one.face.who != another.face.who
    ]
    parts = [f"{len(found)}/{len(good)}"]
    for values, quantile in ((same, 0.05), (alike, 0.99)):
        parts.append(f"{len(values)}")
        if values:
            last = np.mean(np.array(values) < THRESHOLD) if values is same else max(values)
            middle = f"{np.median(values):.2f} " if values is same else ""
            parts[-1] += f" {middle}{np.quantile(values, quantile):.2f} {last:.2f}"
    rows = [row for _, _, row in found]
    reads = {
        "pixels": [row["pixels"] for row in rows],
        "sharpness": [row["quality"]["sharpness"] for row in rows],
        "brightness": [row["quality"]["brightness"] for row in rows],
        "roll": [abs(row["pose"]["roll"]) for row in rows],
        "confidence": [row["confidence"] for row in rows],
    }
    parts.append(" ".join(f"{np.median(values):.3g}" for values in reads.values()))
    reasons = [reason for _, face, _ in found for reason in face.left_out]
    counts = ", ".join(f"{reason} {reasons.count(reason)}" for reason in dict.fromkeys(reasons))
    parts.append(f"{sum(bool(face.left_out) for _, face, _ in found)} ({counts})" if counts else "0")
    return " | ".join(parts)
