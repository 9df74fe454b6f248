"""What opening a catalogue says when it is none, of another time, or broken; and that it then touches nothing."""

import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pinakes.catalog import Catalog, people_rows
from pinakes.catalog import catalog as catalog_module
from pinakes.catalog.errors import CorruptCatalogError, NewerCatalogError, NoCatalogError
from pinakes.catalog.face_collections import append
from pinakes.catalog.face_tables import TABLES
from pinakes.catalog.metering import USAGE
from pinakes.catalog.schema import OWN_TABLES, result_schema
from pinakes.catalog.status import status
from pinakes.jobs import plan
from pinakes.operators.media import Media
from tests.faults.committing import drive
from tests.jobs.small_run import small_jpeg, small_run


def contents(folder: Path) -> dict[str, bytes | None]:
    """Every path below a folder, and the bytes of every file."""
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def said(error: pytest.ExceptionInfo[Exception]) -> str:
    text = str(error.value)
    assert text
    assert "\n" not in text
    return text


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two commits of fourteen items by two operators."""
    url = tmp_path_factory.mktemp("made") / "catalog"
    drive(str(url), 14, seed=1)
    return url


@pytest.fixture
def catalog(made: Path, tmp_path: Path) -> Path:
    """A copy of it, to be broken."""
    return Path(shutil.copytree(made, tmp_path / "catalog"))


def test_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(NoCatalogError, match="pinakes run") as error:
        Catalog(str(tmp_path / "nowhere"))
    assert "nowhere" in said(error)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["holiday.jpg", "labels", "src/main.py"])
def test_a_folder_with_other_things_in_it_is_refused_and_left_alone(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(b"mine")
    before = contents(tmp_path)
    with pytest.raises(NoCatalogError, match="not empty") as error:
        Catalog(str(tmp_path), create=True)
    assert name.split("/")[0] in said(error)
    assert contents(tmp_path) == before


def test_one_half_made_by_a_killed_process_is_completed(made: Path, tmp_path: Path) -> None:
    Catalog(str(tmp_path / "catalog"), create=True)
    (tmp_path / "catalog" / "_pinakes" / "catalog.json").unlink()
    shutil.rmtree(tmp_path / "catalog" / "runs")
    assert Catalog(str(tmp_path / "catalog"), create=True).tables() == ["commits", "ledger", "runs"]


def test_one_of_a_newer_pinakes_is_left_alone(catalog: Path) -> None:
    (catalog / "_pinakes" / "catalog.json").write_text('{"format": 2, "pinakes": "7.0"}')
    before = contents(catalog)
    for create in (False, True):
        with pytest.raises(NewerCatalogError, match=r"pinakes 7\.0.*update pinakes") as error:
            Catalog(str(catalog), create=create)
        said(error)
    assert contents(catalog) == before


@pytest.mark.parametrize("about", [b"", b"{", b"[]", b"null", b'{"format": null}', b'{"format": "one"}', b"\xff\xfe\0"])
def test_an_unreadable_catalog_json(catalog: Path, about: bytes) -> None:
    file = catalog / "_pinakes" / "catalog.json"
    file.write_bytes(about)
    before = contents(catalog)
    with pytest.raises(CorruptCatalogError, match=r"catalog\.json") as error:
        Catalog(str(catalog), create=True)
    assert '{"format": 1}' in said(error)
    assert contents(catalog) == before
    file.write_text('{"format": 1}')
    assert Catalog(str(catalog)).sql("FROM latest_shapes").num_rows == 28


def first(folder: Path, pattern: str) -> Path:
    return min(folder.glob(pattern))


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:300])


def spoil(file: Path) -> None:
    """Zeros in the place of every column; the footer stays."""
    data = file.read_bytes()
    footer = 8 + int.from_bytes(data[-8:-4], "little")
    file.write_bytes(data[:4] + bytes(len(data) - footer - 4) + data[-footer:])


#: What happens to a table, and whether its Delta log is what suffers.
HARM: dict[str, Callable[[Path], object]] = {
    "a part is gone": lambda table: first(table, "*.parquet").unlink(),
    "a part is cut": lambda table: cut(first(table, "*.parquet")),
    "a part is spoiled": lambda table: spoil(first(table, "*.parquet")),
    "a log entry is garbage": lambda table: first(table, "_delta_log/*.json").write_text("{garbage"),
    "a log entry is gone": lambda table: first(table, "_delta_log/*.json").unlink(),
    "the log is gone": lambda table: shutil.rmtree(table / "_delta_log"),
}


@pytest.mark.parametrize("harm", HARM)
@pytest.mark.parametrize("table", ["shapes", "ledger"])
def test_a_broken_table_is_named(catalog: Path, tmp_path: Path, table: str, harm: str) -> None:
    HARM[harm](catalog / table)
    before = contents(catalog)
    with pytest.raises(CorruptCatalogError, match=table) as error:
        Catalog(str(catalog)).sql("SELECT * FROM latest_shapes")
    said(error)
    if table == "ledger":
        (tmp_path / "photo.jpg").write_bytes(small_jpeg())
        with pytest.raises(CorruptCatalogError, match="ledger") as error:
            plan(tmp_path / "photo.jpg", catalog, ["media"])
        said(error)
        with pytest.raises(CorruptCatalogError, match="ledger") as error:
            status(Catalog(str(catalog)))
        said(error)
    assert contents(catalog) == before


@pytest.mark.parametrize("table", ["ledger", "commits"])
def test_a_table_of_its_own_that_is_gone_is_not_made_anew(catalog: Path, table: str) -> None:
    # An empty one in its place would have every item looked at again, or commits that are never added.
    shutil.rmtree(catalog / table)
    before = contents(catalog)
    for use in (lambda: Catalog(str(catalog)).sql("FROM runs"), lambda: Catalog(str(catalog)).finish()):
        with pytest.raises(CorruptCatalogError, match=table) as error:
            use()
        said(error)
    assert contents(catalog) == before


def test_a_file_that_somebody_left_in_the_catalogue_harms_nothing(catalog: Path) -> None:
    (catalog / "answer.parquet").write_bytes(b"an answer of last week")
    (catalog / ".DS_Store").write_bytes(b"")
    found = Catalog(str(catalog))
    assert found.tables() == ["colours", "commits", "ledger", "runs", "shapes", "usage"]
    assert found.sql("FROM latest_shapes").num_rows == 28
    assert {table["name"]: table["rows"] for table in status(found)["tables"]}["shapes"] == 28


def test_tables_that_describe_their_columns_in_older_words_take_rows(tmp_path: Path, monkeypatch: Any) -> None:
    def older(schema: pa.Schema) -> pa.Schema:
        return pa.schema([field.with_metadata({"description": "as it was called once"}) for field in schema])

    with monkeypatch.context() as before:
        before.setattr(catalog_module, "OWN_TABLES", {name: older(schema) for name, schema in OWN_TABLES.items()})
        found = Catalog(str(tmp_path), create=True)
        for name, schema in {**TABLES, "usage": USAGE, "media": result_schema(Media.tables["media"])}.items():
            found.table(name, older(schema))
    (tmp_path / "photo.jpg").write_bytes(small_jpeg())
    small_run(tmp_path / "photo.jpg", tmp_path)
    assert found.sql("SELECT count(*) AS n FROM usage, latest_media, runs").to_pylist() != [{"n": 0}]
    row = {"search_id": "0", "searched_at": datetime.now(UTC), "searched_by": "x", "collection": "c", "threshold": 0.5}
    append(found, "audit", pa.Table.from_pylist([row], schema=TABLES["audit"]))
    person = {"collection": "c", "person_id": "0", "how": "reference", "recorded_at": datetime.now(UTC)}
    people_rows.append(found, lambda table: pa.Table.from_pylist([person], schema=TABLES["people"]))
    people_rows.rewrite(found, "c", lambda rows: pa.concat_tables([rows, rows]))
    assert found.sql("SELECT count(*) AS n FROM people").to_pylist() == [{"n": 2}]
