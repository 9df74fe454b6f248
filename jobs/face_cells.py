"""Faces cut out of the pictures that they are in, each at its place on a sheet; and grey cells where there is none."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from pinakes.jobs.drawing import Rectangle, colour_of
from pinakes.jobs.findings import Colour, Finding
from pinakes.jobs.lettering import Letters, clean
from pinakes.jobs.sheet import GAP, GREY, INK, PAPER, file_name, pictures
from pinakes.jobs.stills import clock

#: What is behind a picture that does not fill its place, and behind what was looked for.
GROUND = (238, 237, 232)
EDGE = (215, 214, 208)
#: Of a face that is no match.
DULL = (150, 150, 150)

#: The side of what is cut out, in sides of the face's box, where the picture goes so far.
AROUND = 1.9
#: What is cut out is shown at most so many times larger than it is: of a tiny face more of its surroundings is shown.
ENLARGED = 4

LETTERS, SMALL, LARGE = Letters(15), Letters(13), Letters(19)

#: Letters at a file name's end that are shown in any case.
KEPT = 9

_OUTLINE = (20, 20, 20)

Make = Callable[[np.ndarray], Image.Image]


@dataclass(frozen=True)
class FaceAt:
    """A face, where it is, and what is said of it on a sheet."""

    uri: str
    item_key: str | None
    content_id: str | None  # of the file that was looked at; None: whatever is there now is shown
    frame_ms: int | None  # of a frame of a video
    box: Mapping[str, float]  # left, top, width, height: ratios of the upright picture
    face_id: str
    similarity: float | None = None  # 0 to 1, to what was looked for
    name: str | None = None  # of the person

    @property
    def place(self) -> str:
        """Its file's name, with the time in a video before it."""
        name = file_name(self.uri)
        return name if self.frame_ms is None else f"{clock(self.frame_ms)} in {name}"

    @property
    def colour(self) -> Colour:
        """That of the name, as on every picture of ours; of faces without one that of faces."""
        return colour_of(Finding("faces", self.name or "face", self.name is not None, None, (), False, (), (), ()))


@dataclass(frozen=True)
class Marked:
    """A box to be drawn on a whole picture."""

    box: Mapping[str, float]
    colour: Colour
    badge: str | None = None


@dataclass(frozen=True)
class _Wanted:
    """A picture that is to come."""

    face: FaceAt
    room: Rectangle
    make: Make
    badge: str | None
    colour: Colour
    at_corner: bool


