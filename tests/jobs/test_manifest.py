import json
import os
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pinakes.jobs.errors import SourceError
from pinakes.jobs.listing import LISTING_SCHEMA, Listing
from tests.s3 import Bucket


def listed(source: object) -> list[dict[str, object]]:
    return pa.Table.from_batches(list(Listing(str(source)).batches()), LISTING_SCHEMA).to_pylist()


def uris(source: object) -> list[object]:
    """What a manifest without a bad line lists, in its order."""
    rows = listed(source)
    assert [row["error_message"] for row in rows if row["error_code"]] == []
    return [row["uri"] for row in rows]


def problems(source: object) -> dict[int, str]:
    """The bad lines: number, and what is said of it after where it is."""
    found = {}
    for row in listed(source):
        if row["error_code"]:
            assert row["error_code"] == "bad_manifest_line"
            assert row["version"]
            manifest, _, number = str(row["uri"]).partition("#line=")
            where = f"{manifest} line {number}: "
            assert str(row["error_message"]).startswith(where)
            found[int(number)] = str(row["error_message"]).removeprefix(where)
    return found


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with three pictures, and room for manifests beside it."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("a.jpg", "é è.jpg", "c"):
        (folder / name).write_bytes(b"x" * len(name))
    return folder


def test_json_lines(photos: Path) -> None:
    path = photos.parent / "list.jsonl"
    lines = [
        {"source-ref": "photos/a.jpg", "label": 3, "label-metadata": {"job-name": "x"}},
        {"source-ref": f"{photos}/é è.jpg", "size": 7},
        {"source-ref": f"file://{photos}/../photos/c"},
        {"source-ref": "photos/gone.jpg"},
        {"source-ref": "photos/given.jpg", "version": "7", "size": 12},
        {"source-ref": "https://example.com/p.jpg?q=1", "etag": '"abc"'},
    ]
    path.write_text("\ufeff" + "\r\n\r\n".join(json.dumps(line) for line in lines), "utf-8")
    names = ("a.jpg", "é è.jpg", "c", "gone.jpg", "given.jpg")
    assert uris(path) == [f"file://{photos}/{name}" for name in names] + ["https://example.com/p.jpg?q=1"]
    by_folder = {row["uri"]: row for row in listed(photos)}
    rows = listed(path)
    assert rows[:3] == [by_folder[row["uri"]] for row in rows[:3]]
    assert [(row["version"], row["size"], row["etag"]) for row in rows[3:]] == [
        ("missing", None, None),
        ("7", 12, None),
        ("abc", None, "abc"),
    ]


BAD_JSON = {
    b"not json": "not JSON",
    b"[1]": "not a JSON object",
    b"[" * 100_000: "not JSON",
    b'{"label": 1}': "no source-ref",
    b'{"source-ref": 5}': "not text",
    b'{"source-ref": ""}': "not text",
    b'{"source-ref": "\\ud800.jpg"}': "not valid text",
    b'{"source-ref": "a\\u0000.jpg"}': "zero byte",
    b'{"source-ref": "nope://a/b.jpg"}': "not a protocol",
    b'{"source-ref": "zip://b.jpg::s3://a/c.zip"}': "chained",
    b'{"source-ref": "reference://a/b.jpg"}': "not a protocol",
    b'{"source-ref": "s3:///"}': "names no file",
    b'{"source-ref": "file://a.jpg"}': "not an absolute path",
    b'{"source-ref": "photos"}': "not a file",
    b'{"source-ref": "/dev/zero"}': "not a file",
    b'{"source-ref": "\xff.jpg"}': "not UTF-8",
    b'{"source-ref": "' + b"a" * (1 << 20) + b'"}': "longer than 1048576 bytes",
    b'{"source-ref": "' + b"a" * (5 << 19) + b'"}': "longer than 1048576 bytes",
}


