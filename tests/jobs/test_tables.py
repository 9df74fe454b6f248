"""`pinakes tables`: every column says what it means, and the README's reference is the same."""

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pinakes.catalog import Catalog
from pinakes.catalog.errors import QueryError
from pinakes.catalog.schema import SHARED
from pinakes.jobs.cli import app
from pinakes.jobs.errors import SpecError
from pinakes.jobs.tables import Described, describe, filled_by
from tests.catalog.label_rows import commit, label

README = (Path(__file__).parents[2] / "README.md").read_text()


@pytest.fixture(scope="module")
def every() -> dict[str, Described]:
    return {one.name: one for one in describe()}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    catalog = Catalog(str(tmp_path_factory.mktemp("tables") / "catalog"), create=True)
    commit(catalog, {"labels": {"a": [label("cat", 0.5, "animal")]}})
    return catalog.url


def pinakes(*words: str) -> str:
    done = CliRunner().invoke(app, [*words], catch_exceptions=False, standalone_mode=False)
    assert done.exception is None
    return done.stdout


def test_every_table_view_and_column_says_what_it_means(every: dict[str, Described]) -> None:
    assert {"ledger", "usage", "people", "labels", "tracks", "labels_all", "latest_labels"} <= set(every)
    for one in every.values():
        assert one.a_row_is, one.name
        assert one.filled_by, one.name
        for column in one.columns:
            assert len(column.meaning) > 2, f"{one.name}.{column.name}"


def test_types_read_as_words(every: dict[str, Described]) -> None:
    types = {f"{one.name}.{column.name}": column.type for one in every.values() for column in one.columns}
    assert types["labels.ancestors"] == "list of string"
    assert types["objects.box"] == "struct (left float, top float, width float, height float)"
    assert types["runs.recorded_at"] == types["media.mtime"] == "timestamp, UTC"
    assert types["labels_all.direct"] == "bool"
    assert not {one for one in types.values() if "<" in one or ":" in one or "[" in one}


def test_the_command_prints_a_table_all_tables_and_those_of_a_catalogue(url: str) -> None:
    assert "broader names, the nearest first" in pinakes("tables", "labels")
    assert "rekognition_labels" in pinakes("tables")
    (labels,) = json.loads(pinakes("tables", "labels", "--json"))
    assert [column["name"] for column in labels["columns"]][-2:] == ["ancestors", "categories"]
    there = {one["name"]: one for one in json.loads(pinakes("tables", "--catalog", url, "--json"))}
    assert "faces" not in there
    assert "latest_faces" not in there
    assert (there["labels"]["rows"], there["labels"]["a_row_is"]) == (1, labels["a_row_is"])
    assert there["labels"]["columns"] == labels["columns"]
    assert there["labels_all"]["rows"] is None
    with pytest.raises(SpecError, match=r"no table or view lables; there are: .*labels"):
        pinakes("tables", "lables")


def test_a_query_of_a_table_that_is_not_there_says_what_fills_it(url: str) -> None:
    for query, said in (
        ("FROM texts", "no table texts in .*: texts is filled by the operator text"),
        ("FROM latest_people", "people is filled by `pinakes faces name`; faces is filled by the operator faces"),
        ("FROM lables", "`pinakes tables --catalog ...` lists"),
    ):
        with pytest.raises(QueryError, match=said):
            pinakes("sql", query, "--catalog", url)
    assert filled_by("spans") == "the operators labels and moderation"
    assert filled_by("lables") is None


def test_sql_looks_back(url: str) -> None:
    count = ("sql", "SELECT count(*) AS rows FROM labels_all", "--catalog", url, "--json")
    assert json.loads(pinakes(*count, "--at", "1")) == {"rows": 2}
    with pytest.raises(QueryError, match="no commit 7"):
        pinakes(*count, "--at", "7")


def test_the_reference_of_the_readme_is_that_of_the_schemas(every: dict[str, Described]) -> None:
    """Shared columns, which the text beside it names, are left out there."""
    parts = re.findall(r"^\| table \| a row is \|.*\n\|[-|]*\n((?:\|.*\n)+)", README, flags=re.MULTILINE)
    rows = re.findall(r"^\| `(\w+)` \| [^|]* \| ([^|]*) \|$", "".join(parts), flags=re.MULTILINE)
    stated = {name: re.sub(r" \([^)]*\)", "", columns).split(", ") for name, columns in rows}
    shared = {*SHARED.names}
    tables = {one.name for one in every.values() if one.kind == "table"}
    assert set(stated) == tables
    for name in tables:
        columns = [column.name for column in every[name].columns]
        # Of tables that begin with the item's place the text beside it names what they share.
        own = [one for one in columns if one not in shared] if columns[0] == "uri" else columns
        assert stated[name] == own, name
    for one in every.values():
        if one.kind == "view" and not one.name.startswith("latest_"):
            assert f"`{one.name}`" in README
