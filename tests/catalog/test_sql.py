"""SQL over a catalogue: what it cannot do, and what the views `latest_*` show."""

import os
import signal
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pinakes.catalog import Catalog, commits
from pinakes.catalog.errors import NoTableError, QueryError
from pinakes.catalog.schema import result_schema
from pinakes.operators.media import Media
from pinakes.operators.operator import Operator
from tests.jobs.small_run import small_jpeg, small_run


class LaterMedia(Media):
    """As `media`, of a later version: another fingerprint."""

    version = 2


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    folder = tmp_path / "archive"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.jpg").write_bytes(small_jpeg(number))
    return folder


@pytest.fixture
def url(tmp_path: Path) -> Path:
    return tmp_path / "catalog"


def rows(url: Path, query: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = Catalog(str(url)).sql(query).to_pylist()
    return found


REFUSED = [
    "SELECT * FROM '{secret}'",
    "SELECT * FROM read_csv('{secret}')",
    "SELECT * FROM read_text('{secret}')",
    "SELECT * FROM read_blob('{secret}')",
    "SELECT * FROM read_parquet('{catalog}/ledger/*.parquet')",
    "SELECT * FROM glob('{folder}/*')",
    "SELECT * FROM 's3://bucket/file.parquet'",
    "SELECT * FROM 'https://127.0.0.1/file.csv'",
    "COPY ledger TO '{folder}/copy.csv'",
    "SELECT 1; COPY ledger TO '{folder}/copy.csv'",
    "EXPORT DATABASE '{folder}/export'",
    "IMPORT DATABASE '{folder}/export'",
    "ATTACH '{folder}/other.duckdb'",
    "INSTALL httpfs",
    "LOAD httpfs",
    "SET enable_external_access = true",
    "SET lock_configuration = false",
    "RESET lock_configuration",
    "SET python_enable_replacements = true",
    "SET memory_limit = '1TB'",
    "SET temp_directory = '{folder}/spill'",
    "SET disabled_filesystems = ''",
    "PRAGMA profiling_output = '{folder}/profile.json'",
    "PRAGMA log_query_path = '{folder}/queries.log'",
    "PRAGMA import_database('{folder}')",
    "CALL enable_logging(storage = 'file', storage_path = '{folder}/log')",
    "CALL sqlite_attach('{folder}/other.sqlite')",
    "CREATE PERSISTENT SECRET stolen (TYPE s3, KEY_ID 'a')",
    "CREATE TYPE stolen AS ENUM (SELECT content FROM read_text('{secret}'))",
    "FORCE INSTALL httpfs",
    "UPDATE EXTENSIONS",
    "SELECT * FROM duckdb_extensions()",
    "SELECT * FROM sniff_csv('{secret}')",
    "SELECT * FROM read_json('{secret}')",
    "SELECT * FROM read_ndjson_objects('{secret}')",
    "SELECT * FROM read_duckdb('{folder}/other.duckdb')",
    "SELECT * FROM parquet_file_metadata('{catalog}/ledger/x.parquet')",
    "SELECT * FROM query('SELECT * FROM read_text(''{secret}'')')",
    "SELECT content FROM read_text('/proc/self/environ')",
    "SELECT getenv('HOME')",
    "SELECT * FROM treasure",
    "INSERT INTO ledger SELECT * FROM ledger",
    "DELETE FROM ledger",
    "UPDATE media SET uri = ''",
    "",
    ";",
    "selec 1",
]


def test_it_reads_and_writes_nothing_outside(archive: Path, url: Path, tmp_path: Path) -> None:
    small_run(archive, url)
    catalog = Catalog(str(url))
    (tmp_path / "secret.csv").write_text("a\n1\n")
    # A variable that DuckDB would find, were it allowed to look.
    treasure = catalog.sql("SELECT 42 AS a")
    before = sorted(os.walk(tmp_path))
    for statement in REFUSED:
        query = statement.format(secret=tmp_path / "secret.csv", folder=tmp_path, catalog=url)
        with pytest.raises(QueryError) as error:
            catalog.sql(query)
        assert str(error.value), query
        assert "\n" not in str(error.value)
    assert sorted(os.walk(tmp_path)) == before
    assert treasure.num_rows == 1


def test_a_statement_changes_its_own_session_at_most(archive: Path, url: Path) -> None:
    small_run(archive, url)
    for statement in ("DROP VIEW latest_media", "CREATE OR REPLACE VIEW ledger AS SELECT 1", "CREATE TABLE t (a INT)"):
        rows(url, statement)
    assert len(rows(url, "FROM latest_media")) == len(rows(url, "FROM ledger")) == 3
    with pytest.raises(QueryError, match="there is no table t in"):
        rows(url, "FROM t")


def test_what_does_not_fit_in_memory_goes_to_the_temporary_folder(url: Path, tmp_path: Path, monkeypatch: Any) -> None:
    Catalog(str(url), create=True)
    (tmp_path / "spill").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "spill"))
    monkeypatch.chdir(tmp_path / "here")
    (setting,) = rows(url, "SELECT current_setting('temp_directory') AS folder")
    assert setting["folder"].startswith(str(tmp_path / "spill"))
    assert list((tmp_path / "here").iterdir()) == []


def test_a_query_that_runs_away_ends_with_ctrl_c_and_leaves_no_folder(
    url: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    Catalog(str(url), create=True)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "spill"))
    (tmp_path / "spill").mkdir()
    seconds = threading.Timer(0.3, os.kill, [os.getpid(), signal.SIGINT])
    # What a shell starts in the background has it ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    seconds.start()
    with pytest.raises(KeyboardInterrupt):
        rows(
            url,
            "SELECT count(*) FROM range(1000000) AS one, range(100000000) AS other WHERE one.range + other.range <> 3",
        )
    signal.signal(signal.SIGINT, before)
    assert list((tmp_path / "spill").iterdir()) == []


