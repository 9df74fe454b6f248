"""Conditions on faces: Milvus, Lite and a real server, finds the rows that DuckDB finds; what is none is refused."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from pinakes.catalog.errors import CollectionError, QueryError
from pinakes.catalog.index_choice import Index
from pinakes.catalog.milvus import FIELDS, Vectors, opened
from pinakes.catalog.search_condition import milvus_filter
from tests.milvus_server import milvus

__all__ = ["milvus"]

URIS = [
    "s3://bucket/2019/a.jpg",
    "s3://bucket/2020/b.jpg",
    '/archive/2019/it\'s "so".jpg',
    "/archive/50% off_now.jpg",
    "/archive/50x offxnow.jpg",
    "/archive/back\\slash.jpg",
    "/archive/new\nline\tand\rmore.jpg",
    "/archive/Füße 子供 \U0001f600.jpg",
    "/archive/Fü",
    "/archive/\U0010ffff\U0010ffff",
    "/archive/\U0010ffff",
    "\ud7ff, before the surrogates",
    "\ue000, after them",
    '") or face_id != ("',
    "a",
    "A",
    " ",
]
SOURCES = ["s3://bucket", None, "/archive", "/archiv", "/archive/"]
AGES = [None, 0.0, 30.1, 30.100000381469727, 29.9, -1.5, 61.0, 1e-7, 30.0]
TIMES = [
    None,
    datetime(2019, 1, 1, tzinfo=UTC),
    datetime(2018, 12, 31, 23, 59, 59, 999000, tzinfo=UTC),
    datetime(2019, 1, 1, 0, 0, 0, 1000, tzinfo=UTC),
    datetime(1965, 5, 5, 12, tzinfo=UTC),
    datetime(2024, 2, 29, 18, 30, tzinfo=UTC),
]
FRAMES = [None, None, 0, 1000, 40, -5, 2**40]
GENDERS = ["female", "male", None]
COUNT = 120

CONDITIONS = [
    "age > 30",
    "age = 30.1",
    "age <> 30.1",
    "age != 30.1 OR age IS NULL",
    "30 >= age",
    "NOT age > 30",
    "NOT (age > 30 AND gender = 'female')",
    "NOT (age <= 30 OR NOT gender = 'female')",
    "age BETWEEN -1.5 AND 30.1",
    "age NOT BETWEEN 0 AND 30",
    "age > -1e31",
    "age < 1e-6 AND age >= 0.0000001",
    "age IN (0, 30.1, 61)",
    "age NOT IN (0, 30.1, -1.5)",
    "NOT age IN (0)",
    "age > CAST('29' AS INTEGER) AND confidence < .5",
    "gender = 'female'",
    "gender <> 'female'",
    "gender IN ('male', 'other')",
    "gender NOT IN ('male')",
    "gender IS NULL",
    "gender IS NOT NULL AND NOT gender IS NULL",
    "gender >= 'm'",
    "gender < 'm'",
    "NOT (NOT (gender = 'male'))",
    "captured_at >= '2019-01-01'",
    "captured_at < DATE '2019-01-01'",
    "captured_at = TIMESTAMP '2019-01-01 00:00:00'",
    "captured_at > TIMESTAMP '2019-01-01 00:00:00'",
    "captured_at <> '2019-01-01'",
    "captured_at >= '2019-01-01T02:00:00+02:00'",
    "captured_at > TIMESTAMP '2018-12-31 23:59:59.9995'",
    "captured_at <= TIMESTAMP '2018-12-31 23:59:59.9995'",
    "captured_at = '2018-12-31 23:59:59.9995' OR captured_at BETWEEN '1960-01-01' AND '1970-01-01'",
    "captured_at <> '2018-12-31 23:59:59.9995'",
    "captured_at IS NULL AND frame_ms IS NULL",
    "captured_at IN ('2019-01-01', '2024-02-29 18:30:00', '2018-12-31 23:59:59.9995')",
    "frame_ms < 1000",
    "frame_ms > 39.5 AND frame_ms <= 40.5",
    "frame_ms >= 39.5 AND NOT frame_ms >= 40.5",
    "frame_ms = 39.5",
    "frame_ms <> 39.5",
    "frame_ms IN (40, 40.5, -5)",
    "frame_ms NOT IN (40.5)",
    "frame_ms > -9000000000000001 AND frame_ms < 1099511627777",
    "source = 's3://bucket' AND age > 10 OR source IS NULL AND NOT age < 30",
    "uri LIKE 's3://bucket/2019/%'",
    "uri NOT LIKE 's3://bucket/2019/%'",
    "source NOT LIKE '/archive%'",
    "uri LIKE '/archive/50\\% off\\_%' ESCAPE '\\'",
    "uri NOT LIKE '/archive/50!% off!_%' ESCAPE '!'",
    "uri LIKE 'a'",
    "source NOT LIKE '/archive'",
    "source LIKE '%'",
    "source NOT LIKE '%'",
    "source LIKE '%%'",
    "uri LIKE '/archive/back\\%'",
    "uri LIKE '/archive/Fü%'",
    "uri LIKE '\ud7ff%'",
    "uri NOT LIKE '\ud7ff%'",
    "uri LIKE '/archive/\U0010ffff%'",
    "uri > '/archive/F' AND uri <= '/archive/Fü'",
    "uri = '/archive/2019/it''s \"so\".jpg'",
    "uri = '/archive/new\nline\tand\rmore.jpg'",
    "uri IN ('/archive/back\\slash.jpg', '/archive/Füße 子供 \U0001f600.jpg')",
    "uri = '\") or face_id != (\"'",
    "uri = '\\'",
    "uri <> '\\\"'",
    'URI = $$a$$ OR "left" < 0.1 -- and so on',
    "source >= ''",
    "source < ''",
]
#: Those that Milvus 2.3 cannot say.
ANYWHERE = [
    "uri LIKE '%/2019/%'",
    "uri NOT LIKE '%/2019/%'",
    "source NOT LIKE '%b%'",
    "uri LIKE '%.jpg'",
    "uri LIKE '_'",
    "uri LIKE '/archive/__\\% off_now%' ESCAPE '\\'",
    "uri LIKE '%50!% off%' ESCAPE '!'",
    "uri LIKE '%off!_now%' ESCAPE '!'",
    "uri LIKE '%it''s \"so\"%'",
    "uri LIKE '%子_ %'",
    "uri LIKE '%line%more.jpg'",
    "uri LIKE '%(%' OR uri LIKE '%.%' AND NOT uri LIKE '%s%'",
]

REFUSED = {
    "age > 3; DELETE FROM t": "one condition",
    "age > 3 LIMIT 1": "one condition",
    "age > 3 ORDER BY age": "one condition",
    "age > 3 GROUP BY age": "one condition",
    "age > 3 UNION SELECT 1": "one condition",
    "age > 3 USING SAMPLE 3": "one condition",
    "": "syntax error",
    "age >": "syntax error",
    "age > 3)": "syntax error",
    "vector > 3": "no column vector; there are: face_id, uri",
    "t.age > 3": "no column t.age",
    "age > (SELECT 1)": "subquery: it takes",
    "age IN (SELECT age FROM t)": "subquery: it takes",
    "EXISTS (SELECT 1)": "subquery: it takes",
    "lower(uri) = 'a'": "lower(): on one side",
    "age > random()": "random(): it takes",
    "read_text('/etc/passwd') = 'a'": "read_text(): on one side",
    "uri = (SELECT content FROM read_text('/etc/passwd'))": "subquery: it takes",
    "uri ILIKE 'a%'": "~~*(): it takes",
    "uri SIMILAR TO 'a'": "it takes",
    "age": "it takes",
    "TRUE": "it takes",
    "age > 3 AND TRUE": "it takes",
    "1 = 1": "on one side of a comparison stands a column",
    "age = confidence": "compared with a column",
    "age + 1 > 3": "on one side",
    "CASE WHEN age > 3 THEN age > 4 END": "it takes",
    "age = NULL": "IS NULL",
    "age NOT IN (1, NULL)": "IS NULL",
    "age > 'thirty'": "age is a number",
    "age > '30'": "age is a number",
    "age = true": "age is a number",
    "age > 1e39": "more than age can be",
    "age = 'nan'::FLOAT": "age is a number",
    "frame_ms > 99999999999999999999": "more than frame_ms can be",
    "uri = 3": "uri is a text",
    "captured_at > 2019": "captured_at is a time",
    "captured_at > 'yesterday'": "timestamp",
    "captured_at > 'infinity'": "no time",
    "age LIKE '3%'": "age is no text",
    "uri LIKE 'a!' ESCAPE '!'": "ends with its escape",
    "uri LIKE age": "compared with a column",
    "uri LIKE '%a\\b%'": "backslash",
    "age > ?": "it takes",
    "age > $name": "it takes",
}


def faces() -> pa.Table:
    """Every value beside every other, more or less."""
    drawn = np.random.default_rng(6)
    columns: dict[str, Any] = {
        "face_id": [f"{number:032x}" for number in range(COUNT)],
        "uri": [URIS[number % len(URIS)] for number in range(COUNT)],
    }
    for name, values in {"source": SOURCES, "captured_at": TIMES, "frame_ms": FRAMES, "age": AGES}.items():
        columns[name] = [values[number] for number in drawn.integers(len(values), size=COUNT)]
    columns["gender"] = [GENDERS[number] for number in drawn.integers(3, size=COUNT)]
    for name in ("confidence", "left", "top", "width", "height"):
        columns[name] = drawn.random(COUNT, np.float32)
    kinds = {"captured_at": pa.timestamp("us", tz="UTC")}
    return pa.table(
        {name: pa.array(values, kinds.get(name, FIELDS.field(name).type)) for name, values in columns.items()}
    )


def fill(vectors: Vectors) -> None:
    rows = faces()
    milliseconds = pc.divide(rows["captured_at"].cast(pa.int64()), 1000)
    # Arrow rounds towards 0; none of these lies between two milliseconds.
    rows = rows.set_column(rows.column_names.index("captured_at"), "captured_at", milliseconds)
    directions = np.random.default_rng(7).random((COUNT, 4), np.float32)
    rows = rows.append_column("vector", pa.array(list(directions), pa.list_(pa.float32())))
    vectors.create(4, Index("FLAT", {}, {}, "few faces"))
    vectors.load()
    vectors.add(rows, may_be_there=False)
    assert vectors.count() == COUNT


@pytest.fixture(scope="module")
def lite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vectors]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PINAKES_CACHE", str(tmp_path_factory.mktemp("lite")))
        with opened("conditions", None) as vectors:
            fill(vectors)
            yield vectors


@pytest.fixture(scope="module")
def server(milvus: str) -> Iterator[Vectors]:
    with opened("conditions", milvus) as vectors:
        fill(vectors)
        yield vectors


@pytest.fixture(scope="module")
def database() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("faces", faces())
        yield connection


def by_milvus(vectors: Vectors, expression: str) -> set[str]:
    (matches,) = vectors.search(np.ones((1, 4), np.float32), COUNT, parameters={}, condition=expression)
    return {match["face_id"] for match in matches}


def differences(vectors: Vectors, database: duckdb.DuckDBPyConnection, conditions: list[str]) -> list[str]:
    wrong = []
    for condition in conditions:
        expression = milvus_filter(condition)
        right = {face_id for (face_id,) in database.sql("FROM faces").filter(condition).project("face_id").fetchall()}
        found = by_milvus(vectors, expression)
        if found != right:
            wrong.append(f"{condition} as {expression}: {len(found - right)} too many, {len(right - found)} missing")
    return wrong


def test_milvus_lite_finds_what_duckdb_finds(lite: Vectors, database: duckdb.DuckDBPyConnection) -> None:
    assert differences(lite, database, [*CONDITIONS, *ANYWHERE]) == []


def test_a_server_finds_what_duckdb_finds(server: Vectors, database: duckdb.DuckDBPyConnection) -> None:
    assert differences(server, database, CONDITIONS) == []


def test_what_an_old_server_cannot_find_is_said(server: Vectors) -> None:
    for condition in ANYWHERE:
        with pytest.raises(QueryError, match="its beginning only"):
            milvus_filter(condition, anywhere=False)
    with pytest.raises(CollectionError, match="only prefix"):
        by_milvus(server, milvus_filter(ANYWHERE[0]))
    assert milvus_filter("uri LIKE '50!%%' ESCAPE '!'", anywhere=False) == '(uri >= "50%" and uri < "50&")'


def test_the_conditions_tell_faces_apart(database: duckdb.DuckDBPyConnection) -> None:
    """Else two wrong answers could be equal: nearly all of them hold for some faces and not for others."""
    telling = 0
    for condition in [*CONDITIONS, *ANYWHERE]:
        rows = database.sql("FROM faces").filter(condition).aggregate("count(*)").fetchall()
        telling += 0 < rows[0][0] < COUNT
    assert telling >= len(CONDITIONS) + len(ANYWHERE) - 8


@pytest.mark.parametrize("condition", REFUSED)
def test_what_is_no_condition_is_refused(condition: str) -> None:
    with pytest.raises(QueryError) as refused:
        milvus_filter(condition)
    assert REFUSED[condition] in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_text_stays_a_text(lite: Vectors) -> None:
    """Whatever stands between its quotes, the expression keeps its shape."""
    for text in ('" or face_id != "', "\\", '\\"', '" or "" == "', "\\\\", "\n", "%", "$meta", "]) or (1 == 1", "'"):
        written = text.replace("'", "''")
        for condition in (f"uri = '{written}'", f"uri IN ('{written}')", f"uri LIKE '{written}zzz%'"):
            assert by_milvus(lite, milvus_filter(condition)) == set(), condition


def test_other_columns_can_be_named() -> None:
    assert milvus_filter("Size > 3", {"size": "integer"}) == "size > 3"
    with pytest.raises(QueryError, match="there are: size"):
        milvus_filter("age > 3", {"size": "integer"})


def test_a_long_list_is_quick() -> None:
    started = datetime.now(UTC)
    listed = ", ".join(f"'{number}'" for number in range(1000))
    assert milvus_filter(f"uri NOT IN ({listed})").count('"') == 2002
    assert datetime.now(UTC) - started < timedelta(seconds=10)
