"""Videos as archives have them: in buckets, under wrong names, broken; and a change of the sampling."""

import errno
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pinakes.catalog import Catalog
from pinakes.jobs import fetch, run, watch
from pinakes.jobs.listing import Listing, source_url
from pinakes.jobs.planning import make_plan
from pinakes.jobs.spec import VideoSpec
from tests.films import write_film
from tests.jobs.photos import write_photos
from tests.jobs.small_run import jpeg, loaded, small_run
from tests.s3 import Bucket

LIGHT = ("media", "frames", "properties")


def rows(catalog: Path, query: str) -> list[dict[str, Any]]:
    return Catalog(str(catalog)).sql(query).to_pylist()


def test_a_film_in_a_bucket_gives_the_same_rows_as_one_on_disk(s3: Bucket, tmp_path: Path) -> None:
    fetch._filesystem.cache_clear()  # it keeps the credentials of another test's server
    (tmp_path / "here").mkdir()
    write_film(tmp_path / "here" / "film.mp4", 12, rotation=90)
    write_film(tmp_path / "here" / "film.mkv", 5, codec="vp9")
    for path in (tmp_path / "here").iterdir():
        s3.put(f"there/{path.name}", path.read_bytes())
    found = []
    for number, source in enumerate((tmp_path / "here", f"{s3.url}/there")):
        catalog = tmp_path / f"catalog{number}"
        small_run(source, catalog, loaded(*LIGHT))  # type: ignore[arg-type]
        seen = (
            "SELECT parse_filename(uri) AS name, content_id, frame_ms, * EXCLUDE (uri, item_key, content_id, frame_ms, "
        )
        seen += "attempt, run_id, n) FROM latest_properties ORDER BY 1, 3"
        said = (
            "SELECT parse_filename(uri) AS name, format, width, height, duration_ms, codec FROM latest_media ORDER BY 1"
        )
        found.append((rows(catalog, seen), rows(catalog, said)))
    assert found[0] == found[1]
    assert [tuple(row.values())[:4] for row in found[0][1]] == [
        ("film.mkv", "mkv", 320, 180),
        ("film.mp4", "mp4", 320, 180),
    ]


def test_what_is_no_video_gets_a_code(tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    archive.mkdir()
    whole = archive / "whole.mp4"
    write_film(whole, 20)
    (archive / "cut-off.mp4").write_bytes(whole.read_bytes()[: whole.stat().st_size * 2 // 3])
    (archive / "empty.mov").write_bytes(b"")
    (archive / "typescript.ts").write_text("export const a: number = 1\n" * 20)
    (archive / "photo.mkv").write_bytes(jpeg(Image.new("RGB", (64, 64))))
    (archive / "film.jpg").write_bytes(whole.read_bytes())
    (archive / "noise.avi").write_bytes(bytes(range(256)) * 40)
    small_run(archive, tmp_path / "catalog", loaded(*LIGHT))
    found = rows(
        tmp_path / "catalog",
        "SELECT parse_filename(uri) AS name, status, error_code, error_message FROM latest_ledger "
        "WHERE operator = 'properties' ORDER BY 1",
    )
    said = {row["name"]: (row["status"], row["error_code"]) for row in found}
    assert said == {
        "whole.mp4": ("ok", None),
        "cut-off.mp4": ("failed", "truncated"),
        "empty.mov": ("failed", "empty"),
        "typescript.ts": ("failed", "unsupported_format"),
        "photo.mkv": ("failed", "unsupported_format"),
        "film.jpg": ("failed", "unsupported_format"),
        "noise.avi": ("failed", "unsupported_format"),
    }, found


@pytest.mark.timeout(240)
def test_another_sampling_looks_at_videos_again_and_at_no_still(tmp_path: Path) -> None:
    archive, catalog = tmp_path / "archive", tmp_path / "catalog"
    write_photos(archive, 3)
    write_film(archive / "film.mp4", 10, gop=50)
    times = {}
    for sample, items in (("1fps", 4), ("keyframes", 1), ("1fps", 0)):
        summary = run(archive, catalog, ["properties"], workers=1, video=VideoSpec(sample=sample))  # type: ignore[arg-type]
        assert (summary.status, summary.items, summary.total("failed")) == ("finished", items, 0)
        assert summary.video_s == (10 if items else 0)
        found = rows(catalog, "SELECT frame_ms FROM latest_properties WHERE frame_ms IS NOT NULL ORDER BY 1")
        times[sample] = [row["frame_ms"] for row in found]
    # To go back to the first costs nothing, and counts again.
    assert times == {"1fps": [1000 * second for second in range(10)], "keyframes": [0, 2000, 4000, 6000, 8000]}
    assert [row["n"] for row in rows(catalog, "SELECT count(*) AS n FROM properties")] == [3 + 10 + 5]


def test_a_few_films_are_shared_out(tmp_path: Path) -> None:
    """A film is the work of minutes: no worker gets four while another has none."""
    archive = tmp_path / "archive"
    archive.mkdir()
    for number in range(4):
        (archive / f"{number}.mp4").write_bytes(b"")
    write_photos(archive, 4)
    catalog = Catalog(str(tmp_path / "catalog"), create=True)
    with make_plan(Listing(str(archive)), source_url(str(archive)), loaded("media", "frames"), catalog) as plan:
        assert (plan.summary.due, plan.summary.videos) == (8, 4)
        chunks = plan.write_chunks(catalog, "run", workers=2)
    assert len(chunks) == 4 + 1


def test_the_size_of_a_long_film_is_the_files_where_the_listing_does_not_say_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    film = tmp_path / "film.mp4"
    write_film(film, 75, fps=2, size=(160, 90))
    (tmp_path / "list.jsonl").write_text(json.dumps({"source-ref": f"file://{film}", "version": "1"}) + "\n")
    monkeypatch.setattr(watch, "WINDOW_MS", 30_000)
    small_run(tmp_path / "list.jsonl", tmp_path / "catalog", loaded(*LIGHT))
    assert rows(tmp_path / "catalog", "SELECT size FROM latest_media") == [{"size": film.stat().st_size}]


def test_a_disk_that_does_not_answer_is_tried_again_by_the_next_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = tmp_path / "archive"
    archive.mkdir()
    write_film(archive / "film.mp4", 2)

    def fails(*_: Any) -> Any:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(watch, "open_video", fails)
    small_run(archive, tmp_path / "catalog", loaded(*LIGHT))
    codes = rows(tmp_path / "catalog", "SELECT DISTINCT error_code FROM latest_ledger")
    assert codes == [{"error_code": "unreachable"}]
    monkeypatch.undo()
    small_run(archive, tmp_path / "catalog", loaded(*LIGHT))
    assert rows(tmp_path / "catalog", "SELECT DISTINCT status FROM latest_ledger") == [{"status": "ok"}]
