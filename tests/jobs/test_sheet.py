"""`pinakes show --grid`: a contact sheet of a catalogue's pictures, chosen by SQL, drawn from its tables."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pinakes.catalog import Catalog
from pinakes.catalog.errors import QueryError
from pinakes.jobs.sheet import GAP, HEIGHT, WIDTH, contact_sheet
from tests.jobs.small_run import loaded, small_jpeg, small_run, stop_sign
from tests.jobs.test_cli import pinakes, refused

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
    done = pinakes(*words, "--json", cwd=tmp_path, PINAKES_CATALOG=str(url))
    said = json.loads(done.stdout)
    assert [Path(one["uri"]).name for one in said["pictures"]] == ["a sign.jpg"]
    assert (said["matched"], said["output"]) == (1, "signs.jpg")

    done = pinakes("show", "--grid", 4, "--where", "width > 100000", "--output", "none.png", "-c", url, cwd=tmp_path)
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