class Canvas:
    """A sheet in the making: text is written at once, pictures come when it is finished.

    Every file is read once, and a video opened once, however many faces of it are on the sheet. In memory are, beside
    the sheet, four files and canonical pictures at most, and what was cut out of them.
    """

    def __init__(self, width: int, height: int, title: str | None = None) -> None:
        self.image = Image.new("RGB", (width, height), PAPER)
        self.draw = ImageDraw.Draw(self.image)
        self._wanted: list[_Wanted] = []
        if title is not None:
            self.write(GAP, GAP, title, width - 2 * GAP, letters=LARGE)

    def write(self, left: int, top: int, text: str, width: int, fill: Colour = INK, letters: Letters = LETTERS) -> None:
        """One line, cut where it is wider than that."""
        letters.write(self.draw, (left, top), letters.fit(text, width), fill)

    def write_place(
        self, left: int, top: int, place: str, width: int, fill: Colour = INK, letters: Letters = LETTERS
    ) -> None:
        """A file's name on one line, cut in its middle where it is wider: its number and ending stand at its end."""
        place = clean(place)
        tail = place[-KEPT:]
        if letters.width(place) > width > 2 * letters.width(tail):
            place = letters.fit(place[:-KEPT], width - letters.width(tail)) + tail
        self.write(left, top, place, width, fill, letters)

    def place(
        self,
        face: FaceAt,
        room: Rectangle,
        make: Make,
        *,
        badge: str | None = None,
        colour: Colour = _OUTLINE,
        at_corner: bool = False,
    ) -> None:
        """Let what `make` makes of the picture that the face is in stand in that room: in its middle, or at its corner.

        `room` is left, top, right, bottom, the last two outside it. A badge stands in its top left corner.
        """
        self._wanted.append(_Wanted(face, room, make, badge, colour, at_corner))

    def grey(self, room: Rectangle, why: str) -> None:
        """A cell that says why there is no picture."""
        left, top, right, bottom = room
        self.draw.rectangle((left, top, right - 1, bottom - 1), fill=GREY)
        lines = max(1, (bottom - top - 2 * GAP) // SMALL.height)
        # Below the badge, if there is one.
        for number, line in enumerate(SMALL.wrap(why, right - left - 2 * GAP, lines - 2)):
            at = (left + GAP, top + 2 * GAP + (number + 1) * SMALL.height)
            SMALL.write(self.draw, at, line, INK)

    def finished(self) -> Image.Image:
        """The sheet with all its pictures."""
        by_file: dict[tuple[str, str | None], list[int]] = {}
        for number, wanted in enumerate(self._wanted):
            by_file.setdefault((wanted.face.uri, wanted.face.content_id), []).append(number)
        with ThreadPoolExecutor(max_workers=4, thread_name_prefix="fetch") as pool:
            for made in pool.map(self._made, by_file.values()):
                for number, picture in made:
                    self._put(self._wanted[number], picture)
        return self.image

    def _made(self, numbers: Sequence[int]) -> list[tuple[int, Image.Image | str]]:
        """The pictures of one file, or why there are none."""
        face = self._wanted[numbers[0]].face
        by_time: dict[int | None, list[int]] = {}
        for number in numbers:
            by_time.setdefault(self._wanted[number].face.frame_ms, []).append(number)
        times = sorted(by_time, key=lambda ms: -1 if ms is None else ms)
        made: list[tuple[int, Image.Image | str]] = []
        for ms, (pixels, why) in zip(times, pictures(face.uri, face.content_id, times), strict=True):
            for number in by_time[ms]:
                made.append((number, (why or "") if pixels is None else self._wanted[number].make(pixels)))
        return made

    def _put(self, wanted: _Wanted, picture: Image.Image | str) -> None:
        left, top, right, bottom = wanted.room
        if isinstance(picture, str):
            self.grey(wanted.room, picture)
        else:
            across, down = right - left - picture.width, bottom - top - picture.height
            if wanted.at_corner:
                across = down = 0
            elif across or down:
                self.draw.rectangle((left, top, right - 1, bottom - 1), fill=GROUND)
            self.image.paste(picture, (left + across // 2, top + down // 2))
        if wanted.badge is not None:
            draw_badge(self.draw, (left, top), wanted.badge, wanted.colour)


# --- pictures


def cut_out(face: FaceAt, side: int, colour: Colour | None = None) -> Make:
    """What shows the face, framed, with its surroundings: a square of that side, or less where the picture is less."""

    def make(pixels: np.ndarray) -> Image.Image:
        height, width = pixels.shape[:2]
        left, top, right, bottom = corners(face.box, width, height)
        own = max(right - left, bottom - top)
        wanted = max(AROUND * own, side / ENLARGED)
        # A little less of the surroundings, where the picture is then filled by it.
        wanted = max(min(wanted, width, height), 1.1 * own)
        first, last = _span((left + right) / 2, wanted, width)
        upper, lower = _span((top + bottom) / 2, wanted, height)
        scale = min(side / max(last - first, lower - upper), ENLARGED)
        size = max(1, round((last - first) * scale)), max(1, round((lower - upper) * scale))
        smooth = Image.Resampling.BICUBIC if scale > 1 else Image.Resampling.LANCZOS
        cut = Image.fromarray(pixels[upper:lower, first:last]).resize(size, smooth)
        frame = ((left - first) * scale, (top - upper) * scale, (right - first) * scale, (bottom - upper) * scale)
        draw_frame(cut, frame, face.colour if colour is None else colour)
        return cut

    return make


def whole(room: tuple[int, int], marked: Sequence[Marked]) -> Make:
    """The whole picture, as large as can be in a room of that width and height, with those boxes on it."""

    def make(pixels: np.ndarray) -> Image.Image:
        picture = Image.fromarray(pixels)
        scale = min(room[0] / picture.width, room[1] / picture.height, ENLARGED)
        size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
        picture = picture.resize(size, Image.Resampling.LANCZOS)
        frames = [(one, corners(one.box, *picture.size)) for one in marked]
        for one, frame in frames:
            draw_frame(picture, frame, one.colour)
        draw = ImageDraw.Draw(picture)
        for one, (left, top, _, bottom) in frames:
            if one.badge is not None:
                wide, high = badge_size(one.badge)
                # Above the box, or below it, or in it where it reaches from edge to edge.
                y = top - high - 2 if top >= high + 2 else bottom + 3 if bottom + 3 + high <= size[1] else top
                at = (round(min(max(left - 2, 0), size[0] - wide)), round(max(0, y)))
                draw_badge(draw, at, one.badge, one.colour)
        return picture

    return make


def corners(box: Mapping[str, float], width: int, height: int) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of what a box has in a picture of that size, in pixels, one apart at least."""
    left, top = min(max(box["left"], 0), 1) * width, min(max(box["top"], 0), 1) * height
    right = min(max(box["left"] + box["width"], 0), 1) * width
    bottom = min(max(box["top"] + box["height"], 0), 1) * height
    left, top = min(left, width - 1), min(top, height - 1)
    return left, top, max(right, left + 1), max(bottom, top + 1)


def draw_frame(picture: Image.Image, frame: tuple[float, float, float, float], colour: Colour) -> None:
    """A box's edge, dark beside the colour so that it is seen on any ground; all of it inside the picture."""
    draw = ImageDraw.Draw(picture)
    wide, high = picture.size
    left, top = max(1, min(round(frame[0]), wide - 4)), max(1, min(round(frame[1]), high - 4))
    right, bottom = max(left + 2, min(round(frame[2]), wide - 2)), max(top + 2, min(round(frame[3]), high - 2))
    draw.rectangle((left - 1, top - 1, right + 1, bottom + 1), outline=_OUTLINE)
    draw.rectangle((left, top, right, bottom), outline=colour, width=2)


def badge_size(text: str) -> tuple[int, int]:
    """Width and height of a badge in pixels."""
    return max(SMALL.height + 4, SMALL.width(text) + 8), SMALL.height + 2


def draw_badge(draw: ImageDraw.ImageDraw, at: tuple[int, int], text: str, colour: Colour) -> None:
    """A number or a word on a dark patch, with an edge of that colour at its left; `at` is its top left corner."""
    (left, top), (wide, high) = at, badge_size(text)
    draw.rectangle((left, top, left + wide + 2, top + high - 1), fill=_OUTLINE)
    draw.rectangle((left, top, left + 2, top + high - 1), fill=colour)
    SMALL.write(draw, (left + 3 + (wide - SMALL.width(text)) / 2, top), text, (255, 255, 255))


def draw_bar(
    draw: ImageDraw.ImageDraw, at: tuple[int, int], width: int, face: FaceAt, threshold: float | None, colour: Colour
) -> None:
    """How like it is, as a bar of at most that width, 5 pixels high, with a notch at the threshold."""
    left, top = at
    draw.rectangle((left, top, left + width - 1, top + 4), fill=EDGE)
    if face.similarity:
        draw.rectangle((left, top, left + max(1, round(face.similarity * width)) - 1, top + 4), fill=colour)
    if threshold is not None and 0 < threshold < 1:
        x = left + round(threshold * width)
        draw.rectangle((x - 1, top, x, top + 4), fill=_OUTLINE)


def _span(middle: float, length: float, end: int) -> tuple[int, int]:
    """Whole pixels from 0 to `end` of about that length around a middle, moved inside where they would not be."""
    if length >= end:
        return 0, end
    whole_length = max(1, min(end, round(length)))
    first = round(min(max(middle - length / 2, 0), end - whole_length))
    return first, first + whole_length