def test_a_bad_line_costs_that_line_only(photos: Path) -> None:
    good = b'{"source-ref": "photos/a.jpg"}'
    path = photos.parent / "list.manifest"
    path.write_bytes(b"".join(line + b"\n" + good + b"\n" for line in BAD_JSON) + b"the end")
    found = problems(path)
    assert list(found) == list(range(1, 2 * len(BAD_JSON) + 2, 2))
    for said, expected in zip(found.values(), [*BAD_JSON.values(), "not JSON"], strict=True):
        assert expected in said
        assert len(said) < 400
    rows = listed(path)
    assert [row["uri"] for row in rows if not row["error_code"]] == [f"file://{photos}/a.jpg"] * len(BAD_JSON)
    versions = {row["version"] for row in rows if row["error_code"]}
    assert len(versions) >= len(BAD_JSON)
    path.write_bytes(path.read_bytes().replace(b"not json", b"still not"))
    assert len({row["version"] for row in listed(path)} - versions - {rows[1]["version"]}) == 1


def test_a_json_file_is_a_manifest_only_when_it_holds_lines(photos: Path) -> None:
    path = photos.parent / "list.json"
    path.write_text('{"source-ref": "photos/a.jpg"}\n{"source-ref": "photos/c"}\n')
    assert uris(path) == [f"file://{photos}/a.jpg", f"file://{photos}/c"]
    for text in ('{\n "source-ref": "photos/a.jpg"\n}', '{"images": []}', "", "[]"):
        path.write_text(text)
        assert uris(path) == [f"file://{path}"]


@pytest.mark.parametrize("column", ["source-ref", "source_ref", "uri", "url", "path"])
def test_csv(photos: Path, column: str) -> None:
    path = photos.parent / "list.csv"
    text = f'caption,{column},version\n"two\nlines, and ""more""",photos/a.jpg,\n,"photos/é è.jpg",v2\n'
    path.write_text(text, "utf-8-sig")
    assert uris(path) == [f"file://{photos}/a.jpg", f"file://{photos}/é è.jpg"]
    rows = listed(path)
    assert rows[0] == listed(photos / "a.jpg")[0]
    assert rows[1]["version"] == "v2"


def test_bad_lines_in_csv(photos: Path) -> None:
    path = photos.parent / "list.csv"
    good = b"photos/a.jpg,1"
    bad = {
        b'"photos/a.jpg,1': "not CSV",
        b"photos/a.jpg": "1 cells, the header has 2",
        b"photos/a.jpg,1,2": "3 cells",
        b",1": "no source-ref",
        b"\xff,1": "not UTF-8",
        b'"photos/a.jpg"x,1': "not CSV",
        b"x" * 200_000 + b",1": "not CSV",
        b"x" * (3 << 20) + b",1": "longer than",
    }
    path.write_bytes(b"path,label\n" + b"".join(line + b"\n" + good + b"\n" for line in bad))
    found = problems(path)
    assert list(found) == list(range(2, 2 * len(bad) + 2, 2))
    for said, expected in zip(found.values(), bad.values(), strict=True):
        assert expected in said
    assert [row["uri"] for row in listed(path) if not row["error_code"]] == [f"file://{photos}/a.jpg"] * len(bad)


def test_parquet(photos: Path) -> None:
    path = photos.parent / "list.parquet"
    column = pa.array(["photos/a.jpg", None, "photos/c", "a::b"])
    table = pa.table({"label": [1, 2, 3, 4], "uri": column.dictionary_encode(), "etag": [None, None, '"e"', None]})
    pq.write_table(table, path)
    rows = listed(path)
    assert rows[0] == listed(photos / "a.jpg")[0]
    assert rows[2]["uri"] == f"file://{photos}/c"
    assert rows[2]["version"] == "e"
    assert list(problems(path)) == [2, 4]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.csv", b"name,size\na.jpg,3\n", "no column named source-ref, .* it has: name, size"),
        ("a.csv", b"", "no column named"),
        ("a.csv", b"\xff\xfe\x00", "no column named"),
        ("a.parquet", b"this is not parquet", "a.parquet.*Parquet"),
        ("a.parquet", b"", "a.parquet"),
    ],
)
def test_a_manifest_that_is_none(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SourceError, match=says):
        listed(tmp_path / name)


