"""A run stops at its budget with everything so far committed, and the next run goes on."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from deltalake import write_deltalake

from pinakes.catalog import Catalog, metering
from pinakes.catalog.metering import IMAGES, MEASURES, USAGE
from pinakes.catalog.status import status
from pinakes.catalog.tariffs import load
from pinakes.cluster.connection import connected
from pinakes.cluster.watchdog import Watchdog
from pinakes.jobs import budget as budgets
from pinakes.jobs import cli, running
from pinakes.jobs.budget import Budget, Earlier, tariff_in_usd
from pinakes.jobs.committer import Committer
from pinakes.jobs.errors import SpecError
from pinakes.jobs.listing import Listing
from pinakes.jobs.planning import PlanSummary, make_plan
from pinakes.jobs.printing import print_plan, print_run
from pinakes.jobs.rows import WORK, Rows, Sight, result_tables
from pinakes.jobs.spec import BudgetSpec
from pinakes.jobs.summary import RunSummary
from pinakes.operators.operator import create
from tests.films import write_film
from tests.jobs.small_run import small_jpeg, stop_sign

PHOTOS = 120  # of the real runs
CPU_HOUR = 36.0  # in the tariff of these tests: a CPU second is a cent


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Forty pictures and a film."""
    folder = tmp_path / "archive"
    folder.mkdir()
    for number in range(40):
        (folder / f"{number:02d}.jpg").write_bytes(small_jpeg(number))
    write_film(folder / "film.mp4", 2, fps=5, size=(160, 90))
    return folder


@pytest.fixture
def tariff(tmp_path: Path) -> Path:
    """CPU time alone costs something, and much."""
    path = tmp_path / "dear.toml"
    path.write_text(
        'name = "dear"\nversion = 2026-01-01\ncurrency = "USD"\nregion = "here"\n'
        f'cpu_hour = [{{market = "on_demand", price = {CPU_HOUR}, confidence = "U", source = "made up"}}]\n'
    )
    return path


def usage(cpu_s: float, images: int = 0) -> pa.Table:
    """What a run has used so far."""
    row = dict.fromkeys(MEASURES.names, 0) | {"operator": "labels", "unit": IMAGES, "device": None}
    row |= {"amount": images, "rounded_amount": images, "cpu_s": cpu_s}
    return metering.usage(pa.Table.from_pylist([row], MEASURES), "run", "job")


def planned(archive: Path, most: Mapping[str, int]) -> tuple[dict[str, Any], list[str]]:
    """What is due and what is left, and the names of what would be looked at."""
    with make_plan(Listing(str(archive)), "here", {"media": create("media")}, None, most=most) as plan:
        uris = [uri for is_video in (False, True) for uri in plan.sample(is_video, 100)["uri"].to_pylist()]
        beyond = plan.summary.beyond | plan.summary.outside
        return {"due": plan.summary.due, **beyond}, sorted(Path(uri).name for uri in uris)


def test_a_budget_of_images_is_cut_in_the_plan(archive: Path) -> None:
    counts, names = planned(archive, {"images": 7})
    assert counts == {"due": 8, "images": 33}
    assert names == [*(f"{number:02d}.jpg" for number in range(7)), "film.mp4"]
    # No videos where the budget names images alone, and the reverse.
    only_images = Budget(BudgetSpec(images=7)).most
    assert planned(archive, only_images)[0] == {"due": 7, "images": 33, "videos": 1}
    assert planned(archive, Budget(BudgetSpec(video_minutes=7)).most) == ({"due": 1, "images": 40}, ["film.mp4"])
    assert planned(archive, Budget(BudgetSpec(images=7, video_minutes=7)).most)[0] == {"due": 8, "images": 33}
    for none in (None, BudgetSpec(usd=1)):
        assert planned(archive, Budget(none).most)[0] == {"due": 41}
    assert planned(archive, {"images": 50})[0] == {"due": 41}


