"""Bills: to the cent those that were worked out by hand, however the usage is cut into rows, runs and months."""

import random
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pinakes.catalog.billing import KEPT, SEARCHED, Bill, By, bill
from pinakes.catalog.tariffs import Tariff, load, path_of
from tests.catalog.usage_rows import images, minutes, usage

MILLION = 1_000_000


def tariff(path: Path, name: str, *changes: tuple[str, str], more: str = "") -> Tariff:
    """One that comes with Pinakes, edited as a user would."""
    text = path_of(name).read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    (path / "mine.toml").write_text(text + more)
    return load(str(path / "mine.toml"))


def cents(found: Bill) -> Decimal:
    return found.total.quantize(Decimal("0.01"))


def tiers(found: Bill) -> list[tuple[str, int, str]]:
    return [(line.call, int(line.units), f"{line.amount:.2f}") for line in found.lines]


@pytest.mark.parametrize(
    ("millions", "dollars"), [(1, 1_000), (5, 4_200), (10, 7_200), (35, 22_200), (77, 32_700), (100, 38_450)]
)
def test_images_of_one_call(millions: int, dollars: int) -> None:
    for operator in ("labels", "objects", "text", "moderation"):
        assert cents(bill(load("rekognition"), usage(images(operator, millions * MILLION)))) == dollars


def test_five_calls_pooled_and_each_alone(tmp_path: Path) -> None:
    more = "".join(f'\n[calls.{name}]\ngroup = "Group 2"\noperators = ["{name}"]\n' for name in ("Gear", "Stars"))
    used = usage(*(images(name, 10 * MILLION) for name in ("labels", "text", "moderation", "Gear", "Stars")))
    pooled = bill(tariff(tmp_path, "rekognition", more=more), used)
    assert cents(pooled) == 25_950
    name = "Group 2: DetectLabels, DetectModerationLabels, DetectText, Gear, Stars"
    assert tiers(pooled) == [
        (name, MILLION, "1000.00"),
        (name, 4 * MILLION, "3200.00"),
        (name, 30 * MILLION, "18000.00"),
        (name, 15 * MILLION, "3750.00"),
    ]
    assert pooled.unconfirmed == 3_750
    alone = tariff(tmp_path, "rekognition", ("pooled = true", "pooled = false"), more=more)
    assert cents(bill(alone, used)) == 36_000


def test_a_thousand_hours_of_video_by_four_calls() -> None:
    used = usage(*(minutes(name, 60_000) for name in ("labels", "moderation", "faces", "text")))
    assert cents(bill(load("rekognition"), used)) == 24_000


def test_google_vision() -> None:
    labels = bill(load("google-vision"), usage(images("labels", 10 * MILLION)))
    assert cents(labels) == Decimal("12498.50")
    assert [line.tier for line in labels.lines] == ["1 to 1,000", "1,001 to 5,000,000", "over 5,000,000"]
    objects = bill(load("google-vision"), usage(images("objects", 10 * MILLION)))
    assert cents(objects) == Decimal("18747.75")
    both = bill(load("google-vision"), usage(images("labels", 10 * MILLION), images("objects", 10 * MILLION)))
    assert cents(both) == Decimal("31246.25")


def test_azure_and_image_properties() -> None:
    assert cents(bill(load("azure-vision"), usage(images("labels", 10 * MILLION)))) == 1_000 + 9 * 650
    assert cents(bill(load("azure-vision"), usage(images("text", 3 * MILLION)))) == 1_500 + 2 * 600
    assert cents(bill(load("rekognition"), usage(images("properties", 5 * MILLION)))) == 750 + 2_400


def test_labels_and_objects_are_one_call() -> None:
    labels, objects = images("labels", 3 * MILLION), images("objects", 5 * MILLION)
    both = bill(load("rekognition"), usage(labels, objects))
    assert cents(both) == cents(bill(load("rekognition"), usage(objects))) == 4_200
    films = usage(minutes("labels", 90), minutes("objects", 60))
    assert cents(bill(load("rekognition"), films)) == 9
    # Who comes first is billed, the other what is above that; in another month it counts anew.
    later = datetime(2026, 11, 1, tzinfo=UTC)
    used = usage(labels, {**objects, "n": 2}, {**objects, "n": 3, "recorded_at": later})
    by_operator = bill(load("rekognition"), used, by="operator")
    assert [(line.month, line.key, int(line.units)) for line in by_operator.lines] == [
        ("2026-10", "labels", MILLION),
        ("2026-10", "labels", 2 * MILLION),
        ("2026-10", "objects", 2 * MILLION),
        ("2026-11", "objects", MILLION),
        ("2026-11", "objects", 4 * MILLION),
    ]
    assert cents(by_operator) == 8_400


