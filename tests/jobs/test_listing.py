import hashlib
import os
import subprocess
import sys
import tempfile
import tracemalloc
from datetime import UTC, datetime
from pathlib import Path

import fsspec
import pyarrow as pa
import pytest

from pinakes.jobs.errors import SourceError
from pinakes.jobs.listing import LISTING_SCHEMA, Listing, source_url
from tests.s3 import Bucket


def listed(source: object) -> dict[str, dict[str, object]]:
    """The rows by uri, which must each come once."""
    batches = list(Listing(str(source)).batches())
    assert all(batch.schema == LISTING_SCHEMA for batch in batches)
    rows = pa.Table.from_batches(batches, LISTING_SCHEMA).to_pylist()
    assert len({row["uri"] for row in rows}) == len(rows)
    return {row["uri"]: row for row in rows}


def names(source: object) -> set[str]:
    """The uris below the source's folder, and that none of them is an error."""
    rows = listed(source)
    assert all(row["error_code"] is None for row in rows.values())
    return {uri.rpartition("/photos/")[2] for uri in rows}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name in ("a.jpg", "summer 2024/é è.PNG", "summer 2024/raw/b.dng", "summer 2024/scan", "odd[1]*.webp"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * len(name))
    return tmp_path / "photos"


def test_a_folder_with_spaces_accents_and_wildcards_in_names(photos: Path) -> None:
    path = photos / "summer 2024/é è.PNG"
    os.utime(path, ns=(0, 1_700_000_000_123_456_789))
    rows = listed(photos)
    assert set(rows) == {f"file://{path}" for path in photos.rglob("*") if path.is_file()}
    row = rows[f"file://{path}"]
    assert row == {
        "uri": f"file://{path}",
        "version": "19-1700000000123456789",
        "size": 19,
        "mtime": datetime(2023, 11, 14, 22, 13, 20, 123456, tzinfo=UTC),
        "etag": None,
        "error_code": None,
        "error_message": None,
    }
    with fsspec.open(row["uri"]) as file:
        assert file.read() == b"x" * 19


def test_a_version_changes_when_the_file_does(photos: Path) -> None:
    before = listed(photos)
    assert listed(photos) == before
    (photos / "a.jpg").write_bytes(b"longer than before")
    changed = {uri for uri, row in listed(photos).items() if row["version"] != before[uri]["version"]}
    assert changed == {f"file://{photos}/a.jpg"}


def test_one_spelling_for_one_source(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(photos.parent)
    url = f"file://{photos}"
    assert {
        source_url(s) for s in ("photos", "./photos/", "photos//", "../" + photos.parent.name + "/photos", url)
    } == {url}
    assert source_url("photos/**/*.jpg") == f"{url}/**/*.jpg"
    assert source_url("photos/list.csv") == f"{url}/list.csv"
    monkeypatch.setenv("HOME", str(photos))
    assert source_url("~/a.jpg") == f"{url}/a.jpg"
    assert source_url("s3a://bucket/pre/") == source_url("s3://bucket/pre") == "s3://bucket/pre"
    assert source_url("/") == source_url("//") == "file:///"


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("", "empty"),
        ("nowhere", "nothing at file:///"),
        ("nope://x/y", "Protocol not known"),
        ("s3://", "names no bucket"),
        ("zip://a::s3://b/c.zip", "chained"),
        ("nothing/*.jpg", "nothing at"),
        ("pho\0tos", "zero byte"),
        ("/dev/null", "neither a folder nor a file"),
    ],
)
def test_a_source_that_cannot_be_is_refused_at_once(source: str, says: str) -> None:
    with pytest.raises(SourceError, match=says) as caught:
        Listing(source)
    assert "\n" not in str(caught.value)


def test_an_empty_folder_has_no_batches(tmp_path: Path) -> None:
    assert list(Listing(str(tmp_path)).batches()) == []


def test_other_files_are_passed_over_and_counted(photos: Path) -> None:
    expected = names(photos)
    for name in ("sound.mp3", "deck.pptx", "notes.txt", "list.jsonl", "a.jpg.gz"):
        (photos / name).write_bytes(b"")
    for name in (".hidden.jpg", "_pinakes-state.jpg", ".thumbnails/a.jpg", "catalogue/_pinakes/a.jpg"):
        (photos / name).parent.mkdir(parents=True, exist_ok=True)
        (photos / name).write_bytes(b"")
    for name in ("catalogue/labels/_delta_log/0.json", "catalogue/labels/part", "catalogue/labels/at=1/part"):
        (photos / name).parent.mkdir(parents=True, exist_ok=True)
        (photos / name).write_bytes(b"")
    listing = Listing(str(photos))
    assert sum(batch.num_rows for batch in listing.batches()) == len(expected)
    assert listing.passed_over == 5
    assert names(photos) == expected


