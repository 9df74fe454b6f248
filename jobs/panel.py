"""A panel beside a picture: what was found that has no place in it, and what the numbers on it mean."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from pinakes.jobs.drawing import colour_of
from pinakes.jobs.findings import Colour, Finding
from pinakes.jobs.lettering import Letters

#: Lines of one table, at most; fewer where there is no room for so many.
MOST_LINES = 24
#: Pixels that a panel may be high beside a picture that is lower.
HEIGHT = 640
#: Lines that one title, or the facts beneath it, may take.
WRAPPED = 3

PAPER, INK, FAINT, EDGE = (250, 250, 248), (25, 25, 25), (110, 110, 110), (190, 190, 190)


@dataclass(frozen=True)
class Line:
    """A line of the panel; the patch of colour, where it has one, stands before its text."""

    text: str
    fill: Colour = INK
    patch: Colour | None = None
    indent: bool = False


def with_panel(
    picture: Image.Image, found: Sequence[Finding], numbered: Mapping[int, Finding], letters: Letters
) -> Image.Image:
    """The picture with a panel to its right, up to 22 letters' heights wide; as it is when there is nothing to write.

    What has no room is counted. The whole is higher than the picture where that is lower than HEIGHT, or too low for
    one line of every table.
    """
    margin, width = letters.size, letters.size * 20
    entries: dict[str, list[tuple[int | None, Finding]]] = {}
    for one in found:
        number = next((number for number, other in numbered.items() if other is one), None)
        if number is not None or not one.placed:
            entries.setdefault(one.table, []).append((number, one))
    if not entries:
        return picture
    for most in range(MOST_LINES, 0, -1):
        sections = [
            [Line(table, FAINT), *_section(rows, most, letters, width)]
            for table, rows in sorted(entries.items(), key=_order)
        ]
        lines = sum(map(len, sections)) + 0.5 * (len(sections) - 1)
        height = round(lines * letters.height) + 2 * margin
        if height <= max(picture.height, HEIGHT):
            break
    width = max(letters.width(line.text) + _shift(line, letters) for section in sections for line in section)
    sheet = Image.new("RGB", (picture.width + width + 2 * margin, max(picture.height, height)), PAPER)
    sheet.paste(picture)
    draw = ImageDraw.Draw(sheet)
    x, y = picture.width + margin, float(margin)
    for section in sections:
        for line in section:
            _write(draw, x, y, line, letters)
            y += letters.height
        y += 0.5 * letters.height
    return sheet


def _order(section: tuple[str, Sequence[tuple[int | None, Finding]]]) -> bool:
    """What has titles before what has only facts."""
    _, rows = section
    return not any(finding.titled for _, finding in rows)


def _section(rows: Sequence[tuple[int | None, Finding]], most: int, letters: Letters, width: int) -> Iterator[Line]:
    blocks = [block for number, one in rows for block in _blocks(number, one, len(rows) == 1, letters, width)]
    lines = 0
    for shown, block in enumerate(blocks):
        # The last line is kept for how many more there are, unless this block is the last.
        if lines + len(block) > most - (shown < len(blocks) - 1) and shown:
            yield Line(f"+{len(blocks) - shown} more", FAINT)
            return
        yield from block
        lines += len(block)


def _blocks(number: int | None, one: Finding, alone: bool, letters: Letters, width: int) -> Iterator[list[Line]]:
    """The lines of one finding, in pieces that are shown whole or not at all."""
    indented = width - letters.height
    if number is not None or one.titled:
        patch = colour_of(one) if number is not None else None
        text = one.caption if number is None else f"{number}  {one.caption}"
        title, *more = letters.wrap(text, indented if patch else width, WRAPPED) or [""]
        details = letters.wrap(one.details, indented, WRAPPED)
        yield [
            Line(title, patch=patch),
            *(Line(line, indent=patch is not None) for line in more),
            *(Line(line, FAINT, indent=True) for line in details),
        ]
    elif alone:
        for name, value in one.facts:
            yield [Line(line) for line in letters.wrap(f"{name}  {value}", width, WRAPPED)]
    else:
        text = one.details if one.confidence is None else f"{one.confidence:.2f} {one.details}"
        yield [Line(line) for line in letters.wrap(text or "-", width, WRAPPED)]
    for colour, name in one.swatches:
        yield [Line(letters.fit(name, indented), patch=colour)]


def _write(draw: ImageDraw.ImageDraw, x: int, y: float, line: Line, letters: Letters) -> None:
    side = letters.size
    if line.patch is not None:
        top = round(y) + (letters.height - side) // 2
        draw.rectangle((x, top, x + side - 1, top + side - 1), fill=line.patch, outline=EDGE)
    letters.write(draw, (x + _shift(line, letters), y), line.text, line.fill)


def _shift(line: Line, letters: Letters) -> int:
    return letters.height if line.indent or line.patch is not None else 0