@pytest.fixture
def asked_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The price is asked for with every piece, however long that takes."""
    monkeypatch.setattr(budgets, "SHARE", math.inf)


def test_windows_of_a_film_count_before_the_film_is_finished(tmp_path: Path) -> None:
    """Metered is a film as a whole, at its end; a budget must not hear of it only then."""
    item = dict.fromkeys(WORK.names) | {"uri": "film.mp4", "item_key": "0" * 32, "is_video": True}
    item |= {"operators": ["properties"], "fingerprints": ["0"], "attempts": [1]}
    operators = {"properties": create("properties")}
    catalog = Catalog(str(tmp_path), create=True)
    log = catalog.commit_log("run", result_tables(operators, videos=True), 0)
    summary = RunSummary("run", "finished", "", PlanSummary("s", *[0] * 8, {}, 1, 0))
    committer = Committer(log, 1e9, summary, 0.0)

    def minutes() -> list[float]:
        used = committer.usage()
        return used.filter(pc.equal(used["operator"], "properties"))["amount"].to_pylist()

    for start, length in ((0, 5.0), (300_000, 2.5)):
        rows = Rows(operators)
        rows.looked(operators["properties"], Sight({**item, "window_start_ms": start}, "c"))
        rows.spend(metering.DECODE, 1.0, metering.VIDEO_MINUTES, length)
        committer.add(rows.tables())
    assert minutes() == [7.5]
    committer.commit()
    assert minutes() == [7.5]
    rows = Rows(operators)
    rows.lasts(item, 7.5)
    rows.looked(operators["properties"], Sight(item, "c"))
    log.commit(rows.tables())  # as the finisher does
    assert minutes() == [7.5]
    assert catalog.sql("SELECT sum(amount) AS n FROM usage WHERE operator = 'properties'").to_pylist() == [{"n": 7.5}]


@pytest.mark.usefixtures("asked_each_time")
def test_a_budget_in_dollars_counts_what_is_used_and_what_is_in_hand(tmp_path: Path, tariff: Path) -> None:
    budget = Budget(BudgetSpec(usd=0.95, tariff=str(tariff)))
    budget.open(Catalog(str(tmp_path / "catalog"), create=True))
    budget.begin()
    # Ten cents a piece, and four of them are in hand.
    used = (10, 20, 30, 40, 50, 60, 70)
    stops = [budget.take(lambda cpu_s=cpu_s: usage(cpu_s), 0, lambda: 4) for cpu_s in used]  # type: ignore[misc]
    assert stops == [False, False, False, False, False, True, True]
    assert budget.as_dict() == {"usd": 0.95, "tariff": "dear", "used_usd": 0.6}
    # Work of another kind has pieces of another size.
    budget = Budget(BudgetSpec(video_minutes=10))
    budget.begin()
    assert not budget.take(lambda: usage(0), 60, lambda: 2)
    budget.begin()
    assert not budget.take(lambda: usage(0), 3 * 60, lambda: 2)
    assert budget.take(lambda: usage(0), 6 * 60, lambda: 2)
    assert budget.as_dict() == {"video_minutes": 10.0, "used_video_minutes": 6.0}


def test_earlier_usage_of_the_month_has_taken_its_tiers(tmp_path: Path) -> None:
    """The first 1,000 images of a month cost a dollar each, those after them nothing."""
    path = tmp_path / "tiers.toml"
    figure = 'confidence = "U", source = "made up"'
    path.write_text(
        'name = "tiers"\nversion = 2026-01-01\ncurrency = "USD"\nregion = "here"\n'
        f'[groups.all]\nunit = "images"\ntiers = [{{up_to = 1000, price = 1, {figure}}}, {{price = 0, {figure}}}]\n'
        '[calls.Detect]\ngroup = "all"\noperators = ["labels"]\n'
    )
    catalog = Catalog(str(tmp_path / "catalog"), create=True)
    assert Earlier(load(str(path)), catalog).usd_of(usage(0, 300)) == 300
    table = catalog.table(metering.TABLE, USAGE)
    last_month = datetime.now(UTC).replace(day=1, hour=0, minute=0) - timedelta(days=1)
    column = USAGE.get_field_index("recorded_at")
    earlier = usage(0, 500).set_column(column, USAGE.field(column), pa.array([last_month], USAGE.field(column).type))
    write_deltalake(table, earlier, mode="append")
    assert Earlier(load(str(path)), catalog).usd_of(usage(0, 300)) == 300
    write_deltalake(table, usage(0, 800), mode="append")
    assert Earlier(load(str(path)), catalog).usd_of(usage(0, 300)) == 200


def test_a_tariff_that_cannot_be_is_said_before_anything_else(archive: Path, tmp_path: Path, tariff: Path) -> None:
    for name in ("owm", str(tmp_path / "none.toml")):
        with pytest.raises(SpecError, match="there is no"):
            running.run(archive, tmp_path / "catalog", ["media"], budget={"usd": 1, "tariff": name})
        with pytest.raises(SpecError, match="there is no"):
            running.plan(archive, tmp_path / "catalog", ["media"], tariff=name)
    tariff.write_text(tariff.read_text().replace("USD", "EUR"))
    with pytest.raises(SpecError, match="is in EUR, not in USD"):
        tariff_in_usd(str(tariff))
    assert not (tmp_path / "catalog").exists()


def test_after_the_stop_nobody_takes_up_what_was_not_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    dog = Watchdog()
    monkeypatch.setattr(dog, "_alive", lambda node: True)
    assert not dog.begin((0, 0), "node", ["a"]).done
    assert not dog.begin((0, 4), "node", ["b"]).done
    assert not dog.begin((3, 0), "node", ["c"]).done
    assert dog.stop() == 3
    assert dog.begin((0, 8), "node", ["d", "e"]).done == {"d", "e"}
    # A worker that died comes back with its chunk, and a piece that was prepared reaches its GPU.
    assert not dog.begin((0, 4), "node", ["b"]).done
    assert not dog.begin((3, 0, 1), "node", []).done
    assert dog.stop() == 3


# --- real runs


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Catalog, list[RunSummary]]:
    """Of 120 photos one run for twenty dollars, a dollar a photo; with a film one for ten photos and a minute of the
    film, which has ten windows of half a minute; and one without end.
    """
    folder = tmp_path_factory.mktemp("budget")
    archive = folder / "archive"
    archive.mkdir()
    for number in range(PHOTOS):
        (archive / f"{number:03d}.jpg").write_bytes(stop_sign())
    (folder / "photos.toml").write_text(
        'name = "photos"\nversion = 2026-01-01\ncurrency = "USD"\nregion = "here"\n'
        '[groups.all]\nunit = "images"\ntiers = [{price = 1, confidence = "U", source = "made up"}]\n'
        '[calls.Detect]\ngroup = "all"\noperators = ["properties"]\n'
    )
    words: dict[str, Any] = {"operators": ["properties"], "workers": 2, "video": {"sample": "every-frame"}}

    def run(budget: dict[str, Any] | None) -> RunSummary:
        return running.run(archive, folder / "catalog", budget=budget, **words)

    with connected(2), pytest.MonkeyPatch.context() as patched:
        patched.setattr(budgets, "SHARE", math.inf)
        found = [run({"usd": 20, "tariff": str(folder / "photos.toml")})]
        write_film(archive / "film.mp4", 300, fps=1, size=(160, 90))
        found += [run({"images": 10, "video_minutes": 1}), run(None)]
    return Catalog(str(folder / "catalog")), found


@pytest.mark.timeout(180)
def test_dollars_stop_a_run_with_what_is_in_hand(runs: tuple[Catalog, list[RunSummary]]) -> None:
    catalog, (first, *_) = runs
    assert first.status == "budget"
    # How many pieces of four photos were in hand at the stop, nobody can say.
    assert 12 <= first.items < PHOTOS
    looks = catalog.sql(f"FROM ledger WHERE run_id = '{first.run_id}' AND operator = 'properties'")
    assert looks.num_rows == first.items
    assert first.budget is not None
    assert first.budget["used_usd"] == first.items
    assert first.left == PHOTOS - first.items


def test_images_are_exact_and_a_film_stops_between_its_windows(runs: tuple[Catalog, list[RunSummary]]) -> None:
    catalog, (first, second, third) = runs
    assert second.status == "budget"
    assert second.plan.beyond == {"images": PHOTOS - first.items - 10}
    assert second.plan.outside == {}
    stills = catalog.sql(
        f"FROM ledger WHERE run_id = '{second.run_id}' AND operator = 'properties' AND uri LIKE '%jpg'"
    )
    assert stills.num_rows == 10
    windows = "SELECT window_start_ms FROM ledger WHERE operator = 'properties' AND window_start_ms IS NOT NULL AND "
    early = catalog.sql(f"{windows} run_id = '{second.run_id}'")["window_start_ms"].to_pylist()
    assert 1 <= len(early) < 10
    assert second.budget is not None
    assert second.budget["used_video_minutes"] == len(early) / 2
    # The last one does what is left, and nothing twice.
    assert third.status == "finished"
    assert third.budget is None
    late = catalog.sql(f"{windows} run_id = '{third.run_id}'")["window_start_ms"].to_pylist()
    assert sorted(early + late) == list(range(0, 300_000, 30_000))
    counts = catalog.sql("SELECT count(*) AS looks, count(DISTINCT uri) AS items FROM latest_properties").to_pylist()
    assert counts == [{"looks": PHOTOS + 300, "items": PHOTOS + 1}]


def test_it_is_said_where_a_run_has_stopped(
    runs: tuple[Catalog, list[RunSummary]], capsys: pytest.CaptureFixture[str]
) -> None:
    catalog, (first, second, third) = runs
    cli._end(first, as_json=False)  # raises nothing: exit code 0
    words = (
        f"stopped at its budget of 20.00 USD by the tariff photos, {first.items}.00 USD were used; {first.left} items"
    )
    assert words in capsys.readouterr().out
    print_run(second)
    assert "stopped at its budget of 10 images and 1 minutes of video" in capsys.readouterr().out
    print_run(third)
    print_plan(second.plan)
    said = capsys.readouterr().out
    assert f"{PHOTOS - first.items - 10} images are left for later runs by the job's budget" in said
    assert "stopped" not in said
    by_status = {row["run_id"]: (row["status"], row["message"]) for row in status(catalog)["runs"]}
    assert by_status[first.run_id] == (
        "budget",
        "stopped at its budget of 20.00 USD by the tariff photos: the next run goes on",
    )
    assert by_status[third.run_id] == ("finished", None)