def test_parquet_without_a_text_column(tmp_path: Path) -> None:
    pq.write_table(pa.table({"name": ["a"]}), tmp_path / "a.parquet")
    with pytest.raises(SourceError, match="it has: name"):
        listed(tmp_path / "a.parquet")
    pq.write_table(pa.table({"uri": [1]}), tmp_path / "b.parquet")
    with pytest.raises(SourceError, match="holds int64, not text"):
        listed(tmp_path / "b.parquet")


def test_a_parquet_manifest_cut_short(photos: Path) -> None:
    path = photos.parent / "list.parquet"
    pq.write_table(pa.table({"uri": [os.urandom(40).hex() for _ in range(50_000)], "etag": ["e"] * 50_000}), path)
    data = bytearray(path.read_bytes())
    data[1000 : len(data) // 2] = bytes(len(data) // 2 - 1000)
    path.write_bytes(data)
    with pytest.raises(SourceError, match=r"list\.parquet"):
        listed(path)


def test_an_empty_manifest_has_no_batches(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("\n\n")
    assert list(Listing(str(tmp_path / "a.jsonl")).batches()) == []


def test_a_manifest_in_a_bucket(s3: Bucket) -> None:
    stored = [s3.put(f"photos/{at:03}.jpg", str(at).encode()) for at in range(100)]
    lines = [{"source-ref": uri} for uri in stored]
    lines += [{"source-ref": "../photos/001.jpg"}, {"source-ref": f"{s3.url}/photos/gone.jpg"}]
    lines += [{"source-ref": "s3://no-such-bucket/a.jpg", "etag": "given"}]
    manifest = s3.put("lists/list.jsonl", "\n".join(json.dumps(line) for line in lines).encode())
    rows = listed(manifest)
    assert [row["uri"] for row in rows[:100]] == stored
    assert rows[:100] == sorted(listed(f"{s3.url}/photos"), key=lambda row: str(row["uri"]))
    assert rows[100] == rows[1]
    assert (rows[101]["version"], rows[101]["error_code"]) == ("missing", None)
    assert (rows[102]["version"], rows[102]["etag"]) == ("given", "given")


def test_a_manifest_in_a_bucket_may_not_name_local_files_or_leave_it(s3: Bucket) -> None:
    s3.put("photos/a.jpg", b"x")
    lines = ["file:///etc/passwd", "/etc/passwd", "local:///etc/passwd", "../../other/a.jpg", "memory://a", "../photos"]
    manifest = s3.put("lists/list.csv", ("path\n" + "\n".join(lines)).encode())
    found = problems(manifest)
    assert [number - 2 for number in found] == list(range(len(lines)))
    for number, said in found.items():
        assert lines[number - 2] in said or "a folder, not a file" in said
    table = pa.table({"path": ["/etc/passwd", "../photos/a.jpg"]})
    with fsspec.open(f"{s3.url}/lists/list.parquet", "wb") as file:
        pq.write_table(table, file)
    rows = listed(f"{s3.url}/lists/list.parquet")
    assert [row["error_code"] for row in rows] == ["bad_manifest_line", None]
    assert rows[1]["uri"] == f"{s3.url}/photos/a.jpg"


def test_a_local_manifest_without_credentials_stops_at_once(
    s3: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "list.csv").write_text(f"uri\n{s3.put('a.jpg')}\n")
    assert uris(tmp_path / "list.csv") == [f"{s3.url}/a.jpg"]
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(SourceError, match="set AWS_ACCESS_KEY_ID"):
        listed(tmp_path / "list.csv")


def test_a_long_manifest_streams(tmp_path: Path) -> None:
    path = tmp_path / "list.jsonl"
    with path.open("w") as file:
        for at in range(25_000):
            file.write(f'{{"source-ref": "s3://bucket/{at}.jpg", "etag": "{at}"}}\n')
    batches = Listing(str(path)).batches()
    assert next(batches).num_rows == 10_000
    with path.open("a") as file:  # still being read
        file.write('{"source-ref": "s3://bucket/last.jpg", "etag": "last"}\n')
    rest = [batch.num_rows for batch in batches]
    assert rest == [10_000, 5_001]
