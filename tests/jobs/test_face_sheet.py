"""Sheets of faces: every face is where it should be, and what cannot be shown says why."""

from collections.abc import Sequence
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pinakes.jobs import sheet
from pinakes.jobs.face_cells import DULL, ENLARGED
from pinakes.jobs.face_query import Compared, Comparison, QueryFace
from pinakes.jobs.face_sheet import (
    MOST,
    NAMES,
    SIDE,
    SIDE_OF_ONE,
    Asked,
    FaceAt,
    PersonRow,
    compare_sheet,
    face_at,
    people_sheet,
    search_sheet,
)
from pinakes.jobs.sheet import FAINT, GAP, GREY, PAPER
from tests.films import number_in, write_film

RED, GREEN, BLUE, GROUND = (220, 30, 30), (30, 160, 60), (40, 60, 210), (128, 128, 128)

#: Where the matches begin, without a title.
LEFT, TOP = SIDE + 4 * GAP, 2 * GAP

#: A face in the middle.
MIDDLE = {"left": 0.45, "top": 0.4, "width": 0.1, "height": 0.2}


def photo(
    path: Path, colour: Any = RED, size: tuple[int, int] = (1000, 800), box: Any = MIDDLE, **settings: Any
) -> Path:
    """A grey photo with a face that is a patch of that colour."""
    image = Image.new("RGB", size, GROUND)
    left, top = round(box["left"] * size[0]), round(box["top"] * size[1])
    patch = max(1, round(box["width"] * size[0])), max(1, round(box["height"] * size[1]))
    image.paste(colour, (left, top, left + patch[0], top + patch[1]))
    image.save(path, **settings)
    return path


def face(path: Path | str, similarity: float | None = 0.8, box: Any = MIDDLE, **more: Any) -> FaceAt:
    uri = str(path) if "://" in str(path) else f"file://{path}"
    return FaceAt(uri, None, more.pop("content_id", None), more.pop("frame_ms", None), box, "f", similarity, **more)


def searched(matches: Sequence[FaceAt], asked: FaceAt, **more: Any) -> np.ndarray:
    return np.asarray(search_sheet([Asked(asked, matches)], **more))


def cell(pixels: np.ndarray, column: int = 0, row: int = 0, high: int = 0) -> np.ndarray:
    """A match's picture, (SIDE, SIDE, 3); `high` is the height of the rows above it."""
    left, top = LEFT + column * (SIDE + GAP), TOP + row * high
    return pixels[top : top + SIDE, left : left + SIDE]


def like(pixels: np.ndarray, colour: Sequence[int]) -> np.ndarray:
    """(height, width) of bool: where they have about that colour."""
    near: np.ndarray = (np.abs(pixels.astype(int) - np.array(colour)) < 40).all(axis=-1)
    return near