def test_a_table_with_any_name_is_a_name_and_no_statement(url: Path, tmp_path: Path) -> None:
    catalog = Catalog(str(url), create=True)
    name = f"x\" AS SELECT 1; COPY (SELECT 1) TO '{tmp_path.name}"
    catalog.table(name, result_schema(Media.tables["media"]))
    assert rows(url, 'SELECT count(*) AS rows FROM "latest_' + name.replace('"', '""') + '"') == [{"rows": 0}]


def test_a_table_that_is_not_there_is_named_with_what_it_would_be_made_from(url: Path) -> None:
    Catalog(str(url), create=True)
    for query, tables in (
        ("FROM objects", ("objects",)),
        ("FROM latest_faces", ("faces",)),
        ("FROM latest_people", ("people", "faces")),
        ("FROM rekognition_labels", ("labels", "objects")),
        ("FROM labls", ("labls",)),
    ):
        with pytest.raises(NoTableError, match="there is no table") as error:
            rows(url, query)
        assert error.value.tables == tables


def test_a_changed_file_supersedes_itself(archive: Path, url: Path) -> None:
    small_run(archive, url)
    old = rows(url, "SELECT content_id FROM latest_media WHERE uri LIKE '%/1.jpg'")
    (archive / "1.jpg").write_bytes(small_jpeg(10) + b"more")
    assert small_run(archive, url).changed == 1
    new = rows(url, "SELECT content_id FROM latest_media WHERE uri LIKE '%/1.jpg'")
    assert len(new) == 1
    assert new != old
    assert len(rows(url, "FROM latest_media")) == len(rows(url, "FROM latest_ledger")) == 3
    assert len(rows(url, "FROM media")) == 4

    # One that cannot be read any more has no results, whatever it once had.
    (archive / "1.jpg").write_bytes(b"")
    small_run(archive, url)
    assert len(rows(url, "FROM latest_media")) == 2
    assert rows(url, "SELECT error_code FROM latest_ledger WHERE uri LIKE '%/1.jpg'") == [{"error_code": "empty"}]


def test_a_newer_fingerprint_supersedes_the_older(archive: Path, url: Path) -> None:
    small_run(archive, url)
    later: Mapping[str, Operator] = {"media": LaterMedia()}
    assert small_run(archive, url, later).again == 3
    assert rows(url, "SELECT model, count(*) AS rows FROM latest_media GROUP BY 1") == [{"model": "media-2", "rows": 3}]
    assert len(rows(url, "FROM media")) == 6
    # Back to the earlier one: nothing to look at, and it counts again.
    assert small_run(archive, url).due == 0
    assert rows(url, "SELECT model, count(*) AS rows FROM latest_media GROUP BY 1") == [{"model": "media-1", "rows": 3}]


def test_a_query_beside_a_commit_sees_all_of_it_or_nothing(
    archive: Path, url: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tables are opened one after the other, and a commit is applied in between, in whatever order they come."""
    small_run(archive, url)
    (archive / "0.jpg").write_bytes(small_jpeg(30) + b"newer")
    opened, open_table = [], Catalog.table

    def table(self: Catalog, name: str, *schema: Any) -> Any:
        found = open_table(self, name, *schema)
        opened.append(name)
        if len(opened) == 1:
            monkeypatch.undo()
            small_run(archive, url)
        return found

    catalog = Catalog(str(url))
    monkeypatch.setattr(Catalog, "table", table)
    found = catalog.sql("SELECT count(*) AS rows FROM latest_media").to_pylist()
    assert opened == ["ledger"]
    assert found == [{"rows": 3}]


def test_a_retry_supersedes_the_failure(archive: Path, url: Path) -> None:
    broken = archive / "2.jpg"
    whole, stat = broken.read_bytes(), broken.stat()
    broken.write_bytes(bytes(len(whole)))
    os.utime(broken, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    small_run(archive, url)
    assert len(rows(url, "FROM latest_media")) == 2
    failed = "SELECT error_code, attempt FROM latest_ledger WHERE status = 'failed'"
    assert rows(url, failed) == [{"error_code": "unsupported_format", "attempt": 1}]

    assert small_run(archive, url, failed_only=True).due == 1
    assert rows(url, failed) == [{"error_code": "unsupported_format", "attempt": 2}]

    # As a disk that reads again: the bytes are other ones, the version is the same.
    broken.write_bytes(whole)
    os.utime(broken, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert small_run(archive, url).due == 0
    assert small_run(archive, url, failed_only=True).due == 1
    assert rows(url, failed) == []
    assert len(rows(url, "FROM latest_media")) == 3
    assert len(rows(url, "FROM ledger")) == 5


def test_a_half_applied_commit_is_not_seen_and_is_finished_by_the_next_writer(
    archive: Path, url: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_run(archive, url)
    (archive / "1.jpg").write_bytes(small_jpeg(10) + b"more")
    apply = commits._apply

    def power_cut(storage: Any, table: str, *arguments: Any) -> None:
        if table == "ledger":
            raise KeyboardInterrupt
        apply(storage, table, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(commits, "_apply", power_cut)
        with pytest.raises(KeyboardInterrupt):
            small_run(archive, url)

    current = "SELECT uri, content_id, n FROM latest_media ORDER BY uri"
    assert len(rows(url, "FROM media")) == 4
    assert [row["n"] for row in rows(url, current)] == [1, 1, 1]
    assert len(rows(url, "FROM latest_ledger")) == 3

    assert small_run(archive, url).due == 0
    assert [row["n"] for row in rows(url, current)] == [1, 2, 1]
