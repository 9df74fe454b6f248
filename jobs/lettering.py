"""Text on pictures, in whatever scripts this machine has fonts for.

Pillow brings a font of its own, of plain Latin letters. All others are looked for among the system's fonts, by the
names under which the usual packages install them; nothing is ever fetched. A character that none of them has is drawn
as a box (or as `?`). On Debian and its like `apt install fonts-dejavu-core fonts-noto-core fonts-noto-cjk` gives all
the world's scripts.
"""

import unicodedata
from collections.abc import Iterator, Sequence
from functools import cache, cached_property, lru_cache

from PIL import ImageDraw, ImageFont

#: Looked for in this order by Pillow, in the system's and the user's own folders of fonts: one that has most alphabets,
#: then those for what it lacks, on Linux, macOS and Windows.
FONTS = (
    *("DejaVuSans.ttf", "NotoSans-Regular.ttf", "LiberationSans-Regular.ttf", "Arial.ttf", "segoeui.ttf"),
    *("NotoSansCJK-Regular.ttc", "NotoSansCJKsc-Regular.otf", "SourceHanSans-Regular.ttc", "wqy-microhei.ttc"),
    *("wqy-zenhei.ttc", "DroidSansFallbackFull.ttf", "DroidSansFallback.ttf", "Arial Unicode.ttf", "PingFang.ttc"),
    *("msyh.ttc", "YuGothR.ttc", "malgun.ttf", "NotoSansArabic-Regular.ttf", "NotoSansHebrew-Regular.ttf"),
    *("NotoSansDevanagari-Regular.ttf", "NotoSansBengali-Regular.ttf", "NotoSansTamil-Regular.ttf"),
    *("NotoSansTelugu-Regular.ttf", "NotoSansThai-Regular.ttf", "NotoSansGeorgian-Regular.ttf"),
    *("NotoSansArmenian-Regular.ttf", "NotoSansEthiopic-Regular.ttf", "NotoSansKhmer-Regular.ttf"),
    *("Nirmala.ttf", "leelawui.ttf", "FreeSans.ttf", "unifont.otf", "unifont.ttf"),
)

#: A character that no font has: fonts draw it as they draw all that they lack.
_NOWHERE = "\U0010ffff"

Font = ImageFont.FreeTypeFont


class Letters:
    """Letters of one size, in pixels, from as many fonts as a text needs."""

    def __init__(self, size: int) -> None:
        self.size = size

    @cached_property
    def height(self) -> int:
        """Pixels from the top of a line to the top of the next."""
        return round(self.size * 1.3)

    def width(self, text: str) -> int:
        """Pixels, rounded up."""
        return int(sum(font.getlength(run) for font, run in self._runs(clean(text)))) + 1

    def write(self, draw: ImageDraw.ImageDraw, at: tuple[float, float], text: str, fill: object) -> None:
        """Write one line; `at` is the top left corner of its `width` by `height`."""
        x, top = at
        for font, run in self._runs(clean(text)):
            draw.text((x, top + self.size), run, fill=fill, font=font, anchor="ls")  # type: ignore[arg-type]
            x += font.getlength(run)

    def fit(self, text: str, width: int) -> str:
        """The text, cut and ended with `...` where it is wider than that."""
        text = clean(text)
        # No letter is narrower than a twentieth of its height: a novel need not be measured.
        if len(text) * self.size <= 20 * width and self.width(text) <= width:
            return text
        low, high = 0, min(len(text), 20 * width // self.size)
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self.width(text[:middle] + "...") <= width else (low, middle - 1)
        return text[:low].rstrip() + "..."

    def wrap(self, text: str, width: int, lines: int) -> list[str]:
        """The text in at most that many lines; between words where it has words."""
        rest = clean(text)
        wrapped: list[str] = []
        while rest and len(wrapped) < lines - 1 and self.width(rest[: 20 * width // self.size]) > width:
            line = self.fit(rest, width).removesuffix("...")
            if not line:
                break
            if rest[len(line) : len(line) + 1] != " " and line.rfind(" ") > len(line) // 2:
                line = line[: line.rfind(" ")]
            wrapped.append(line)
            rest = rest[len(line) :].lstrip()
        return [*wrapped, self.fit(rest, width)] if rest else wrapped

    def _runs(self, text: str) -> Iterator[tuple[Font, str]]:
        """The text in pieces, each with a font that has its letters."""
        run, current = "", self._font(0)
        for letter in text:
            place = _place(letter)
            # Marks and joiners belong to the letter before them, whichever font that came from.
            font = current if run and unicodedata.category(letter)[0] in "MZ" else self._font(place or 0)
            if place is None:
                letter = _substitute()
            if font is not current and run:
                yield current, run
                run = ""
            run, current = run + letter, font
        if run:
            yield current, run

    def _font(self, place: int) -> Font:
        return _font(place, self.size)


def clean(text: str) -> str:
    """One line of what can be drawn: nothing that controls, turns the direction of writing, or is no character."""
    return " ".join("".join(one if _is_drawn(one) else " " for one in text).split())


def _is_drawn(letter: str) -> bool:
    # Indic and Persian words need their joiners.
    return unicodedata.category(letter) not in ("Cc", "Cf", "Cs", "Co", "Cn") or letter in "\u200c\u200d"


def lacking(texts: Sequence[str]) -> str:
    """The characters in those texts that no font on this machine has, in order."""
    return "".join(sorted({one for text in texts for one in clean(text) if _place(one) is None}))


@cache
def _paths() -> tuple[str, ...]:
    """The files of FONTS that are there."""
    paths = []
    for name in FONTS:
        try:
            paths.append(str(ImageFont.truetype(name, 10).path))
        except OSError:
            continue
    return tuple(dict.fromkeys(paths))


@lru_cache(maxsize=256)
def _font(place: int, size: int) -> Font:
    """The font at that place: those found, and Pillow's own behind them."""
    if place < len(_paths()):
        return ImageFont.truetype(_paths()[place], size)
    own = ImageFont.load_default(size)
    assert isinstance(own, Font), "Pillow was built without FreeType"
    return own


@lru_cache(maxsize=10_000)
def _place(letter: str) -> int | None:
    """Which font has it; None for none."""
    if letter.isspace() or unicodedata.category(letter) in ("Mn", "Me", "Cf"):
        return 0
    for place in range(len(_paths()) + 1):
        font = _font(place, 16)
        if bytes(font.getmask(letter)) != bytes(font.getmask(_NOWHERE)):
            return place
    return None


@cache
def _substitute() -> str:
    return "\N{WHITE SQUARE}" if _place("\N{WHITE SQUARE}") == 0 else "?"
