"""`pinakes cost`: what people read, and what a script does."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from pinakes.catalog import Catalog
from pinakes.catalog.tariffs import names
from tests.catalog.usage_rows import add_usage, images, minutes
from tests.jobs.command import here, refused


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Two jobs of one month; the second pays the second tier."""
    rows = []
    for n, (job, day, count) in enumerate([("nightly", 1, 900_000), ("backfill", 9, 600_000)], start=1):
        about = {"n": n, "job": job, "recorded_at": datetime(2026, 10, day, tzinfo=UTC)}
        rows += [
            images("decode", count, cpu_s=1_800.0, requests=count, **about),
            images("labels", count, cpu_s=7_200.0, **about),
            images("objects", count, cpu_s=9_000.0, **about),
            minutes("labels", 2.5, cpu_s=60.0, **about),
            images("media", count, cpu_s=90.0, **about),
            images("run", 0, unit=None, cpu_s=720.0, **about),
        ]
    return add_usage(tmp_path_factory.mktemp("cost") / "catalog", *rows).url


def cost(*words: str) -> str:
    """What it prints."""
    done = here("cost", *words)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def cells(said: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in said.splitlines() if line.startswith("│")]


def test_tier_by_tier_and_what_is_behind_it(catalog: str) -> None:
    said = cost("--catalog", catalog, "--tariff", "rekognition", "--month", "2026-10")
    group = "Group 2: DetectLabels"
    assert cells(said) == [
        ["2026-10", group, "1 to 1,000,000", "1,000,000", "images", "0.0010", "1,000.00", "S"],
        ["2026-10", group, "1,000,001 to 5,000,000", "500,000", "images", "0.0008", "400.00", "S"],
        ["2026-10", "Video, labels: StartLabelDetection", "", "5", "video minutes", "0.10", "0.50", "S"],
    ]
    assert "total: 1,400.50 USD" in said
    assert "S: prices by secondary sources" in said
    assert "no such call, so not billed: media (1,500,000 images)" in said
    assert "of the two the larger count of the month is billed" in said


def test_the_job_that_ran_later_pays_the_later_tiers(catalog: str) -> None:
    said = cost("--catalog", catalog, "--tariff", "rekognition", "--by", "job")
    assert cells(said)[-2:] == [["backfill", "500.25"], ["nightly", "900.25"]]
    found = json.loads(cost("--catalog", catalog, "--tariff", "rekognition", "--by", "job", "--json"))
    assert found["amounts"] == {"backfill": "500.25", "nightly": "900.25"}
    assert Decimal(found["total"]) == Decimal("1400.50")
    assert found["lines"][0] == {
        "month": "2026-10",
        "key": "backfill",
        "call": "DetectLabels",
        "unit": "images",
        "tier": "1 to 1,000,000",
        "units": "100000",
        "price": "0.001",
        "per": 1,
        "amount": "100",
        "confidence": "S",
    }
    assert found["no_call"] == [{"operator": "media", "unit": "images", "units": "1500000"}]


def test_our_own_machines_by_operator_and_by_day(catalog: str) -> None:
    said = cost("--catalog", catalog, "--by", "operator")
    assert ["2026-10", "decode", "requests", "1,500,000", "requests", "0.0004 per 1,000", "0.6000", "U"] in cells(said)
    assert ["labels", "0.1700"] in cells(said)
    assert "U: prices UNCONFIRMED, 1.0455 USD of the total" in said
    days = json.loads(cost("--catalog", catalog, "--by", "day", "--json"))["amounts"]
    # An hour of CPU is 0.0425, a thousand requests 0.0004: 18,870 s and 900,000 requests, then as long and 600,000.
    assert {day: round(Decimal(amount), 6) for day, amount in days.items()} == {
        "2026-10-01": Decimal("0.582771"),
        "2026-10-09": Decimal("0.462771"),
    }


def test_side_by_side(catalog: str) -> None:
    said = cost("--catalog", catalog, "--compare")
    rows = {row[0]: row[1:] for row in cells(said)}
    # own, azure-vision, google-video, google-vision, rekognition
    assert rows["labels"] == ["1,500,000", "0.1700", "1,010.00", "", "2,248.50", "1,400.00"]
    assert rows["objects"] == ["1,500,000", "0.2125", "1,290.00", "", "3,372.75", "0.00"]
    assert rows["labels (video)"] == ["5", "0.0014", "0.45", "0.00", "", "0.50"]
    assert rows["run"] == ["", "0.0170", "", "", "", ""]
    assert rows["total"][-1] == "1,400.50"
    found = json.loads(cost("--catalog", catalog, "--compare", "--json"))
    assert list(found["tariffs"]) == names()
    (labels,) = [row for row in found["rows"] if row["key"] == "labels"]
    assert labels["amounts"]["google-video"] is None


def test_a_tariff_is_copied_edited_and_used(catalog: str, tmp_path: Path) -> None:
    listed = cost("--tariffs")
    (line,) = [line for line in listed.splitlines() if line.startswith("cp ") and line.endswith(" my-own.toml")]
    mine = tmp_path / "my-own.toml"
    mine.write_text(Path(line.split()[1]).read_text().replace("price = 0.0425", "price = 10"))
    found = json.loads(cost("--catalog", catalog, "--tariff", str(mine), "--json"))
    assert round(Decimal(found["total"]), 2) == Decimal("105.43")
    assert [row["tariff"] for row in json.loads(cost("--tariffs", "--json"))] == names()


def test_a_month_without_usage_and_one_that_is_none(catalog: str) -> None:
    assert "nothing of 2025-01 is billed" in cost("--catalog", catalog, "--month", "2025-01")
    for month in ("202510", "2026-13", "0000-01", "9999-12"):
        said = refused(2, "cost", "--catalog", catalog, "--month", month)
        assert f"--month {month}: a month is spelled YYYY-MM, as 20" in said
    assert "'week' is not one of 'operator'" in refused(2, "cost", "--catalog", catalog, "--by", "week")


def test_what_is_wrong_is_one_line(catalog: str, tmp_path: Path) -> None:
    said = refused(1, "cost", "--catalog", catalog, "--tariff", "amazon")
    assert "there is no tariff 'amazon': there are own, " in said
    empty = Catalog(str(tmp_path / "catalog"), create=True)
    assert "nothing was metered yet" in refused(1, "cost", "--catalog", empty.url)