def test_links_to_files_are_followed_and_to_folders_are_not(photos: Path) -> None:
    before = names(photos)
    (photos / "link.jpg").symlink_to(photos / "a.jpg")
    (photos / "circle").symlink_to(photos)
    (photos / "self.jpg").symlink_to(photos / "self.jpg")
    (photos / "gone.jpg").symlink_to(photos / "nothing")
    os.mkfifo(photos / "pipe")
    assert names(photos) == before | {"link.jpg", "self.jpg", "gone.jpg"}
    rows = listed(photos)
    assert rows[f"file://{photos}/link.jpg"]["version"] == rows[f"file://{photos}/a.jpg"]["version"]
    assert rows[f"file://{photos}/gone.jpg"]["version"] == "missing"
    assert rows[f"file://{photos}/self.jpg"]["version"] == "missing"


def test_names_that_are_not_text_are_rows(photos: Path) -> None:
    before = listed(photos)
    folder = os.fsencode(photos)
    try:
        os.mkdir(folder + b"/caf\xe9")
    except OSError:
        pytest.skip("this file system takes only UTF-8 names")
    Path(os.fsdecode(folder + b"/caf\xe9/a.jpg")).write_bytes(b"x")
    Path(os.fsdecode(folder + b"/\xff.jpg")).write_bytes(b"x")
    rows = listed(photos)
    bad = {uri: row for uri, row in rows.items() if row["error_code"]}
    assert set(bad) == {f"file://{photos}/caf\\xe9/a.jpg", f"file://{photos}/\\xff.jpg"}
    assert {row["error_code"] for row in bad.values()} == {"bad_name"}
    assert all("rename" in str(row["error_message"]) and row["version"] for row in bad.values())
    assert {uri: row for uri, row in rows.items() if uri not in bad} == before


LIST_AS_USER = """
import os, sys
from pinakes.jobs.errors import SourceError
from pinakes.jobs.listing import Listing
if os.geteuid() == 0:  # whom nothing is forbidden; only now, as Python itself may be root's
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
try:
    for batch in Listing(sys.argv[1]).batches():
        for row in batch.select(["uri", "error_code"]).to_pylist():
            print(row["uri"].removeprefix("file://" + sys.argv[1]), row["error_code"])
except SourceError as error:
    print(error)
"""


def as_user(source: str) -> set[str]:
    """The lines that a user without root's rights gets."""
    done = subprocess.run([sys.executable, "-c", LIST_AS_USER, source], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines())


def test_an_unreadable_folder_is_a_row_and_the_rest_goes_on() -> None:
    # Not tmp_path: only its owner may enter it.
    with tempfile.TemporaryDirectory() as made:
        root = Path(made)
        (root / "open").mkdir()
        (root / "open/a.jpg").write_bytes(b"x")
        (root / "shut").mkdir()
        (root / "shut/b.jpg").write_bytes(b"x")
        root.chmod(0o755)
        (root / "shut").chmod(0)
        try:
            assert as_user(made) == {"/open/a.jpg None", "/shut permission_denied"}
            (line,) = as_user(f"{made}/shut")
            assert f"file://{made}/shut may not be read" in line
        finally:
            (root / "shut").chmod(0o755)


def test_a_single_file_is_an_item_whatever_its_name(photos: Path) -> None:
    (photos / "notes.txt").write_bytes(b"x")
    assert names(photos / "notes.txt") == {"notes.txt"}
    assert names(photos / "odd[1]*.webp") == {"odd[1]*.webp"}


def test_globs(photos: Path) -> None:
    (photos / "summer 2024/c.jpg").write_bytes(b"x")
    (photos / "summer 2024/c.txt").write_bytes(b"x")
    assert names(photos / "*.jpg") == {"a.jpg"}
    assert names(photos / "*/*.jpg") == {"summer 2024/c.jpg"}
    assert names(photos / "**/*.jpg") == {"a.jpg", "summer 2024/c.jpg"}
    assert names(photos / "summer*/[a-c].???") == {"summer 2024/c.jpg"}
    assert names(photos / "summer 2024/**") == {"summer 2024/é è.PNG", "summer 2024/raw/b.dng"} | {
        f"summer 2024/{name}" for name in ("scan", "c.jpg")
    }
    listing = Listing(str(photos / "*/c.*"))
    assert sum(batch.num_rows for batch in listing.batches()) == 1
    assert listing.passed_over == 1


@pytest.mark.parametrize("pattern", ["*.gif", "nowhere/*", "a**/b"])
def test_a_glob_that_matches_nothing_is_an_error(photos: Path, pattern: str) -> None:
    with pytest.raises(SourceError, match=r"nothing matches|nothing at|not a pattern"):
        list(Listing(str(photos / pattern)).batches())


