"""What a plan says a run will take and cost: by what was metered, or by a look at a few items."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from deltalake import write_deltalake

from pinakes.catalog import Catalog, metering
from pinakes.catalog.metering import DECODE, IMAGES, MEASURES, RUN, USAGE, VIDEO_MINUTES
from pinakes.jobs import plan
from pinakes.jobs.cli import app, guarded
from pinakes.jobs.estimating import START_S, Estimate, OperatorEstimate, _rounded
from pinakes.jobs.rates import Range, Sampler, bootstrapped
from pinakes.operators.errors import ModelError
from pinakes.operators.operator import create
from pinakes.operators.properties import Properties
from tests.films import write_film
from tests.jobs.small_run import loaded, small_jpeg, small_run

CENT_A_SECOND = 36  # dollars for an hour of CPU


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty pictures."""
    folder = tmp_path_factory.mktemp("estimate") / "archive"
    folder.mkdir()
    for number in range(40):
        (folder / f"{number:02d}.jpg").write_bytes(small_jpeg(number))
    return folder


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two films, of six and of twelve seconds."""
    folder = tmp_path_factory.mktemp("films") / "films"
    folder.mkdir()
    for seconds in (6, 12):
        write_film(folder / f"{seconds}.mp4", seconds, fps=5, size=(160, 90))
    return folder


@pytest.fixture(scope="module")
def tariff(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("tariff") / "dear.toml"
    path.write_text(
        'name = "dear"\nversion = 2026-01-01\ncurrency = "USD"\nregion = "here"\n'
        f'cpu_hour = [{{market = "on_demand", price = {CENT_A_SECOND}, confidence = "U", source = "made up"}}]\n'
    )
    return str(path)


def row(operator: str, cpu_s: float, amount: float = 0, unit: str | None = IMAGES) -> dict[str, Any]:
    zeros = dict.fromkeys(MEASURES.names, 0)
    ends = {"operator": operator, "unit": unit, "amount": amount, "rounded_amount": int(amount), "device": None}
    return {**zeros, **ends, "cpu_s": cpu_s}


def meter(catalog: Catalog, run_id: str, fingerprint: str, commits: list[list[dict[str, Any]]], first: int) -> None:
    """Write down a run of `properties` with that fingerprint, and what its commits metered."""
    asked = {"properties": {"fingerprint": fingerprint, "video_fingerprint": None}}
    run = {
        "run_id": run_id,
        "status": "finished",
        "job": "j",
        "source": "s",
        "host": "h",
        "recorded_at": datetime.now(UTC),
    }
    catalog.record_run({**run, "spec": "{}", "versions": "{}", "operators": json.dumps(asked)})
    for n, rows in enumerate(commits, first):
        used = metering.usage(pa.Table.from_pylist(rows, MEASURES), run_id, "j", n)
        write_deltalake(catalog.table(metering.TABLE, USAGE), used, mode="append")


@pytest.fixture(scope="module")
def url(archive: Path) -> Path:
    """A catalogue in which `properties` was metered: .1 to .3 s a picture; and, with other settings, a hundred times
    as much.
    """
    url = archive.parent / "catalog"
    catalog = Catalog(str(url), create=True)
    commits = [
        [row("properties", 10 * cents, 1000), row(DECODE, 50, 1000), row(RUN, 5, unit=None)]
        for cents in (10, 20, 20, 20, 20, 20, 20, 20, 20, 30)
    ]
    meter(catalog, "1", create("properties").fingerprint, commits, 1)
    meter(catalog, "2", "other settings", [[row("properties", 20_000, 1000)]], 11)
    return url


def of(found: Estimate) -> Mapping[str, OperatorEstimate]:
    return {one.operator: one for one in found.operators}


def test_a_range_from_what_was_metered(archive: Path, url: Path, tariff: str) -> None:
    found = plan(archive, url, ["properties"], tariff=tariff, workers=1).estimate
    assert found is not None
    parts = of(found)
    # The other run, with other settings, does not count; nine of ten commits took as much or less.
    assert parts["properties"].cpu_s == Range(pytest.approx(4), pytest.approx(8), pytest.approx(8.8))
    assert parts["properties"].units == 10_000
    assert parts[DECODE].cpu_s == Range(pytest.approx(2 / 1.1), pytest.approx(2), pytest.approx(2.2))
    # All of it came in the minute in which workers start: 50 s, less what is transport.
    overhead = parts[RUN].cpu_s
    assert overhead is not None
    assert found.cpu_s is not None
    assert found.cpu_s.likely == pytest.approx(10 + overhead.likely)
    assert found.usd is not None
    assert found.usd.likely == pytest.approx(found.cpu_s.likely / 100)
    assert found.usd.low < found.usd.likely < found.usd.high
    assert found.seconds is not None
    assert found.seconds.likely == pytest.approx(START_S.likely + 10 * 1.06)
    assert found.basis == ["by what was metered over 10,000 images"]


def test_what_nothing_tells_is_said(archive: Path, tmp_path: Path, films: Path) -> None:
    found = plan(archive, tmp_path / "none", ["properties"]).estimate
    assert found is not None
    assert (found.seconds, found.usd) == (None, None)
    assert found.basis == ["nothing says yet how long this takes: decode, properties"]
    found = plan(films, tmp_path / "none", ["properties"]).estimate
    assert found is not None
    assert found.seconds is None
    assert of(found)["properties"].amount is None
    assert not (tmp_path / "none").exists()


@pytest.mark.timeout(120)
def test_a_look_at_a_few_items(archive: Path, films: Path, tmp_path: Path) -> None:
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    for path in (*archive.iterdir(), *films.iterdir()):
        (mixed / path.name).write_bytes(path.read_bytes())
    (mixed / "broken.jpg").write_bytes(small_jpeg()[:-100])
    found = plan(mixed, tmp_path / "none", ["properties"], sample=True).estimate
    assert found is not None
    stills, of_films = (
        {one.operator: one for one in found.operators if one.unit == unit} for unit in (IMAGES, VIDEO_MINUTES)
    )
    assert {one.source for one in (*stills.values(), *of_films.values())} == {"sampled"}
    assert stills["properties"].units == 16
    assert stills["properties"].amount == Range(41, 41, 41)
    # Both were opened: there is nothing to guess.
    assert of_films["properties"].amount == Range(*[pytest.approx(18 / 60)] * 3)
    for one in (stills["properties"], stills[DECODE], of_films["properties"], of_films[DECODE]):
        assert one.cpu_s is not None
        assert 0 < one.cpu_s.low < one.cpu_s.likely < one.cpu_s.high < 60
    assert found.seconds is not None
    assert found.seconds.low > START_S.low
    assert found.usd is not None
    assert found.usd.low > 0
    assert "looked at 16 of the stills that are due" in found.basis
    assert not (tmp_path / "none").exists()


def test_lengths_of_films_that_earlier_looks_have_told(films: Path, tmp_path: Path) -> None:
    small_run(films, tmp_path / "catalog", loaded("media", "frames"))
    found = plan(films, tmp_path / "catalog", ["properties"]).estimate
    assert found is not None
    assert of(found)["properties"].amount == Range(*[pytest.approx(18 / 60)] * 3)
    assert plan(films, tmp_path / "catalog", ["media"]).estimate is None  # nothing is due


def test_a_model_that_cannot_be_had_costs_the_estimate_alone(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetch(*words: Any) -> None:
        raise ModelError("the index cannot be reached")

    monkeypatch.setattr(Properties, "fetch", fetch)
    found = plan(archive, tmp_path / "none", ["properties"], sample=True)
    assert found.due == 40
    assert found.estimate is not None
    assert found.estimate.seconds is None
    assert "no items could be looked at: the index cannot be reached" in found.estimate.basis


def test_on_the_command_line(archive: Path, url: Path, tariff: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["plan", str(archive), "-c", str(url), "--operators", "properties", "--no-sample", "--workers", "1"]
    assert guarded(lambda: app([*words, "--tariff", tariff, "--json"], standalone_mode=False)) == 0
    found = json.loads(capsys.readouterr().out)["estimate"]
    assert found["tariff"] == "dear"
    assert found["usd"]["low"] < found["usd"]["likely"] < found["usd"]["high"]
    assert guarded(lambda: app([*words, "--tariff", tariff], standalone_mode=False)) == 0
    said = capsys.readouterr().out
    assert "time: 21 s, between" in said
    assert "by the tariff dear" in said
    assert guarded(lambda: app([*words, "--tariff", "dare"], standalone_mode=False)) == 2
    assert "there is no tariff 'dare'" in " ".join(capsys.readouterr().err.split())


def test_a_bootstrap_finds_the_spread_of_the_mean() -> None:
    # Of a thousand values a tenth of the means of samples lies beyond 1.28 standard errors, on each side.
    values = np.random.default_rng(1).normal(10, 2, 1000)
    found = bootstrapped(values, np.ones(1000))
    assert found.likely == pytest.approx(values.mean())
    error = 1.28 * 2 / 1000**0.5
    assert found.high - found.likely == pytest.approx(error, rel=0.15)
    assert found.likely - found.low == pytest.approx(error, rel=0.15)


def test_a_rate_is_that_of_the_items_that_an_operator_has_looked_at() -> None:
    looker = Sampler.__new__(Sampler)

    def looked(**cpu_s: float) -> dict[str, pa.Table]:
        ledger = pa.table({"operator": list(cpu_s), "cpu_s": list(cpu_s.values())})
        return {"ledger": ledger, metering.SPENT: metering.spent({(DECODE, IMAGES): [0.1, 1, 1, 1000, 0]})}

    rates = looker._rates([looked(labels=0.5), looked(labels=0.5, faces=2.0)], [1.0, 1.0], IMAGES)
    likely = {name: rate.cpu_s.likely for (name, _), rate in rates.items()}
    assert likely == {"labels": 0.5, "faces": 2.0, DECODE: pytest.approx(0.1)}
    assert rates["faces", IMAGES].units == 1


def test_minutes_that_are_rounded_up_are_so_for_each_video() -> None:
    def one(unit: str, items: int, amount: float) -> list[int]:
        known = OperatorEstimate("labels", unit, Range(amount, amount, amount), None, 0, "metered", items, 1)
        return [_rounded(known, amount, case) for case in ("low", "likely", "high")]

    assert one(VIDEO_MINUTES, 10_000, 1667) == [10_000, 10_000, 11_667]
    assert one(VIDEO_MINUTES, 10, 100) == [100, 105, 110]
    assert one(IMAGES, 8, 8) == [8, 8, 8]
