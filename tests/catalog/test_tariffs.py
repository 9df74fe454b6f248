"""Tariffs: those that come with Pinakes say where each figure is from; a wrong one of a user's says what is right."""

import re
from decimal import Decimal
from pathlib import Path

import pytest

from pinakes.catalog.errors import TariffError
from pinakes.catalog.tariffs import load, names, path_of

REKOGNITION = path_of("rekognition").read_text()
OWN = path_of("own").read_text()


def test_those_that_come_with_pinakes() -> None:
    assert names() == ["own", "azure-vision", "google-video", "google-vision", "rekognition"]
    for name in names():
        tariff = load(name)
        assert (tariff.name, tariff.currency) == (name, "USD")
        # Every price stands beside where it is from.
        written = [line for line in path_of(name).read_text().splitlines() if re.search(r"\bprice = |units = ", line)]
        assert len(written) >= 1
        for line in written:
            assert line.startswith("price = ") or ("confidence = " in line and "source = " in line), line


def test_what_the_fact_sheet_holds_for_unconfirmed_is_marked_so() -> None:
    tiers = load("rekognition").groups["Group 2"].tiers
    assert [(tier.price, tier.confidence) for tier in tiers] == [
        (Decimal("0.0010"), "S"),
        (Decimal("0.0008"), "S"),
        (Decimal("0.0006"), "S"),
        (Decimal("0.00025"), "U"),
    ]
    own = load("own")
    assert {one.confidence for one in (*own.cpu_hour, *own.gpu_hour)} == {"U"}


def test_a_copy_is_edited_and_named_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        OWN.replace('market = "on_demand"   ', 'market = "spot"   ').replace("price = 0.017", "price = 0.1")
    )
    mine = load(str(path))
    cpu, gpu = mine.cpu(), mine.gpu("NVIDIA L4")
    # Not the binary fraction nearest to a tenth.
    assert cpu is not None
    assert cpu.price == Decimal("0.1")
    assert gpu is not None
    assert gpu.price == Decimal("0.32")
    large = mine.gpu("NVIDIA L40S")
    assert large is not None
    assert large.device == "L40S"
    for other in ("Radeon", "NVIDIA L400", "NVIDIA RTX A1000", "NVIDIA T400 4GB"):
        assert mine.gpu(other) is None, other


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (OWN.replace("price = 0.0425", "price = -1"), "cpu_hour.0.price: Input should be greater than or equal to 0"),
        (OWN.replace("price = 0.0425", 'price = "0.0425"'), "cpu_hour.0.price: must be a number without quotes"),
        (OWN.replace("price = 0.0425", "price = true"), "cpu_hour.0.price: must be a number without quotes"),
        (OWN.replace("price = 0.0425", "price = nan"), "cpu_hour.0.price: Input should be a finite number"),
        (OWN.replace("price = 0.0425", "price = 1e99999999999999999999"), "cannot be read as TOML"),
        (
            OWN.replace("price = 0.0425", "cost = 0.0425"),
            "cpu_hour.0.cost: is not known; in its place go: confidence, ",
        ),
        (OWN.replace("price = 0.0425, ", ""), "cpu_hour.0.price: must be given; in its place go: confidence, source, "),
        (OWN.replace('confidence = "U"', 'confidence = "X"'), "confidence: Input should be 'M', 'D', 'S' or 'U'"),
        (OWN.replace('source = "S3 Standard, GET"', ""), "request.source: must be given"),
        (
            OWN.replace('market = "on_demand"   ', 'market = "cheap"   '),
            "market: Input should be 'on_demand' or 'spot'",
        ),
        (
            OWN.replace('{market = "on_demand", price = 0.0425', '{market = "spot", price = 0.0425'),
            "`cpu_hour` must have",
        ),
        (REKOGNITION.replace("up_to = 5_000_000", "up_to = 5"), "groups.Group 1: `tiers` must rise by `up_to`"),
        (REKOGNITION.replace("{price = 0.0004", "{up_to = 40_000_000, price = 0.0004"), "and the last not"),
        (REKOGNITION.replace('group = "Group 2"', 'group = "Group 9"'), "is none of the groups: 'Group 1', 'Group 2'"),
        (REKOGNITION.replace('unit = "images"', 'unit = "films"'), "unit: Input should be 'images' or 'video_minutes'"),
        (REKOGNITION.replace('["text"]', '"text"'), "calls.DetectText.operators: Input should be a list [...]"),
        (REKOGNITION.replace('["text"]', "[]"), "calls.DetectText.operators: List should have at least 1 item"),
        (REKOGNITION.replace('["text"]', '["text"]\nfree_with = "DetectLabels"'), "goes with `pooled = false` only"),
        (
            REKOGNITION.replace('["text"]', '["text"]\nfree_with = "IndexVoices"'),
            "must be another call of the same unit",
        ),
        (REKOGNITION.replace("about = ", 'about = "\\u001b[31m" #'), "about: String should match"),
        (
            OWN[: OWN.index("[gb_month]")].replace("cpu_hour = [", "other = ["),
            "other: is not known; in its place go: name",
        ),
        (
            'name = "x"\nversion = 2026-01-01\ncurrency = "USD"\nregion = "-"',
            "it must have `calls` (with `groups`), or",
        ),
        ("name =", "cannot be read as TOML"),
        ("a = " + "[" * 100_000, "cannot be read as TOML"),
        ("a = 1" + "0" * 5_000, "cannot be read as TOML"),
        ("#" * 1_000_001, "has more than 1,000,000 bytes: that is no tariff"),
    ],
)
def test_a_wrong_file_says_which_field_and_what_is_right(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    assert text not in (OWN, REKOGNITION)
    with pytest.raises(TariffError) as raised:
        load(str(path))
    assert str(raised.value).startswith(str(path))
    assert said in str(raised.value)
    assert len(str(raised.value)) < 600
    assert "\n" not in str(raised.value)


def test_what_is_no_file_says_what_there_is(tmp_path: Path) -> None:
    (tmp_path / "folder.toml").mkdir()
    with pytest.raises(TariffError, match="there is no such file"):
        load(str(tmp_path / "folder.toml"))
    with pytest.raises(TariffError, match="there is no tariff 'amazon': there are own, azure-vision, "):
        load("amazon")
    # It has no end.
    with pytest.raises(TariffError, match="there is no tariff '/dev/zero'"):
        load("/dev/zero")


def test_a_name_in_a_file_cannot_drive_a_terminal(tmp_path: Path) -> None:
    path = tmp_path / "theirs.toml"
    path.write_text('"\\u001b[31mEVIL" = 1\n' + path_of("own").read_text())
    with pytest.raises(TariffError) as error:
        load(str(path))
    assert "EVIL" in str(error.value)
    assert str(error.value).isprintable()
    with pytest.raises(TariffError, match="nobodyatall"):
        load("~nobodyatall/x.toml")