def test_a_large_folder_streams(tmp_path: Path) -> None:
    for at in range(40):
        folder = tmp_path / f"{at:02}"
        folder.mkdir()
        for number in range(1000):
            os.close(os.open(f"{folder}/{number:04}.jpg", os.O_CREAT | os.O_WRONLY))
    tracemalloc.start()
    try:
        sizes = [batch.num_rows for batch in Listing(str(tmp_path)).batches()]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert sizes == [10_000] * 4
    # A batch in the making takes 6 MB of Python objects; all rows at once take 15.
    assert peak < 10e6


def test_a_bucket_prefix_over_several_pages(s3: Bucket) -> None:
    made = {s3.put(f"photos/{at:04}.jpg", b"x") for at in range(1005)}
    made.add(s3.put("photos/été 1/a+b&c.png", b"abc"))
    made.add(s3.put("photos//empty part.jpg", b"x"))
    for key in ("photos/", "photos/deep/", "photos-other/b.jpg", "photos.jpg", "photos/.hidden/c.jpg"):
        s3.put(key)
    for key in ("photos/cat/_pinakes/a.jpg", "photos/cat/labels/_delta_log/0", "photos/cat/labels/1.parquet"):
        s3.put(key)
    rows = listed(f"{s3.url}/photos")
    assert set(rows) == made
    assert listed(f"{s3.url}/photos/") == rows
    row = rows[f"{s3.url}/photos/été 1/a+b&c.png"]
    assert row["version"] == row["etag"] == hashlib.md5(b"abc").hexdigest()
    assert row["size"] == 3
    assert abs((datetime.now(UTC) - row["mtime"]).total_seconds()) < 3600  # type: ignore[operator]
    assert set(listed(s3.url)) >= made | {f"{s3.url}/photos-other/b.jpg", f"{s3.url}/photos.jpg"}


def test_the_etag_is_the_version_in_a_bucket(s3: Bucket) -> None:
    uri = s3.put("a.jpg", b"one")
    first = listed(s3.url)[uri]["version"]
    s3.put("a.jpg", b"one")
    assert listed(s3.url)[uri]["version"] == first
    s3.put("a.jpg", b"two")
    assert listed(s3.url)[uri]["version"] != first
    assert listed(uri)[uri]["version"] == listed(s3.url)[uri]["version"]


def test_globs_in_a_bucket(s3: Bucket) -> None:
    for key in ("2023/a.jpg", "2024/b.jpg", "2024/deep/c.jpg", "2024/c.txt", "odd*.jpg", "odd2.jpg"):
        s3.put(key)
    assert set(listed(f"{s3.url}/2024/*.jpg")) == {f"{s3.url}/2024/b.jpg"}
    assert set(listed(f"{s3.url}/20*/**/*.jpg")) == {
        f"{s3.url}/{key}" for key in ("2023/a.jpg", "2024/b.jpg", "2024/deep/c.jpg")
    }
    assert set(listed(f"{s3.url}/odd*.jpg")) == {f"{s3.url}/odd*.jpg"}
    assert set(listed(f"{s3.url}/od*.jpg")) == {f"{s3.url}/odd*.jpg", f"{s3.url}/odd2.jpg"}
    with pytest.raises(SourceError, match="nothing matches"):
        list(Listing(f"{s3.url}/2024/*.gif").batches())
    with pytest.raises(SourceError, match="bucket"):
        Listing("s3://arch*/a.jpg")


def test_a_bucket_that_is_not_there_or_not_open(s3: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    s3.put("a.jpg", b"x")
    for source in ("s3://no-such-bucket", "s3://no-such-bucket/photos", f"{s3.url}/a", "s3://no-such-bucket/*.jpg"):
        with pytest.raises(SourceError, match="there is nothing at s3://"):
            Listing(source)
    assert list(Listing(s3.url).batches())
    listing = Listing(s3.url)
    s3.client.delete_object(Bucket=s3.name, Key="a.jpg")
    assert list(listing.batches()) == []
    s3.client.delete_bucket(Bucket=s3.name)
    with pytest.raises(SourceError, match="there is nothing at s3://"):
        list(listing.batches())
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(SourceError, match="set AWS_ACCESS_KEY_ID"):
        Listing(s3.url)


def test_any_other_filesystem() -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe(
        {f"/listing/{name}": b"abc" for name in ("a.jpg", "x/b.png", "x/c.txt", ".h/d.jpg", "x/_pinakes/e.jpg")}
    )
    try:
        rows = listed("memory://listing")
        assert set(rows) == {"memory:///listing/a.jpg", "memory:///listing/x/b.png"}
        row = rows["memory:///listing/a.jpg"]
        assert row["size"] == 3
        assert str(row["version"]).startswith("3-2")
        assert set(listed("memory://listing/*.jpg")) == {"memory:///listing/a.jpg"}
        with pytest.raises(SourceError, match="there is nothing at"):
            Listing("memory://nowhere")
    finally:
        memory.rm("/listing", recursive=True)