def extent(where: np.ndarray) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of what is true."""
    rows, columns = np.flatnonzero(where.any(axis=1)), np.flatnonzero(where.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


# --- a face cut out


@pytest.mark.parametrize("name", ["face.png", "face.jpg", "face.webp"])
def test_a_face_is_in_the_middle_of_what_is_cut_out_and_framed(tmp_path: Path, name: str) -> None:
    path = photo(tmp_path / name, quality=95)
    pixels = searched([face(path)], face(path))
    for picture in (cell(pixels), pixels[TOP : TOP + SIDE, 2 * GAP : 2 * GAP + SIDE]):
        left, top, right, bottom = extent(like(picture, RED))
        # 100 x 160 pixels, the frame's two on each side not counted, and 1.9 times 160 around them.
        scale = SIDE / (1.9 * 160)
        assert (right - left, bottom - top) == pytest.approx((100 * scale - 4, 160 * scale - 4), abs=4)
        assert ((left + right) / 2, (top + bottom) / 2) == pytest.approx((SIDE / 2, SIDE / 2), abs=3)
        assert not like(picture[:, left - 3], GROUND)[top:bottom].any(), "no frame at its left"
        assert not like(picture[bottom + 2], GROUND)[left:right].any(), "no frame below it"
        assert like(picture[:, left - 8], GROUND)[top:bottom].mean() > 0.9
        assert like(picture, GROUND).mean() > 0.4


def test_a_photo_that_its_exif_turns_is_cut_where_the_face_is(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    # As stored it lies; upright the face is at the right, high up.
    lying = {"left": 0.1, "top": 0.05, "width": 0.2, "height": 0.1}
    path = photo(tmp_path / "turned.jpg", size=(800, 600), box=lying, exif=exif, quality=95)
    upright = {"left": 1 - 0.05 - 0.1, "top": 0.1, "width": 0.1, "height": 0.2}
    picture = cell(searched([face(path, box=upright)], face(path)))
    assert like(picture, RED).sum() > 0.7 * (60 * 160 * (SIDE / (1.9 * 160)) ** 2)
    assert like(picture[:, -40:], GROUND).mean() > 0.5


def test_a_face_at_the_edge_fills_its_cell_too(tmp_path: Path) -> None:
    corner = {"left": 0.92, "top": 0.0, "width": 0.08, "height": 0.1}
    path = photo(tmp_path / "edge.png", box=corner)
    picture = cell(searched([face(path, box=corner)], face(path)))
    left, top, right, _ = extent(like(picture, RED))
    assert right > SIDE - 6
    assert top < 6
    assert left > 0.4 * SIDE
    assert like(picture, GROUND).mean() > 0.5


def test_a_tiny_face_is_enlarged_a_little_and_shown_with_more_around_it(tmp_path: Path) -> None:
    tiny = {"left": 0.6, "top": 0.6, "width": 0.012, "height": 0.015}
    path = photo(tmp_path / "tiny.png", box=tiny)
    picture = cell(searched([face(path, box=tiny)], face(path)))
    left, _, right, _ = extent(like(picture, RED))
    assert 12 * ENLARGED - 10 < right - left <= 12 * ENLARGED
    assert like(picture, GROUND).mean() > 0.8


@pytest.mark.parametrize("size", [(1, 1), (1, 900), (900, 1), (30, 20)])
def test_tiny_pictures_and_strips_are_shown(tmp_path: Path, size: tuple[int, int]) -> None:
    everything = {"left": 0.0, "top": 0.0, "width": 1.0, "height": 1.0}
    beyond = {"left": -1.0, "top": 0.5, "width": 9.0, "height": 0.0}
    path = photo(tmp_path / "odd.png", size=size)
    picture = searched([face(path, box=everything), face(path, box=beyond)], face(path, box=everything))
    assert len(np.unique(cell(picture).reshape(-1, 3), axis=0)) > 1


def test_a_face_is_cut_from_the_full_picture(tmp_path: Path) -> None:
    """Lines of two pixels in a face of 100 are seen: no thumbnail was enlarged."""
    image = np.full((1000, 1500, 3), 128, np.uint8)
    image[450:550, 700:800] = np.where(np.arange(100) // 2 % 2, 255, 0)[None, :, None]
    Image.fromarray(image).save(tmp_path / "lines.png")
    box = {"left": 700 / 1500, "top": 0.45, "width": 100 / 1500, "height": 0.1}
    picture = cell(searched([face(tmp_path / "lines.png", box=box)], face(tmp_path / "lines.png", box=box)))
    assert picture[SIDE // 2 - 5 : SIDE // 2 + 5, 60:140].std() > 60


# --- what is said of it


def test_the_bar_is_as_long_as_the_similarity_with_a_notch_at_the_threshold(tmp_path: Path) -> None:
    path = photo(tmp_path / "a.png")
    matches = [face(path, 1.0), face(path, 0.5), face(path, 0.0), face(path, None)]
    pixels = searched(matches, face(path), threshold=0.25)
    row = pixels[TOP + SIDE + 5]
    lengths = []
    for column in range(4):
        bar = row[LEFT + column * (SIDE + GAP) :][:SIDE]
        assert like(bar[50:51], (20, 20, 20)).all(), "no notch at a quarter"
        lengths.append(int(like(bar, matches[0].colour).sum()))
    assert lengths == pytest.approx([SIDE - 2, SIDE / 2 - 2, 0, 0], abs=2)


def test_a_name_is_written_and_has_a_colour_of_its_own(tmp_path: Path) -> None:
    path = photo(tmp_path / "a.png")
    names = ["Ωραίος", "Привет", "naïve façade", "你好世界", "مرحبا", "a\x1b[31m\u202eb", "long " * 90, None]
    named = [face(path, name=name) for name in names]
    pixels, without = searched(named, face(path)), searched([face(path)] * len(names), face(path))
    assert len({one.colour for one in named}) > 5, "two names may share a colour"
    for column, one in enumerate(named[:5]):
        left = LEFT + column * (SIDE + GAP)
        # Below the picture and the line with the similarity.
        line = pixels[TOP + SIDE + 30 : TOP + SIDE + 50, left : left + SIDE]
        assert (line < 120).all(axis=2).any(), f"{one.name} is not written"
        assert like(cell(pixels, column), one.colour).sum() > 200, "the frame has another colour"
    assert pixels.shape[0] > without.shape[0] or pixels.shape[1] != without.shape[1], "no room for names"


def test_of_a_long_file_name_the_end_is_read(tmp_path: Path) -> None:
    """Of photos that differ in their number alone the captions differ."""
    long = "a holiday by the sea with all of the family, in a summer long ago, "
    captions = []
    for number in ("1000", "2777"):
        path = photo(tmp_path / f"{long}{number}.png")
        pixels = searched([face(path)], face(path))
        captions.append(pixels[TOP + SIDE + 30 : TOP + SIDE + 50, LEFT : LEFT + SIDE])
    different = (captions[0] != captions[1]).any(axis=2)
    assert different.any()
    assert extent(different)[0] > SIDE / 2
    assert extent(like(captions[0], FAINT))[2] <= SIDE


def test_each_face_that_was_looked_for_has_a_row(tmp_path: Path) -> None:
    red, green, blue = (photo(tmp_path / f"{n}.png", colour) for n, colour in enumerate((RED, GREEN, BLUE)))
    asked = [Asked(face(red), [face(red), face(green)]), Asked(face(green), []), Asked(face(blue), [face(blue)])]
    image = search_sheet(asked, 0.4, "three faces")
    pixels = np.asarray(image)
    card, found = pixels[:, : LEFT - GAP], pixels[:, LEFT:]
    tops = [extent(like(card, colour))[1] for colour in (RED, GREEN, BLUE)]
    assert tops == sorted(tops)
    assert tops[2] - tops[1] == pytest.approx(tops[1] - tops[0], abs=3)
    assert abs(extent(like(found, RED))[1] - tops[0]) < 5
    assert abs(extent(like(found, BLUE))[1] - tops[2]) < 5
    assert extent(like(found, GREEN))[1] < tops[1], "the match of the first row is elsewhere"
    nothing = pixels[tops[1] : tops[1] + 150, LEFT:]
    assert not like(nothing, GREEN).any()


def test_no_face_gives_a_sheet_that_says_so() -> None:
    pixels = np.asarray(search_sheet([]))
    assert (pixels < 120).all(axis=2).any()


# --- what cannot be shown


def test_a_picture_that_is_gone_or_another_is_a_grey_cell_that_says_why(tmp_path: Path) -> None:
    good, changed, torn = (photo(tmp_path / name) for name in ("good.png", "changed.png", "torn.png"))
    right = blake2b(good.read_bytes(), digest_size=16).hexdigest()
    torn.write_bytes(torn.read_bytes()[:300])
    matches = [
        face(good, content_id=right),
        face(tmp_path / "gone.png"),
        face(changed, content_id="00" * 16),
        face(torn),
        face(tmp_path / "gone.mp4", frame_ms=1000),
    ]
    pixels = searched(matches, face(tmp_path / "gone.jpg"))
    assert like(cell(pixels, 0), RED).any()
    words = []
    for column in range(1, 5):
        picture = cell(pixels, column)
        grey = (picture == GREY).all(axis=2)
        assert 0.8 < grey.mean() < 1, column
        words.append((picture < 100).all(axis=2)[30:])
    gone, other, broken, film = words
    assert gone.any()
    assert (gone == film).all()
    assert (gone != other).any()
    assert (other != broken).any()
    # What was looked for is gone too: its face, and its whole photo.
    assert (pixels[:, : LEFT - GAP] == GREY).all(axis=2).sum() > 0.8 * SIDE * SIDE


def test_every_file_is_fetched_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = photo(tmp_path / "one.png"), photo(tmp_path / "other.png", BLUE)
    film = tmp_path / "film.mp4"
    write_film(film, 2, size=(160, 90))
    asked: list[str] = []
    for name in ("fetch", "opened"):
        own = getattr(sheet, name)
        monkeypatch.setattr(sheet, name, lambda uri, *rest, own=own: asked.append(Path(uri).name) or own(uri, *rest))
    frames = [face(film, frame_ms=ms) for ms in range(0, 2000, 80)]
    searched([*([face(one), face(other)] * 5), *frames], face(one))
    assert sorted(asked) == ["film.mp4", "one.png", "other.png"]


# --- videos


def test_of_a_video_the_frame_of_the_face_is_shown(tmp_path: Path) -> None:
    film = tmp_path / "film.mp4"
    write_film(film, 4, size=(320, 180), gop=100)
    everything = {"left": 0.0, "top": 0.0, "width": 1.0, "height": 1.0}
    times = [3000, 0, 3960, 3040]
    pixels = searched([face(film, box=everything, frame_ms=ms) for ms in times], face(film, frame_ms=3000))
    numbers = []
    for column in range(len(times)):
        # 200 x 112 pixels in the middle of the cell.
        numbers.append(number_in(cell(pixels, column)[44:156]))
    assert numbers == [75, 0, 99, 76]


# --- many


def test_a_hundred_matches_and_more_stay_within_a_sheet(tmp_path: Path) -> None:
    path = photo(tmp_path / "a.png", size=(100, 80))
    image = search_sheet([Asked(face(path), [face(path, 1 - n / 1000) for n in range(100)])])
    assert like(np.asarray(image)[:, LEFT:], RED).sum() > 100 * 500
    assert 1 < image.width / image.height < 2.2
    many = [Asked(face(path), [face(path)] * 200)] * 20
    image = search_sheet(many, title="many")
    assert max(image.size) < 16_383, "higher than a WebP can be"
    assert image.width * image.height < 40e6
    assert MOST == 300


# --- people


def test_every_person_has_a_row_with_up_to_eight_faces(tmp_path: Path) -> None:
    red, blue = photo(tmp_path / "red.png"), photo(tmp_path / "blue.png", BLUE)
    people = [
        PersonRow("0" * 32, "Привет " * 30, 12, [face(red)] * 12),
        PersonRow("1" * 32, None, 1, [face(blue)]),
    ]
    pixels = np.asarray(people_sheet(people))
    assert pixels.shape[1] == NAMES + 2 * GAP + 8 * (SIDE_OF_ONE + GAP)
    first, second = extent(like(pixels, RED)), extent(like(pixels, BLUE))
    assert first[3] < second[1]
    assert first[2] > pixels.shape[1] - SIDE_OF_ONE
    assert second[2] < NAMES + GAP + SIDE_OF_ONE
    for top in (GAP, second[1] - 20):
        assert like(pixels[top : top + 100, :NAMES], FAINT).any(), "nothing is written before the faces"
    crowd = people_sheet([replace(people[1], person_id=f"{n:032x}") for n in range(1000)])
    assert crowd.height < 16_383
    assert (np.asarray(people_sheet([])) != PAPER).any()


# --- two photos


def query(path: Path, box: Any, number: int) -> QueryFace:
    content = blake2b(path.read_bytes(), digest_size=16).hexdigest()
    vector = np.zeros(128, np.float32)
    return QueryFace(f"file://{path}", content, None, f"{number:032x}", box, 0.9, None, None, vector, 100, 100)


def test_two_photos_stand_side_by_side_with_their_faces_numbered(tmp_path: Path) -> None:
    other = {"left": 0.75, "top": 0.4, "width": 0.1, "height": 0.2}
    source = photo(tmp_path / "source.png", RED)
    target = photo(tmp_path / "target.png", GREEN)
    image = Image.open(target)
    image.paste(BLUE, (750, 320, 850, 480))
    image.save(target)
    alike, unlike = query(target, MIDDLE, 1), query(target, other, 2)
    found = Comparison(
        f"file://{source}",
        f"file://{target}",
        0.4,
        query(source, MIDDLE, 0),
        2,
        (Compared(alike, 0.7),),
        (Compared(unlike, 0.1),),
    )
    pixels = np.asarray(compare_sheet(found))
    middle = pixels.shape[1] // 2
    above = pixels[: middle * 3 // 4]
    assert extent(like(above, RED))[2] < middle < extent(like(above, GREEN))[0] < extent(like(above, BLUE))[0]
    below = pixels[middle * 3 // 4 + 50 :]
    assert extent(like(below, RED))[2] < LEFT < extent(like(below, GREEN))[0] < extent(like(below, BLUE))[0]

    def framed(colour: Sequence[int], frame: Sequence[int], part: np.ndarray) -> bool:
        left, top, _, bottom = extent(like(part, colour))
        return bool(like(part[top:bottom, left - 4 : left], frame).any(axis=1).mean() > 0.9)

    for part in (above, below):
        assert framed(GREEN, face_at(alike).colour, part)
        assert framed(BLUE, DULL, part), "what is no match is not grey"


def test_photos_without_faces_are_shown_all_the_same(tmp_path: Path) -> None:
    source, target = photo(tmp_path / "source.png", RED), photo(tmp_path / "target.png", GREEN)
    none = Comparison(f"file://{source}", f"file://{target}", 0.4, None, 0, (), ())
    pixels = np.asarray(compare_sheet(none))
    assert like(pixels, RED).any()
    assert like(pixels, GREEN).any()
    some = replace(none, unmatched=(Compared(query(target, MIDDLE, 1), None),))
    pixels = np.asarray(compare_sheet(some, "a title"))
    assert like(pixels[pixels.shape[1] // 2 :, LEFT:], GREEN).any()
