"""`pinakes.jobs.Catalog`: answers for pandas and Polars, tables as attributes, pictures, and what a notebook shows."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from PIL import Image

from pinakes.catalog.errors import QueryError
from pinakes.jobs import Catalog
from pinakes.jobs.display import arrow_html
from pinakes.jobs.errors import SpecError
from pinakes.jobs.exploring import HEAD, MOST_PICTURES
from pinakes.jobs.sheet import Sheet
from tests.jobs.small_run import loaded, small_jpeg, small_run, stop_sign
from tests.jobs.test_show_video import sign_film

#: A file's name may be anything.
SCRIPT = "<img src=x onerror=alert(1)>.jpg"
NAMES = ["a sign.jpg", SCRIPT, "c gone.jpg", "d changed.jpg", "e film.mp4", *(f"f {n}.jpg" for n in range(8))]


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exploring") / "archive"
    folder.mkdir()
    for seed, name in enumerate(NAMES):
        (folder / name).write_bytes(stop_sign() if seed == 0 else small_jpeg(seed))
    # A stop sign is in the second half of its four seconds.
    sign_film(folder / "e film.mp4")
    return folder


@pytest.fixture(scope="module")
def cat(archive: Path) -> Catalog:
    """A catalogue, after which a picture was removed and another one changed; the last one was looked at twice."""
    url = archive.parent / "catalog"
    operators = loaded("media", "frames", "labels", "objects")
    small_run(archive, url, operators)
    (archive / NAMES[-1]).write_bytes(small_jpeg(100))
    small_run(archive, url, operators)
    (archive / "c gone.jpg").unlink()
    (archive / "d changed.jpg").write_bytes(small_jpeg(99))
    return Catalog(url)


def names(sheet: Sheet) -> list[str]:
    return [Path(one.uri).name for one in sheet.cells]


# --- answers


def test_an_answer_comes_as_what_one_works_with(cat: Catalog) -> None:
    query = "SELECT name, confidence FROM latest_objects WHERE name = 'stop sign' ORDER BY confidence"
    answer = cat.sql(query)
    assert isinstance(answer, pa.Table)
    assert answer.num_rows > 1
    frame = cat.sql(query, as_="pandas")
    assert isinstance(frame, pd.DataFrame)
    assert frame["confidence"].tolist() == answer["confidence"].to_pylist()
    polars = cat.sql(query, as_="polars")
    assert isinstance(polars, pl.DataFrame)
    assert polars["confidence"].to_list() == answer["confidence"].to_pylist()
    with pytest.raises(SpecError, match="arrow, pandas or polars, not as 'R'"):
        cat.sql(query, as_="R")  # type: ignore[arg-type]


@pytest.mark.parametrize("package", ["pandas", "polars"])
def test_a_package_that_is_missing_is_named(cat: Catalog, monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ModuleNotFoundError, match=f"pip install {package}"):
        cat.sql("SELECT 1", as_=package)  # type: ignore[arg-type]


# --- tables


def test_a_table_by_its_name_has_the_rows_that_count(cat: Catalog) -> None:
    uris = cat.media.to_pandas()["uri"].tolist()
    assert sorted(Path(uri).name for uri in uris) == sorted(NAMES)
    assert cat.media.count() == len(NAMES)
    assert cat.sql("SELECT count(*) AS rows FROM media")["rows"].to_pylist() == [len(NAMES) + 1]
    assert cat.media.to_polars().height == cat.media.to_arrow().num_rows == len(NAMES)
    assert cat.media.head(2).num_rows == 2
    assert cat.runs.count() == 4, "of a table of the catalogue's own, all rows"


def test_a_table_is_not_read_before_it_is_asked_for(cat: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    whole = Catalog.sql

    def sql(self: Catalog, query: str, *words: str, **settings: str) -> pa.Table:
        answer = whole(self, query, *words, **settings)  # type: ignore[arg-type]
        asked.append(answer.num_rows)
        return answer

    monkeypatch.setattr(Catalog, "sql", sql)
    media = cat.media
    assert "latest_media" in repr(media)
    assert asked == []
    shown = media._repr_html_()
    assert f"some of the {len(NAMES)} rows of latest_media" in shown
    assert shown.count("<tr>") == HEAD + 1
    assert max(asked) == HEAD < len(NAMES)


def test_what_is_no_table_is_said_with_those_that_there_are(cat: Catalog) -> None:
    with pytest.raises(AttributeError, match=r"no table 'lables'.*labels"):
        cat.lables  # noqa: B018
    assert not hasattr(cat, "_ipython_canary_method_should_not_exist_")
    assert {"labels", "objects", "sql", "sheet"} <= set(dir(cat))


# --- pictures


def test_a_sheet_has_what_a_query_returns_in_its_order_and_once(cat: Catalog) -> None:
    sheet = cat.sheet("SELECT uri FROM latest_media ORDER BY uri DESC")
    assert names(sheet) == sorted(NAMES, reverse=True)
    assert sheet.matched == len(NAMES)
    some = cat.sheet("SELECT uri FROM latest_objects WHERE name = 'stop sign' ORDER BY uri", count=1)
    assert (names(some), some.matched) == (["a sign.jpg"], 2), "a picture for each row"
    assert some._repr_jpeg_().startswith(b"\xff\xd8")
    assert "1 of 2" in repr(some)


def test_frames_that_a_query_names_are_pictures_of_their_own(cat: Catalog) -> None:
    sheet = cat.sheet("SELECT uri, frame_ms FROM latest_objects WHERE name = 'stop sign' AND frame_ms >= 0 ORDER BY 2")
    assert [one.frame_ms for one in sheet.cells] == [2000, 3000]
    assert [one.caption for one in sheet.cells] == ["0:02.0 in e film.mp4", "0:03.0 in e film.mp4"]
    titles = [[found.title for found in one.found] for one in sheet.cells]
    assert all(one.count("stop sign") == 1 for one in titles), "a frame has what was found in another"
    whole = cat.sheet("SELECT uri FROM latest_media WHERE media_type = 'video'")
    assert [one.frame_ms for one in whole.cells] == [1000]


def test_nothing_is_a_sheet_that_says_so(cat: Catalog) -> None:
    sheet = cat.sheet("SELECT uri FROM latest_media WHERE false")
    assert (sheet.cells, sheet.matched) == ((), 0)
    assert len(np.unique(np.asarray(sheet.image))) > 2


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("SELECT 'file:///etc/passwd' AS uri", "no item file:///etc/passwd"),
        ("SELECT name FROM latest_labels", "a column uri"),
        ("SELECT uri FROM latest_lables", "latest_lables"),
        ("", "no query"),
        # A view of one's own in the place of ours.
        (
            "CREATE OR REPLACE VIEW latest_ledger AS SELECT 'file:///etc/passwd' AS uri, '0' AS item_key, "
            "NULL AS content_id, NULL AS window_start_ms; SELECT 'file:///etc/passwd' AS uri",
            "no item file:///etc/passwd",
        ),
    ],
)
def test_a_sheet_shows_items_of_the_catalogue_and_opens_nothing_else(cat: Catalog, query: str, said: str) -> None:
    with pytest.raises(QueryError, match=said):
        cat.sheet(query)


def test_the_pictures_themselves_have_on_them_what_the_tables_say(cat: Catalog, archive: Path) -> None:
    shown = cat.show([archive / "a sign.jpg", f"file://{archive / 'c gone.jpg'}", archive / "d changed.jpg"])
    sign, gone, changed = shown.cells
    assert sign.picture
    assert sign.picture.width > 720, "no panel beside it"
    before = np.asarray(Image.open(archive / "a sign.jpg")).astype(int)
    drawn = (np.abs(np.asarray(sign.picture)[:480, :720] - before) > 60).any(axis=2)
    # The sign was drawn at 232..488 x 42..298.
    assert all(drawn[120:220, x - 12 : x + 12].any(axis=1).mean() > 0.9 for x in (232, 488))
    assert [one.why and one.why.split()[0].strip(":") for one in (gone, changed)] == ["gone", "changed"]
    html = shown._repr_html_()
    assert html.count("<img ") == 1
    assert "c gone.jpg: gone: the file is not there any more" in html
    assert cat.show(cat.sql("SELECT uri FROM latest_media WHERE uri LIKE '%film%'")["uri"]).cells[0].frame_ms == 1000


def test_what_cannot_be_shown_is_refused(cat: Catalog, archive: Path) -> None:
    with pytest.raises(QueryError, match="no item"):
        cat.show("/etc/passwd")
    with pytest.raises(SpecError, match=f"up to {MOST_PICTURES}"):
        cat.show([archive / "a sign.jpg"] * (MOST_PICTURES + 1))


# --- what a notebook shows


def test_a_catalogue_shows_its_tables(cat: Catalog) -> None:
    html = cat._repr_html_()
    assert f"the catalogue {cat.url}" in html
    assert all(f">{name}</td>" in html for name in cat.tables())


def test_words_of_the_archive_are_never_markup(cat: Catalog, archive: Path) -> None:
    escaped = "&lt;img src=x onerror=alert(1)&gt;"
    for html in (
        cat.show(archive / SCRIPT)._repr_html_(),
        arrow_html(cat.sql(f'SELECT parse_filename(uri) AS "{SCRIPT}", [uri[-40:]] FROM latest_media')),
        cat.media._repr_html_() + arrow_html(cat.sql("SELECT uri[-40:] FROM latest_media")),
    ):
        assert "<img src=x" not in html
        assert escaped in html


def test_a_long_answer_shows_its_beginning() -> None:
    shown = arrow_html(pa.table({"number": range(1234), "text": ["x" * 1000] * 1234}))
    assert "the first 20 of 1,234 rows" in shown
    assert len(shown) < 10_000
    two = arrow_html(pa.table([[1], ["a"]], names=["same", "same"]))
    assert ">1</td>" in two
    assert ">a</td>" in two
    assert two.endswith("<div>1 row</div>")
