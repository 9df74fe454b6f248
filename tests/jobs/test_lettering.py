"""Text on pictures: what can be written is, the rest is marked, and nothing is wider than its room."""

from collections.abc import Iterator

import pytest
from PIL import Image, ImageDraw

from pinakes.jobs import lettering
from pinakes.jobs.lettering import Letters


def written(text: str) -> bytes:
    """The pixels of a text."""
    image = Image.new("L", (300, 40))
    Letters(20).write(ImageDraw.Draw(image), (5, 5), text, 255)
    return image.tobytes()


def test_what_cannot_be_drawn_is_left_out() -> None:
    assert lettering.clean("a\x1b[31m\u202eb\nc") == "a [31m b c"
    assert lettering.clean("\ud800\x00") == ""
    assert lettering.clean("क\u200dष") == "क\u200dष"
    assert not any(written("\ud800\n"))


def test_letters_are_told_apart() -> None:
    assert lettering.lacking(["plain Latin, 0.5"]) == ""
    words = [word for word in ("naïve", "Ωραίος", "Привет", "مرحبا", "你好", "नमस्ते") if not lettering.lacking([word])]
    seen = {written(word) for word in words}
    assert len(seen) == len(words)
    assert written("ab") != written("ac")


@pytest.fixture
def no_fonts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine without fonts."""
    caches = (lettering._paths, lettering._font, lettering._place, lettering._substitute)
    with monkeypatch.context() as patch:
        patch.setattr(lettering, "FONTS", ())
        for cached in caches:
            cached.cache_clear()
        yield
    for cached in caches:
        cached.cache_clear()


@pytest.mark.usefixtures("no_fonts")
def test_without_any_font_of_the_system_latin_is_written_and_the_rest_is_marked() -> None:
    assert lettering.lacking(["dog Ω 你"]) == "Ω你"
    assert written("Ω你") == written("??")
    assert any(written("dog"))
    assert written("dog") != written("???")


def test_long_texts_are_cut_or_wrapped_to_a_width() -> None:
    letters = Letters(16)
    assert letters.fit("short", 200) == "short"
    cut = letters.fit("a very long name " * 1000, 200)
    assert cut.endswith("...")
    assert 150 < letters.width(cut) <= 200
    lines = letters.wrap("the quick brown fox jumps over the lazy dog", 120, 10)
    assert " ".join(lines) == "the quick brown fox jumps over the lazy dog"
    assert all(letters.width(line) <= 120 for line in lines)
    assert len(letters.wrap("x" * 5000, 120, 3)) == 3