def test_what_is_free_with_another_call() -> None:
    used = usage(images("labels", 2_000), images("moderation", 5_000), minutes("shots", 7), minutes("labels", 9))
    found = bill(load("google-vision"), used)
    assert cents(found) == Decimal("1.50") + Decimal("3.00")
    free = [(line.units, line.amount) for line in found.lines if line.tier == "free with LABEL_DETECTION"]
    assert free == [(2_000, 0)]
    assert cents(bill(load("google-vision"), usage(images("moderation", 5_000)))) == 6


def test_minutes_are_rounded_up_where_the_service_does() -> None:
    # Three films of 20 s: a minute exactly, three minutes rounded up; and a thousand that are free.
    used = usage(minutes("faces", 1, rounded_amount=3), minutes("faces", 1_000))
    assert cents(bill(load("google-video"), used)) == Decimal("0.30")
    assert cents(bill(load("rekognition"), used)) == Decimal("100.10")


def test_a_free_allowance_is_for_who_switches_it_on(tmp_path: Path) -> None:
    used = usage(images("labels", 800), images("text", 800), minutes("labels", 61))
    assert cents(bill(load("rekognition"), used)) == Decimal("1.60") + Decimal("6.10")
    with_it = tariff(tmp_path, "rekognition", ("free_allowance = false", "free_allowance = true"))
    found = bill(with_it, used)
    assert cents(found) == Decimal("0.60") + Decimal("0.10")
    assert {line.units for line in found.lines if line.tier == "free allowance of 1,000"} == {1_000}
    # The tiers begin behind it.
    assert cents(bill(with_it, usage(images("labels", MILLION + 2_000)))) == Decimal("1000.80")


def test_tiers_are_walked_by_all_runs_of_a_month_in_the_order_of_time() -> None:
    day = datetime(2026, 10, 1, tzinfo=UTC)
    runs = [("first", 600_000, 1, 0), ("second", 600_000, 2, 10), ("first", 4 * MILLION, 3, 20)]
    rows = [images("text", count, job=job, n=n, recorded_at=day + timedelta(days=days)) for job, count, n, days in runs]
    random.Random(1).shuffle(rows)
    found = bill(load("rekognition"), usage(*rows), by="job")
    assert [(line.key, line.tier, int(line.units)) for line in found.lines] == [
        ("first", "1 to 1,000,000", 600_000),
        ("first", "1,000,001 to 5,000,000", 3_800_000),
        ("first", "5,000,001 to 35,000,000", 200_000),
        ("second", "1 to 1,000,000", 400_000),
        ("second", "1,000,001 to 5,000,000", 200_000),
    ]
    assert found.amounts() == {"first": Decimal(600 + 3_040 + 120), "second": Decimal(400 + 160)}
    by_day = bill(load("rekognition"), usage(*rows), by="day").amounts()
    assert by_day == {"2026-10-01": Decimal(600), "2026-10-11": Decimal(560), "2026-10-21": Decimal(3_160)}
    # The last instant of a month, UTC, is of that month.
    end = datetime(2026, 10, 31, 23, 59, 59, 999_999, tzinfo=UTC)
    apart = usage(
        images("text", MILLION, recorded_at=end), images("text", MILLION, recorded_at=end + timedelta.resolution)
    )
    assert bill(load("rekognition"), apart).amounts() == {"2026-10": Decimal(1_000), "2026-11": Decimal(1_000)}


def pieces(total: float, count: int, seed: int) -> list[float]:
    """Numbers that add up to it."""
    shares = random.Random(seed)
    cuts = sorted([0, total, *(round(shares.uniform(0, total), 6) for _ in range(count - 1))])
    return [after - before for before, after in pairwise(cuts)]


