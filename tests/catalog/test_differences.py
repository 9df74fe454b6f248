"""What two models, settings or runs saw differently in the items that both looked at; and the command that says it."""

import json
from datetime import UTC, datetime

import pyarrow as pa
import pytest

from pinakes.catalog import Catalog
from pinakes.catalog.differences import differences
from pinakes.catalog.errors import UnknownError
from pinakes.catalog.schema import LEDGER, result_schema
from pinakes.jobs import cli
from pinakes.operators.labels import Labels

TABLES = {"labels": Labels.tables["labels"], "marks": pa.schema([pa.field("box", pa.int64())])}
SCHEMAS = {"ledger": LEDGER, **{name: result_schema(columns) for name, columns in TABLES.items()}}
FIRST, SECOND, IDLE = "20260101T000000-aaaaaa", "20260102T000000-bbbbbb", "20260103T000000-cccccc"
Seen = dict[str, dict[str, float]]


def look(catalog: Catalog, run_id: str, model: str, fingerprint: str, seen: Seen, marks: int = 0) -> None:
    """A run that sees those labels, by item; `marks` more rows in another table."""
    run = {"run_id": run_id, "status": "started", "job": "j", "source": "s", "spec": "{}", "versions": "{}"}
    catalog.record_run({**run, "operators": "{}", "host": "here", "recorded_at": datetime.now(UTC)})
    rows: dict[str, list[dict[str, object]]] = {name: [] for name in SCHEMAS}
    for item, labels in seen.items():
        shared = {"uri": f"file:///{item}.jpg", "item_key": item, "model": model, "fingerprint": fingerprint}
        shared["attempt"] = 1
        done = {"status": "ok", "results": len(labels), "finished_at": datetime.now(UTC)}
        rows["ledger"].append({**shared, **done, "operator": "labels"})
        for name, confidence in labels.items():
            rows["labels"].append({**shared, "name": name, "confidence": confidence})
        rows["marks"] += [{**shared, "box": number} for number in range(marks)]
    log = catalog.commit_log(run_id, TABLES, catalog.finish())
    log.commit(
        {
            name: pa.Table.from_pylist(
                found, pa.schema([field for field in SCHEMAS[name] if field.name not in ("run_id", "n")])
            )
            for name, found in rows.items()
        }
    )


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    catalog = Catalog(str(tmp_path_factory.mktemp("diff") / "catalog"), create=True)
    old = {
        "1": {"dog": 0.9, "grass": 0.5},
        "2": {"dog": 0.8},
        "3": {"cat": 0.7},
        "4": {},
        "only old": {"dog": 0.9},
    }
    new = {
        "1": {"dog": 0.95, "grass": 0.2},
        "2": {"dog": 0.6, "ball": 0.3},
        "3": {"cat": 0.7},
        "4": {"dog": 0.4},
        "only new": {"dog": 0.9},
    }
    look(catalog, FIRST, "small-1", "f1", old, marks=1)
    look(catalog, SECOND, "large-2", "f2", new, marks=3)
    run = {"run_id": IDLE, "status": "started", "job": "j", "source": "s", "spec": "{}", "versions": "{}"}
    catalog.record_run({**run, "operators": "{}", "host": "here"})
    # Another version of one file, which counts in place of what both saw; the difference is about what both saw.
    look(catalog, "20260104T000000-dddddd", "large-2", "f2", {"another version of 3": {"bird": 0.9}})
    return catalog


@pytest.mark.parametrize(
    ("by", "a", "b"), [("models", "small-1", "large-2"), ("settings", "f1", "f2"), ("runs", "20260101", SECOND)]
)
def test_what_appeared_vanished_and_moved(catalog: Catalog, by: str, a: str, b: str) -> None:
    found = differences(catalog, by, a, b, table="labels")  # type: ignore[arg-type]
    (labels,) = found.tables
    assert (labels.items, labels.equal) == (4, 1)
    names = {row["name"]: row for row in labels.names}
    changes = {name: (row["gained"], row["lost"], row["moved"]) for name, row in names.items()}
    assert changes == {"dog": (1, 0, 1), "grass": (0, 0, 1), "ball": (1, 0, 0), "cat": (0, 0, 0)}
    assert names["dog"]["mean_change"] == pytest.approx((0.05 - 0.2) / 2, abs=1e-6)
    assert labels.names[0]["name"] == "dog"  # most changes first
    gained = [row for row in labels.examples if row["change"] == "gained"]
    assert {(row["uri"], row["name"]) for row in gained} == {("file:///4.jpg", "dog"), ("file:///2.jpg", "ball")}
    back = differences(catalog, by, b, a, table="labels").tables[0]  # type: ignore[arg-type]
    assert {row["name"]: row["lost"] for row in back.names}["ball"] == 1


def test_what_counts_as_moved_is_said(catalog: Catalog) -> None:
    (labels,) = differences(catalog, "models", "small-1", "large-2", table="labels", moved=0.01, limit=1).tables
    assert (labels.names[0]["name"], labels.names[0]["moved"], labels.names_in_all) == ("dog", 2, 4)
    assert len(labels.names) == len(labels.examples) == 1


def test_of_other_tables_the_rows_are_counted(catalog: Catalog) -> None:
    tables = {one.table: one for one in differences(catalog, "models", "small", "large").tables}
    assert set(tables) == {"labels", "marks"}
    marks = tables["marks"]
    assert (marks.items, marks.equal, marks.rows_a, marks.rows_b) == (4, 0, 4, 12)
    assert [(row["name"], row["more_or_fewer"]) for row in marks.names] == [(None, 4)]


@pytest.mark.parametrize(
    ("by", "a", "b", "says"),
    [
        ("runs", IDLE, FIRST, r"cccccc looked at nothing new.*--models or --settings"),
        ("runs", FIRST, "20260104", r"no look in common at the same version"),
        ("runs", "2026", FIRST, r"several runs begin with '2026'; there are: 2026"),
        ("models", "medium", "small-1", r"there is no model 'medium'; there are: large-2, small-1"),
        ("settings", "f1", "f1", r"f1 on both sides"),
    ],
)
def test_what_cannot_be_compared_is_said_in_a_line(catalog: Catalog, by: str, a: str, b: str, says: str) -> None:
    with pytest.raises(UnknownError, match=says) as raised:
        differences(catalog, by, a, b)  # type: ignore[arg-type]
    assert "\n" not in str(raised.value)


def test_the_command(catalog: Catalog, capsys: pytest.CaptureFixture[str]) -> None:
    def said(*arguments: str) -> tuple[int, str, str]:
        command = ["diff", *arguments, "--catalog", catalog.url]
        code = cli.guarded(lambda: cli.app(command, standalone_mode=False))
        return (code, *capsys.readouterr())

    code, answer, _ = said("--models", "small", "large", "--table", "labels", "--json")
    assert code == 0
    assert json.loads(answer)["tables"][0]["items"] == 4
    code, answer, _ = said("--runs", FIRST[:12], SECOND[:12], "--moved", "0.3", "--limit", "3")
    assert code == 0
    assert "labels: 4 items compared, 2 of them equal; 4 rows, then 6" in answer
    assert "file:///4.jpg" in answer
    code, _, wrong = said("--models", "small", "large", "--table", "label")
    assert (code, wrong.count("\n")) == (1, 1)
    assert "there is no table of results 'label'; there are: labels, marks" in wrong
    assert said()[0] == 2
