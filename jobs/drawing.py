"""What was found in a picture, drawn on it: boxes, polygons, dots, and titles where they cover nothing."""

import zlib
from collections.abc import Sequence
from itertools import pairwise

from PIL import Image, ImageColor, ImageDraw

from pinakes.jobs.findings import Colour, Finding, Point
from pinakes.jobs.lettering import Letters

Rectangle = tuple[int, int, int, int]  # left, top, right, bottom, in pixels

#: Hues, and tones (saturation and value in percent) of each.
HUES = range(0, 360, 15)
TONES = ((90, 100), (55, 95))

#: A longer title does not stand on the picture but in the panel.
TITLE_LETTERS = 32

_OUTLINE = (20, 20, 20)


def draw_findings(
    picture: Image.Image, found: Sequence[Finding], letters: Letters, *, numbers: bool
) -> dict[int, Finding]:
    """Draw on the picture what has a place in it. Returns what stands there as a number, by that number, from 1.

    Without `numbers` a title for which there is no room is left out.
    """
    draw = ImageDraw.Draw(picture)
    # Odd, as the darker one behind it: both have the same middle.
    width = 1 + 2 * max(1, round(max(picture.size) / 900))
    placed = [one for one in found if one.placed]
    # The largest first, lest it cross those that lie in it.
    for one in sorted(placed, key=lambda one: -_area(_bounds(picture, one))):
        _draw_shape(draw, picture, one, width)
    taken = Image.new("L", picture.size)
    covered = ImageDraw.Draw(taken)
    for one in placed:
        # What fills the picture is no writing that a title would hide, and no title could stand outside it.
        if one.slanted and _area(_bounds(picture, one)) < picture.width * picture.height / 2:
            covered.polygon([_pixel(picture, corner, 0) for corner in one.corners], fill=255)
    numbered: dict[int, Finding] = {}
    for one in placed:
        colour = colour_of(one)
        told = _told_in_panel(one)
        number = f"{len(numbered) + 1}"
        title = f"{number} {one.caption}" if numbers and told else one.caption
        room = _room(one, title, letters, taken) if len(one.caption) <= TITLE_LETTERS else None
        text = title
        if numbers and (told or room is None):
            numbered[len(numbered) + 1] = one
            if room is None:
                text, room = number, _room(one, number, letters, taken, always=True)
        if room is None:
            continue
        covered.rectangle(room, fill=255)
        draw.rectangle(room, fill=colour)
        letters.write(draw, (room[0] + letters.size // 4, room[1]), text, _ink_on(colour))
    return numbered


def colour_of(finding: Finding) -> Colour:
    """Always the same for a name, and for the untitled of a table; two names may share one."""
    # A text has a colour by its table: every one is another.
    key = finding.title if finding.titled and not finding.slanted else finding.table
    row, column = divmod(zlib.crc32(key.encode("utf-8", "replace")), len(HUES))
    saturation, value = TONES[row % len(TONES)]
    red, green, blue, *_ = ImageColor.getrgb(f"hsv({HUES[column]}, {saturation}%, {value}%)")
    return red, green, blue


def _told_in_panel(finding: Finding) -> bool:
    return bool(finding.facts or finding.swatches)


# --- on the picture


def _draw_shape(draw: ImageDraw.ImageDraw, picture: Image.Image, one: Finding, width: int) -> None:
    colour = colour_of(one)
    if one.corners:
        corners = [_pixel(picture, corner, width) for corner in one.corners]
        # Dark behind the colour: seen on any ground.
        for fill, thick in ((_OUTLINE, width + 2), (colour, width)):
            draw.line([*corners, corners[0], corners[1]], fill=fill, width=thick, joint="curve")
    for dot in one.dots:
        x, y = _pixel(picture, dot, 0)
        radius = max(2, round(max(picture.size) / 250))
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour, outline=_OUTLINE)


def _pixel(picture: Image.Image, point: Point, line: int) -> tuple[int, int]:
    """Where a point is, so far inside that a line along the picture's edge is seen."""
    (x, y), inset = point, line // 2
    return (
        min(max(round(x * picture.width), inset), picture.width - 1 - inset),
        min(max(round(y * picture.height), inset), picture.height - 1 - inset),
    )


def _bounds(picture: Image.Image, one: Finding) -> Rectangle:
    assert one.bounds is not None
    top_left, bottom_right = one.bounds
    return *_pixel(picture, top_left, 0), *_pixel(picture, bottom_right, 0)


def _area(rectangle: Rectangle) -> int:
    left, top, right, bottom = rectangle
    return (right - left) * (bottom - top)


def _room(one: Finding, text: str, letters: Letters, taken: Image.Image, *, always: bool = False) -> Rectangle | None:
    """Where that text can stand, at that finding, and cover nothing of `taken`; `always`: or as little as can be."""
    wide, high = letters.width(text) + letters.size // 2, letters.height
    if not always and (wide > taken.width or high > taken.height):
        return None
    right, bottom = taken.width - wide, taken.height - high
    places = _places(taken, one, wide, high)
    # Those that would reach out of the picture are moved into it, and come last.
    places.sort(key=lambda place: not (0 <= place[0] <= right and 0 <= place[1] <= bottom))
    hides_least, least = None, wide * high + 1
    for left, top in places:
        left, top = max(0, min(left, right)), max(0, min(top, bottom))
        hidden = taken.crop((left, top, left + wide, top + high)).histogram()[255]
        if hidden < least:
            hides_least, least = (left, top, left + wide - 1, top + high - 1), hidden
        if not hidden:
            break
    return hides_least if always or not least else None


def _places(picture: Image.Image, one: Finding, wide: int, high: int) -> list[tuple[int, int]]:
    """Top left corners for a label of that size, the best first."""
    left, top, right, bottom = _bounds(picture, one)
    middle = (top + bottom - high) // 2
    above, below = ([(left, y), (right - wide, y)] for y in (top - high, bottom + 1))
    inside = [(left, top), (right - wide, top), (left, bottom - high), (right - wide, bottom - high)]
    beside = [(x, y) for y in (top, middle, bottom - high) for x in (left - wide, right + 1)]
    if one.slanted:
        corners = [_pixel(picture, corner, 0) for corner in one.corners]
        twice = sum(x * next_y - next_x * y for (x, y), (next_x, next_y) in pairwise([*corners, corners[0]]))
        if abs(twice) > _area((left, top, right, bottom)):
            return [*above, *below, *beside, *inside]
        # It fills less than half of its bounds, whose corners are far from it: at its own, then.
        down, across = sorted(corners, key=lambda corner: corner[1]), sorted(corners)
        return [
            *((down[0][0] - wide // 2, top - high), (down[-1][0] - wide // 2, bottom + 1)),
            *((left - wide, across[0][1] - high // 2), (right + 1, across[-1][1] - high // 2)),
            *beside,
        ]
    # Beside a large thing there is likely another one, whose title it would seem to be.
    return [*above, *inside, *below] if bottom - top > 4 * high else [*above, *below, *beside, *inside]


def _ink_on(colour: Colour) -> Colour:
    """Black or white, whichever is easier to read on it."""
    red, green, blue = colour
    return (0, 0, 0) if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else (255, 255, 255)