def split(rows: Iterable[dict[str, Any]], seed: int) -> pa.Table:
    """The same usage in many pieces, over many commits of the same month."""
    shares, found = random.Random(seed), []
    for row in rows:
        for part in pieces(row["amount"], shares.randint(1, 40), seed):
            at = row["recorded_at"] + timedelta(minutes=shares.randint(0, 27 * 1440))
            found.append({**row, "amount": part, "n": shares.randint(1, 999), "recorded_at": at})
    shares.shuffle(found)
    return usage(*found)


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("by", ["month", "day", "operator", "job"])
def test_pieces_cost_what_the_whole_costs(seed: int, by: By) -> None:
    shares, rows = random.Random(seed), []
    for month in (9, 10):
        at = datetime(2026, month, 1, tzinfo=UTC)
        for name in ("labels", "objects", "text", "faces", "moderation", "properties"):
            rows.append(images(name, shares.randint(1, 60 * MILLION), recorded_at=at))
            rows.append(minutes(name, shares.randint(1, 9_000), recorded_at=at))
    for name in ("rekognition", "google-vision", "azure-vision"):
        whole = bill(load(name), usage(*rows))
        cut = bill(load(name), split(rows, seed), by=by)
        assert whole.total > 1_000
        assert abs(cut.total - whole.total) < Decimal("0.000001")
        assert sum(cut.amounts().values()) == cut.total


def test_what_has_no_call_is_said() -> None:
    used = usage(
        images("labels", 5), images("media", 7), minutes("media", 2.5), images("decode", 7), images("run", 0, unit=None)
    )
    searches = pa.table({"searched_at": [datetime(2026, 10, 3, tzinfo=UTC)] * 3}, schema=SEARCHED)
    kept = pa.table({"day": [date(2026, 10, 3)], "unit_seconds": [Decimal(86_400 * 31)]}, schema=KEPT)
    found = bill(load("google-vision"), used, kept, searches)
    assert [(one.operator, one.unit, float(one.units)) for one in found.no_call] == [
        ("media", "images", 7.0),
        ("media", "video_minutes", 2.5),
        ("(searches)", "searches", 3.0),
        ("(face vectors)", "vector-months", 1.0),
    ]
    assert [one.operator for one in bill(load("rekognition"), used, kept, searches).no_call] == ["media", "media"]
    assert bill(load("own"), used, kept, searches).no_call == []


def test_vectors_are_charged_by_the_second_of_their_month() -> None:
    seconds = {date(2026, 2, 1): 28, date(2026, 3, 1): 31}
    days = [first + timedelta(days=day) for first, length in seconds.items() for day in range(length)]
    kept = pa.table({"day": days, "unit_seconds": [Decimal(5 * MILLION * 86_400)] * len(days)}, schema=KEPT)
    # A whole month costs the same, however long it is; half a day of February is a 56th.
    assert bill(load("rekognition"), usage(), kept).amounts() == {"2026-02": Decimal(50), "2026-03": Decimal(50)}
    half = pa.table({"day": [date(2026, 2, 7)], "unit_seconds": [Decimal(5 * MILLION * 43_200)]}, schema=KEPT)
    assert bill(load("azure-vision"), usage(), half).total.quantize(Decimal("1e-9")) == Decimal("0.892857143")


def test_searches_walk_the_tiers_of_their_group() -> None:
    searches = pa.table({"searched_at": [datetime(2026, 10, 3, tzinfo=UTC)] * 1_000}, schema=SEARCHED)
    found = bill(load("rekognition"), usage(images("faces", MILLION, n=1)), None, searches, by="operator")
    assert cents(found) == Decimal("1000.80")


def test_machines_of_ones_own(tmp_path: Path) -> None:
    used = usage(
        images("labels", 1_000, cpu_s=7_200.0),
        images("faces", 1_000, cpu_s=3_600.0, gpu_s=1_800.0, device="NVIDIA L4", n=2),
        images("faces", 1_000, gpu_s=900.0, device="Radeon VII", n=3),
        images("decode", 1_000, cpu_s=360.0, requests=5_000),
        images("run", 0, unit=None, cpu_s=40.0),
    )
    stored = pa.table({"day": [date(2026, 10, 3)], "unit_seconds": [Decimal(2**30 * 86_400 * 31)]}, schema=KEPT)
    found = bill(load("own"), used, stored=stored, by="operator")
    assert {(line.key, line.call): round(line.amount, 6) for line in found.lines} == {
        ("labels", "CPU"): Decimal("0.085000"),
        ("faces", "CPU"): Decimal("0.042500"),
        ("faces", "NVIDIA L4"): Decimal("0.402500"),
        ("decode", "CPU"): Decimal("0.004250"),
        ("decode", "requests"): Decimal("0.002000"),
        ("run", "CPU"): Decimal("0.000472"),
        ("(tables)", "tables"): Decimal("0.023000"),
    }
    (lack,) = found.unpriced
    assert "no price of Radeon VII (on_demand)" in lack
    spot = tariff(tmp_path, "own", ('market = "on_demand"   ', 'market = "spot"   '))
    assert bill(spot, used.slice(0, 1)).total == Decimal("0.034")
