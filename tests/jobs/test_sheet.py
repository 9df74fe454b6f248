"""`pinakes show --grid`: a contact sheet of a catalogue's pictures, chosen by SQL, drawn from its tables."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pinakes.catalog import Catalog
from pinakes.catalog.errors import QueryError
from pinakes.jobs.sheet import GAP, HEIGHT, WIDTH, contact_sheet
from tests.films import number_in, write_film
from tests.jobs.command import here, pinakes, refused
from tests.jobs.small_run import loaded, small_jpeg, small_run, stop_sign
from tests.jobs.test_show_video import sign_film

NAMES = ["a sign.jpg", "b plain.jpg", "c gone.jpg", "d changed.jpg", "e Привет 你好.jpg"]


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sheet") / "archive"
    folder.mkdir()
    for seed, name in enumerate(NAMES):
        (folder / name).write_bytes(stop_sign() if seed == 0 else small_jpeg(seed))
    return folder


@pytest.fixture(scope="module")
def url(archive: Path) -> Path:
    """A catalogue of it, after which a picture was removed and another one changed."""
    small_run(archive, archive.parent / "catalog", loaded("media", "labels", "objects"))
    (archive / "c gone.jpg").unlink()
    (archive / "d changed.jpg").write_bytes(small_jpeg(99))
    return archive.parent / "catalog"


def cell(image: Image.Image, rows: int, row: int, column: int) -> np.ndarray:
    """The pixels of a cell's picture, (HEIGHT, WIDTH, 3), on a sheet of so many rows."""
    left, top = GAP + column * (WIDTH + GAP), GAP + row * ((image.height - GAP) // rows)
    return np.asarray(image)[top : top + HEIGHT, left : left + WIDTH]


def test_every_picture_has_a_cell_in_the_order_of_their_uris(url: Path, archive: Path) -> None:
    sheet = contact_sheet(Catalog(str(url)), 10)
    assert sheet
    assert [one.uri for one in sheet.cells] == [f"file://{archive / name}" for name in NAMES]
    assert sheet.matched == 5
    assert [one.why and one.why.split()[0].strip(":") for one in sheet.cells] == [None, None, "gone", "changed", None]
    # Five cells: three columns, two rows.
    assert sheet.image.width == 3 * (WIDTH + GAP) + GAP
    assert 2 * HEIGHT < sheet.image.height < 3 * HEIGHT
    for row, column in ((0, 2), (1, 0)):
        grey = (cell(sheet.image, 2, row, column) == 205).all(axis=2)
        assert grey.mean() > 0.5
        assert not grey.all(), "the grey cell does not say why"
    for row, column in ((0, 0), (0, 1), (1, 1)):
        assert (cell(sheet.image, 2, row, column) == 205).all(axis=2).mean() < 0.05
        assert len(np.unique(cell(sheet.image, 2, row, column).reshape(-1, 3), axis=0)) > 100, "no picture"
    nothing = cell(sheet.image, 2, 1, 2)
    assert (nothing == nothing[0, 0]).all(), "a cell too many"


def test_boxes_are_those_of_the_tables(url: Path) -> None:
    with_boxes = contact_sheet(Catalog(str(url)), 1)
    assert with_boxes
    (one,) = with_boxes.cells
    assert "stop sign" in [found.title for found in one.found if found.placed]
    before = Image.open(one.uri.removeprefix("file://")).resize((WIDTH, round(480 * WIDTH / 720)))
    picture = cell(with_boxes.image, 1, 0, 0)[HEIGHT - before.height :]
    changed = (np.abs(picture.astype(int) - np.asarray(before)) > 60).any(axis=2)
    scale = WIDTH / 720
    # The sign was drawn at 232..488 x 42..298.
    for x in (232, 488):
        band = changed[round(120 * scale) : round(220 * scale), round(x * scale) - 6 : round(x * scale) + 6]
        assert band.any(axis=1).mean() > 0.9
    assert changed[round(100 * scale) : round(130 * scale), round(300 * scale) : round(420 * scale)].mean() < 0.1


def test_a_condition_chooses_and_repeats_nothing(url: Path, archive: Path) -> None:
    catalog = Catalog(str(url))
    sheet = contact_sheet(catalog, 10, "name = 'stop sign' AND confidence > 0.5", "objects")
    assert sheet
    assert [one.uri for one in sheet.cells] == [f"file://{archive / 'a sign.jpg'}"]
    everything = contact_sheet(catalog, 10, None, "ledger")
    assert everything
    assert len(everything.cells) == 5
    by_another = contact_sheet(catalog, 10, "uri IN (SELECT uri FROM latest_objects WHERE name = 'stop sign')")
    assert by_another
    assert len(by_another.cells) == 1
    first = contact_sheet(catalog, 2)
    assert first
    assert [Path(one.uri).name for one in first.cells] == NAMES[:2]
    assert first.matched == 5
    assert contact_sheet(catalog, 10, "false") is None


@pytest.mark.parametrize(
    "where",
    [
        "true; DROP TABLE media",
        "true; SELECT 1",
        "true) UNION SELECT 'file:///etc/passwd', '', '' FROM (SELECT 1 WHERE (true",
        "true UNION SELECT 'file:///etc/passwd'",
        "true LIMIT 1",
        "(SELECT count(*) FROM read_text('/etc/passwd')) > 0",
        "(SELECT count(*) FROM '/etc/passwd') > 0",
        "uri = getenv('HOME')",
        "true, true",
        "width =",
        "",
        "no_such_column = 1",
        "count(*) > 1",
    ],
)
def test_what_is_no_condition_on_the_table_is_refused(url: Path, where: str) -> None:
    with pytest.raises(QueryError, match="--where") as refusal:
        contact_sheet(Catalog(str(url)), 3, where)
    assert "\n" not in str(refusal.value)


def test_the_command(url: Path, tmp_path: Path) -> None:
    done = pinakes("show", "--grid", 4, "--catalog", url, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "4 of 5 pictures" in done.stdout
    assert "2 of them cannot be shown" in done.stdout
    assert Image.open(tmp_path / "sheet.png").width == 2 * (WIDTH + GAP) + GAP

    words = ("show", "--grid", 4, "--from", "objects", "--where", "name = 'stop sign'", "--output", "signs.jpg")
    done = here(*words, "--json", cwd=tmp_path, PINAKES_CATALOG=str(url))
    said = json.loads(done.stdout)
    assert [Path(one["uri"]).name for one in said["pictures"]] == ["a sign.jpg"]
    assert (said["matched"], said["output"]) == (1, "signs.jpg")

    done = here("show", "--grid", 4, "--where", "width > 100000", "--output", "none.png", "-c", url, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "no picture" in done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sheet.png", "signs.jpg"]


def test_the_command_says_in_one_line_what_it_cannot_do(url: Path, archive: Path, tmp_path: Path) -> None:
    line = refused(1, "show", "--grid", 4, "--where", "naem = 'dog'", "--from", "objects", "-c", url, cwd=tmp_path)
    assert "naem" in line
    line = refused(1, "show", "--grid", 4, "--from", "objets", "-c", url, cwd=tmp_path)
    assert "objets" in line
    assert "objects" in line
    assert "pinakes run" in refused(1, "show", "--grid", 4, "-c", tmp_path / "nowhere", cwd=tmp_path)
    assert "--catalog" in refused(2, "show", "--grid", 4, cwd=tmp_path)
    assert "--grid" in refused(2, "show", "--grid", 0, "-c", url, cwd=tmp_path)
    sign = archive / "a sign.jpg"
    before = sign.read_bytes()
    assert "picture itself" in refused(2, "show", "--grid", 4, "-c", url, "--output", sign, cwd=tmp_path)
    assert sign.read_bytes() == before
    assert list(tmp_path.iterdir()) == []


# --- videos


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A catalogue of a photo and of films; a stop sign is in the second half of the four seconds of the first.

    Afterwards one film was removed and another one changed.
    """
    folder = tmp_path_factory.mktemp("films")
    seen, numbers = folder / "archive" / "seen", folder / "archive" / "numbers"
    seen.mkdir(parents=True)
    numbers.mkdir()
    sign_film(seen / "a sign.mp4")
    (seen / "e photo.jpg").write_bytes(small_jpeg(1))
    small_run(seen, folder / "catalog", loaded("media", "frames", "objects", "labels", "shots"))
    for name in ("b numbers.mkv", "c gone.mp4", "d changed.mp4"):
        write_film(numbers / name, 9, size=(160, 90), cuts=(55, 70, 100))
    small_run(numbers, folder / "catalog", loaded("media", "frames", "shots"))
    (numbers / "c gone.mp4").unlink()
    film = bytearray((numbers / "d changed.mp4").read_bytes())
    film[-1] ^= 1
    (numbers / "d changed.mp4").write_bytes(film)
    return folder / "catalog"


def test_a_video_has_a_cell_with_a_frame_of_its_middle(films: Path) -> None:
    sheet = contact_sheet(Catalog(str(films)), 10)
    assert sheet
    cells = {Path(one.uri).name: one for one in sheet.cells}
    assert list(cells) == ["b numbers.mkv", "c gone.mp4", "d changed.mp4", "a sign.mp4", "e photo.jpg"]
    assert [one.why and one.why.split()[0].strip(":") for one in sheet.cells] == [None, "gone", "changed", None, None]
    sign, numbers = cells["a sign.mp4"], cells["b numbers.mkv"]
    assert (sign.frame_ms, numbers.frame_ms, cells["e photo.jpg"].frame_ms) == (1000, 4000, None)
    assert (sign.caption, numbers.caption) == ("0:01.0 in a sign.mp4", "0:04.0 in b numbers.mkv")
    assert "stop sign" not in [found.title for found in sign.found]
    assert number_in(cell(sheet.image, 2, 0, 0)[HEIGHT - 180 :]) == 100


def test_the_frame_is_that_of_the_first_row_that_was_asked_for(films: Path) -> None:
    catalog = Catalog(str(films))
    sheet = contact_sheet(catalog, 10, "name = 'stop sign'", "objects")
    assert sheet
    (one,) = sheet.cells
    assert one.frame_ms == 2000
    assert [found.title for found in one.found if found.title == "stop sign"] == ["stop sign"]
    assert sheet.as_dict()["pictures"] == [{"uri": one.uri, "frame_ms": 2000, "error": None}]
    later = contact_sheet(catalog, 10, "name = 'stop sign' AND frame_ms > 2500", "objects")
    assert later
    assert [one.frame_ms for one in later.cells] == [3000]


def test_of_a_stretch_it_is_the_first_frame_that_was_looked_at(films: Path) -> None:
    def shot(number: int) -> tuple[int | None, int]:
        where = f"kind = 'shot' AND index = {number} AND uri LIKE '%b numbers%'"
        sheet = contact_sheet(Catalog(str(films)), 10, where, "segments")
        assert sheet
        (one,) = sheet.cells
        return one.frame_ms, number_in(cell(sheet.image, 1, 0, 0)[HEIGHT - 180 :])

    # The shots begin with the frames 0, 55, 70 and 100 of 25 a second, of which one a second was looked at.
    assert shot(0) == (0, 0)
    assert shot(1) == (2200, 55), "of a shot without any such frame its first"
    assert shot(2) == (3000, 75)
    assert shot(3) == (4000, 100)


def test_no_film_is_read_whole(films: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pinakes.jobs.sheet.fetch", lambda uri, most: pytest.fail(f"{uri} was fetched"))
    sheet = contact_sheet(Catalog(str(films)), 10, "media_type = 'video'")
    assert sheet
    assert sum(one.picture is not None for one in sheet.cells) == 2
