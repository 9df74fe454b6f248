"""What a catalogue has cost: of its usage, of the history of its collections, of its searches and of its tables."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from pinakes.catalog import Catalog
from pinakes.catalog.commits import read_commits
from pinakes.catalog.costs import compare, consumption
from pinakes.catalog.errors import CorruptCatalogError, TariffError, UsageError
from pinakes.catalog.tariffs import load, path_of
from tests.catalog.face_rows import Face, add, commit
from tests.catalog.usage_rows import add_usage, images, minutes

MILLION = 1_000_000
OCTOBER = date(2026, 10, 1)
ABOUT = {"model": "sface", "quality": "{}", "host": "here", "index": "{}", "n": 1, "fingerprints": "[]", "left_out": 0}


def october(day: float) -> datetime:
    return datetime(2026, 10, 1, tzinfo=UTC) + timedelta(days=day - 1)


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    """Two months of usage, a collection that grew and was dropped, three searches, and a commit of real parts."""
    url = tmp_path_factory.mktemp("costs") / "catalog"
    commit(url, [Face("file:///anna.jpg", "anna"), Face("file:///bert.jpg", "bert")])
    september = datetime(2026, 9, 30, 23, 59, tzinfo=UTC)
    add_usage(url, images("labels", 800_000, recorded_at=september, cpu_s=3_600.0))
    add_usage(
        url,
        images("labels", 2 * MILLION, n=2, recorded_at=october(2), cpu_s=7_200.0),
        images("objects", 2 * MILLION, n=2, recorded_at=october(2), cpu_s=7_200.0),
        minutes("labels", 10.5, n=2, recorded_at=october(2), rounded_amount=12),
        images("media", 2 * MILLION, n=2, recorded_at=october(2)),
    )
    for load_number, (action, faces, day) in enumerate(
        [
            ("created", 0, 1),
            ("loaded", MILLION, 11),
            # A copy that is not the collection yet, and one that is no more.
            ("begun", 9 * MILLION, 12),
            ("removed", 9 * MILLION, 13),
            ("rebuilt", 2 * MILLION, 21),
            ("dropped", 2 * MILLION, 26),
        ],
        start=1,
    ):
        row = {"action": action, "faces": faces, "load": load_number, "recorded_at": october(day), **ABOUT}
        add(url, "collections", row)
    for search, matches in (("a", 3), ("b", 1)):
        add(url, "audit", *[{"search_id": search * 32, "searched_at": october(3)}] * matches)
    add(url, "audit", {"search_id": "c" * 32, "searched_at": datetime(2026, 11, 1, tzinfo=UTC)})
    return Catalog(str(url))


def test_of_one_month_and_of_all(catalog: Catalog) -> None:
    whole = consumption(catalog).bill(load("rekognition"))
    # Two months begin anew, each at the first tier.
    assert [(line.month, int(line.units)) for line in whole.lines if line.call.startswith("Group 2")] == [
        ("2026-09", 800_000),
        ("2026-10", MILLION),
        ("2026-10", MILLION),
    ]
    one = consumption(catalog, OCTOBER).bill(load("rekognition"))
    assert {line.month for line in one.lines} == {"2026-10"}
    assert one.total == whole.amounts()["2026-10"]
    assert consumption(catalog, date(2025, 1, 1)).bill(load("rekognition")).lines == []


def test_vectors_are_kept_from_one_row_of_the_history_to_the_next(catalog: Catalog) -> None:
    (line,) = [line for line in consumption(catalog).bill(load("rekognition")).lines if line.unit == "vector-months"]
    # A million for ten days, two for five.
    assert line.units == Decimal(10 * MILLION + 10 * MILLION) / 31
    assert round(line.amount, 6) == Decimal("6.451613")
    # At noon of the 16th it was half of that; by the day it is not more and not less.
    now = october(16.5)
    kept = consumption(catalog, OCTOBER, now).vectors.to_pylist()
    assert [row["day"].day for row in kept] == [11, 12, 13, 14, 15, 16]
    assert [int(row["unit_seconds"]) for row in kept] == [*[MILLION * 86_400] * 5, MILLION * 43_200]
    by_day = consumption(catalog, OCTOBER).bill(load("rekognition"), "day")
    assert sum(one.units for one in by_day.lines if one.unit == "vector-months").quantize(Decimal("1e-9")) == round(
        line.units, 9
    )


def test_each_search_is_one_call_however_many_it_found(catalog: Catalog) -> None:
    found = consumption(catalog, OCTOBER).bill(load("rekognition"), "operator")
    (line,) = [line for line in found.lines if line.key == "(searches)"]
    assert (line.call, line.units, line.amount) == ("SearchFacesByImage", 2, Decimal("0.002"))


def test_tables_are_kept_from_their_commit_on(catalog: Catalog) -> None:
    (row,) = read_commits(catalog.storage, 0).to_pylist()
    at, size = int(row["committed_at"].timestamp()), sum(action["size"] for action in row["actions"])
    now = datetime.fromtimestamp(at + 40 * 86_400, UTC)
    stored = consumption(catalog, now=now).stored
    assert sum(int(value.as_py()) for value in stored["unit_seconds"]) == size * 40 * 86_400
    found = consumption(catalog, now=now).bill(load("own"), "operator")
    lines = [line for line in found.lines if line.key == "(tables)"]
    assert [line.unit for line in lines] == ["GB-months"] * len(lines)
    assert sum(line.amount for line in lines) > 0


def test_side_by_side_are_the_same_units(catalog: Catalog) -> None:
    used = consumption(catalog, OCTOBER)
    tariffs = [load(name) for name in ("own", "rekognition", "google-vision", "google-video")]
    rows, bills = compare(used, tariffs)
    found = {row.key: row for row in rows}
    assert found["labels"].units == 2 * MILLION
    assert found["labels"].amounts == {
        "own": Decimal("0.085"),
        "rekognition": Decimal(1_800),
        "google-vision": Decimal("2998.50"),
        "google-video": None,
    }
    # The same DetectLabels; a feature apart.
    assert found["objects"].amounts["rekognition"] == 0
    assert found["objects"].amounts["google-vision"] == Decimal("4497.75")
    assert found["labels (video)"].units == Decimal("10.5")
    assert found["labels (video)"].amounts["rekognition"] == Decimal("1.05")
    assert found["labels (video)"].amounts["google-vision"] is None
    assert set(found["media"].amounts.values()) == {None, Decimal(0)}
    for bill in bills:
        column = [row.amounts[bill.tariff.name] for row in rows]
        assert sum((amount for amount in column if amount is not None), Decimal(0)) == bill.total
    months, _ = compare(consumption(catalog), tariffs[:2], "month")
    assert [(row.key, row.units) for row in months][:2] == [("2026-09", None), ("2026-10", None)]


def test_tariffs_that_cannot_stand_side_by_side_are_refused(catalog: Catalog, tmp_path: Path) -> None:
    used = consumption(catalog, OCTOBER)
    path = tmp_path / "mine.toml"
    path.write_text(path_of("own").read_text().replace('"USD"', '"EUR"'))
    with pytest.raises(TariffError, match="own in EUR, rekognition in USD"):
        compare(used, [load(str(path)), load("rekognition")])
    with pytest.raises(TariffError, match="two tariffs are named own"):
        compare(used, [load(str(path)), load("own")])


def test_without_usage_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no table usage: nothing was metered yet"):
        consumption(Catalog(str(tmp_path / "catalog"), create=True))


def test_a_part_that_is_gone_is_said_in_one_line(tmp_path: Path) -> None:
    catalog = add_usage(tmp_path / "catalog", images("labels", 5))
    (part,) = (tmp_path / "catalog" / "usage").glob("*.parquet")
    part.unlink()
    with pytest.raises(CorruptCatalogError, match="the table usage cannot be read"):
        consumption(catalog)
