"""`pinakes show VIDEO`: frames of it on a sheet, evenly over the film, and with --at one of them in full."""

import io
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any, ClassVar

import av
import fsspec
import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from pinakes.jobs import stills
from pinakes.jobs.errors import SpecError
from pinakes.jobs.sheet import GAP, LETTERS, captions
from pinakes.jobs.show import LIMITS, show
from pinakes.jobs.show_video import SIDE, show_frame, show_video
from pinakes.jobs.stills import clock, frame_at, moment, opened_video
from pinakes.operators.errors import ErrorCode, MediaError
from pinakes.operators.operator import BOX, PICTURE, Operator, Picture, Results
from pinakes.operators.video import Video, Window
from tests.films import number_in, write_film
from tests.jobs.command import here, pinakes, refused
from tests.jobs.small_run import stop_sign


class Numbers(Operator):
    """Reads the number that every frame of a generated film carries."""

    name = "numbers"
    tables: ClassVar = {"numbers": pa.schema([("number", pa.int32()), ("frame_ms", pa.int64())])}

    def look(self, pictures: Sequence[Picture]) -> Results:
        rows = [
            {"picture": at, "number": number_in(one.pixels), "frame_ms": one.frame_ms}
            for at, one in enumerate(pictures)
        ]
        return {"numbers": pa.Table.from_pylist(rows, schema=pa.schema([PICTURE, *self.tables["numbers"]]))}


class OverTheLeftHalf(Operator):
    name = "left"
    tables: ClassVar = {"left": pa.schema([("name", pa.string()), ("confidence", pa.float32()), ("box", BOX)])}

    def look(self, pictures: Sequence[Picture]) -> Results:
        half = {"left": 0.0, "top": 0.0, "width": 0.5, "height": 1.0}
        rows = [{"picture": at, "name": "half", "confidence": 0.5, "box": half} for at in range(len(pictures))]
        return {"left": pa.Table.from_pylist(rows, schema=pa.schema([PICTURE, *self.tables["left"]]))}


class Late(Numbers):
    """Fails on frames before the middle of ten seconds."""

    name = "late"

    def look(self, pictures: Sequence[Picture]) -> Results:
        if (pictures[0].frame_ms or 0) < 5000:
            raise RuntimeError("too early")
        return super().look(pictures)


class OfShots(Operator):
    name = "of_shots"
    tables: ClassVar = {"cuts": pa.schema([("score", pa.float32())])}
    media_types = ("video",)
    sees = "every frame"


def sign_film(path: Path, fps: int = 10, seconds: int = 4) -> Path:
    """A stop sign, as `stop_sign` draws it, in the second half of a film; a sky before that."""
    sign = np.asarray(Image.open(io.BytesIO(stop_sign())))
    sky = np.broadcast_to(sign[:, :1], sign.shape)
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=fps, options={"crf": "18", "preset": "superfast"})
        stream.width, stream.height, stream.pix_fmt = sign.shape[1], sign.shape[0], "yuv420p"
        for number in range(fps * seconds):
            pixels = sign if 2 * number >= fps * seconds else sky
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), "rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, fps)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


def numbers(shown: Any) -> list[tuple[int, int]]:
    """Of the frames of a sheet, when each is shown and the number that it carries."""
    return [(one.frame_ms, one.tables["numbers"]["number"][0].as_py()) for one in shown.frames]


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten seconds of 25 frames, each with its number."""
    path = tmp_path_factory.mktemp("films") / "ten.mp4"
    write_film(path, 10, gop=100)
    return path


# --- which frames


@pytest.mark.parametrize(
    ("name", "seconds", "count", "settings"),
    [
        ("long.mp4", 90, 6, {"gop": 250}),
        ("short.mkv", 2, 20, {"codec": "vp9"}),
        ("broadcast.ts", 12, 5, {"start_ms": 7000}),
        ("phone.mov", 4, 7, {"rotation": 90, "size": (180, 320)}),
    ],
)
def test_frames_are_evenly_over_the_film_and_those_on_show_then(
    tmp_path: Path, name: str, seconds: int, count: int, settings: dict[str, Any]
) -> None:
    times = write_film(tmp_path / name, seconds, size=settings.pop("size", (160, 90)), **settings)
    shown = show_video(tmp_path / name, [Numbers()], count)
    length = stills_length(tmp_path / name)
    assert abs(length - 1000 * seconds) < 150
    due = [(2 * part + 1) * length // (2 * count) for part in range(count)]
    expected = [max(at for at in times if at <= when) for when in due]
    assert [at for at, _ in numbers(shown)] == expected
    assert [number for _, number in numbers(shown)] == [times.index(at) for at in expected]


def stills_length(path: Path) -> int:
    with opened_video(f"file://{path}", LIMITS.max_pixels) as video:
        return stills.length_ms(video)


def test_a_film_of_few_frames_has_each_of_them_once(tmp_path: Path) -> None:
    times = write_film(tmp_path / "slides.mkv", times=[0, 4000, 30000, 31000], size=(160, 90))
    shown = show_video(tmp_path / "slides.mkv", [Numbers()], 20)
    assert [number for _, number in numbers(shown)] == [0, 1, 2, 3][: len(shown.frames)]
    assert {at for at, _ in numbers(shown)} <= set(times)
    for at, number in ((0, 0), (3999, 0), (4000, 1), (29_999, 1), (30_500, 2), (31_000, 3)):
        picture = show_frame(tmp_path / "slides.mkv", at, [Numbers()])
        assert picture.tables["numbers"]["number"].to_pylist() == [number]
        assert picture.frame_ms == times[number]


def test_no_more_is_decoded_than_leads_to_those_frames(film: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Window] = []
    frames = Video.frames

    def counted(self: Video, window: Window, *words: Any, **settings: Any) -> Any:
        asked.append(window)
        return frames(self, window, *words, **settings)

    monkeypatch.setattr(Video, "frames", counted)
    show_video(film, [Numbers()], 4)
    assert [window.end_ms for window in asked] == [1251, 3751, 6251, 8751]
    assert all(window.end_ms - window.start_ms < 500 for window in asked if window.end_ms)


def test_a_film_of_a_bucket_is_read_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    times = write_film(tmp_path / "large.mp4", 60, noise=12, gop=25)
    size = (tmp_path / "large.mp4").stat().st_size
    assert size > 5_000_000
    memory = fsspec.filesystem("memory")
    memory.pipe("/bucket/large.mp4", (tmp_path / "large.mp4").read_bytes())
    read = 0
    opened_file = stills.opened

    @contextmanager
    def counted(url: str) -> Iterator[Any]:
        with opened_file(url) as (file, length):
            reads = file.read

            def counting(count: int = -1) -> bytes:
                nonlocal read
                data: bytes = reads(count)
                read += len(data)
                return data

            file.read = counting
            yield file, length

    monkeypatch.setattr(stills, "opened", counted)
    shown = show_video("memory://bucket/large.mp4", [Numbers()], 3)
    assert numbers(shown) == [(10_000, times.index(10_000)), (30_000, 750), (50_000, 1250)]
    assert 0 < read < size / 3


def test_the_frame_at_a_time_is_the_last_whose_time_has_come(film: Path) -> None:
    with opened_video(f"file://{film}", LIMITS.max_pixels) as video:
        for at, number in ((0, 0), (39, 0), (40, 1), (41, 1), (5000, 125), (9999, 249), (10_000, 249)):
            frame = frame_at(video, at)
            assert frame.pixels is not None
            assert (frame.frame_ms, number_in(frame.pixels)) == (40 * number, number)


def test_times_as_one_writes_them() -> None:
    for text, ms in (("12.5", 12_500), ("0", 0), ("1:02.5", 62_500), ("2:01:02.5", 7_262_500), (".25", 250)):
        assert moment(text) == ms
    for text in ("", "-1", "nan", "inf", "1:-2", "1:2:3:4", "soon", "1e999", ":"):
        with pytest.raises(SpecError, match="not a time"):
            moment(text)
    assert [clock(ms) for ms in (0, 99, 62_599, 3_599_999, 7_262_500)] == [
        "0:00.0",
        "0:00.0",
        "1:02.5",
        "59:59.9",
        "2:01:02.5",
    ]


# --- what is on them


def test_a_known_thing_is_framed_in_the_frames_that_have_it_and_in_no_other(tmp_path: Path) -> None:
    shown = show_video(sign_film(tmp_path / "sign.mp4"), ["objects", "media"], 4)
    signs = [[one.title for one in frame.findings if one.title == "stop sign"] for frame in shown.frames]
    assert signs == [[], [], ["stop sign"], ["stop sign"]]
    (facts,) = shown.tables["media"].to_pylist()
    assert (facts["media_type"], facts["width"], facts["duration_ms"]) == ("video", 720, 4000)
    assert all("media" not in frame.tables for frame in shown.frames)
    said = shown.as_dict()
    assert [one["time"] for one in said["frames"]] == ["0:00.5", "0:01.5", "0:02.5", "0:03.5"]
    assert said["frames"][2]["tables"]["objects"][0]["name"] == "stop sign"
    json.dumps(said, default=str)

    picture = show_frame(tmp_path / "sign.mp4", 3000, ["objects"])
    assert picture.image.size == (720, 480)
    assert "stop sign" in [one.title for one in picture.findings]
    assert picture.as_dict()["time"] == "0:03.0"


@pytest.mark.parametrize("rotation", [0, 90])
def test_every_cell_has_its_frame_upright_with_what_was_found_in_it(tmp_path: Path, rotation: int) -> None:
    size = (180, 320) if rotation else (320, 180)
    write_film(tmp_path / "film.mp4", 10, size=size, rotation=rotation)
    image = np.asarray(show_video(tmp_path / "film.mp4", [OverTheLeftHalf(), Numbers()], 4).image)
    scale = SIDE / 320
    width, height = round(size[0] * scale), round(size[1] * scale)
    columns, above, high = 2, LETTERS.height + 2 * GAP, height + captions() + 2 * GAP
    if rotation:
        columns = 4
    assert image.shape == (above + 4 // columns * high, columns * (width + GAP) + GAP, 3)
    for position, number in enumerate((31, 93, 156, 218)):
        row, column = divmod(position, columns)
        left, top = GAP + column * (width + GAP), above + row * high
        assert number_in(image[top : top + height, left : left + width]) == number
        (colour,) = np.unique(image[top + 40 : top + height - 60, left + width // 2], axis=0)
        assert colour.max() > colour.min() + 50, "no side of the box where it is"
        caption = image[top + height : top + height + LETTERS.height, left : left + width]
        assert (caption < 80).all(axis=2).any(), "it does not say when it is"


def test_operators_that_need_more_than_one_picture_are_left_out(film: Path, tmp_path: Path) -> None:
    said: list[str] = []
    shown = show_video(film, [OfShots(), Numbers(), "frames", "tracks"], 2, report=said.append)
    assert [set(one.tables) for one in shown.frames] == [{"numbers"}] * 2
    assert said == ["left out, for a single picture is not enough for them: of_shots, frames, tracks"]
    with pytest.raises(SpecError, match="of_shots"):
        show_frame(film, 0, [OfShots()])
    (tmp_path / "sign.jpg").write_bytes(stop_sign())
    said.clear()
    picture = show(tmp_path / "sign.jpg", ["media", "tracks"], report=said.append)
    assert set(picture.tables) == {"media"}
    assert "tracks" in said[0]


def test_every_operator_that_needs_no_settings_looks_at_a_frame(tmp_path: Path) -> None:
    shown = show_frame(sign_film(tmp_path / "sign.mp4"), 3500)
    assert not shown.errors
    assert {"labels", "objects", "faces", "texts", "moderation", "properties", "media"} <= set(shown.tables)
    assert not {"frames", "segments", "tracks"} & set(shown.tables)


def test_an_operator_that_fails_on_a_frame_costs_nothing_else(film: Path) -> None:
    shown = show_video(film, [Late(), OverTheLeftHalf()], 4)
    assert shown.errors == {"late": "RuntimeError: too early (at 0:01.2)"}
    assert [set(one.tables) for one in shown.frames] == [{"left"}, {"left"}, {"left", "numbers"}, {"left", "numbers"}]


def test_each_frame_is_told_when_it_is_done(film: Path) -> None:
    done: list[int] = []
    show_video(film, [Numbers()], 5, looked=lambda: done.append(1))
    assert len(done) == 5


# --- what cannot be shown


def test_damaged_films(film: Path, tmp_path: Path) -> None:
    data = film.read_bytes()
    middle = len(data) // 2
    (tmp_path / "hole.mp4").write_bytes(data[:middle] + bytes(4000) + data[middle + 4000 :])
    shown = show_video(tmp_path / "hole.mp4", [Numbers()], 10)
    assert len(shown.frames) >= 5
    for cut in (0, 100, middle):
        (tmp_path / "cut.mp4").write_bytes(data[:cut])
        with pytest.raises(MediaError, match=r"cut\.mp4"):
            show_video(tmp_path / "cut.mp4", [Numbers()])
    with pytest.raises(MediaError, match="no such file") as caught:
        show_frame(tmp_path / "nowhere.mp4", 0, [Numbers()])
    assert caught.value.code is ErrorCode.NOT_FOUND


def test_the_command(tmp_path: Path) -> None:
    film = sign_film(tmp_path / "a sign.mp4")
    there = tmp_path / "there"
    there.mkdir()
    done = pinakes("show", film, "--operators", "objects", "--grid", 4, cwd=there)
    assert (done.returncode, done.stderr) == (0, "")
    assert "0:02.5" in done.stdout
    assert "stop sign" in done.stdout
    assert Image.open(there / "a sign-shown.png").width >= 2 * SIDE
    done = here("show", film, "--operators", "objects", "--json", "--output", "sheet.jpg", cwd=there)
    said = json.loads(done.stdout)
    assert (len(said["frames"]), said["output"]) == (20, "sheet.jpg")
    assert said["frames"][-1]["tables"]["objects"][0]["name"] == "stop sign"
    done = here("show", film, "--operators", "objects", "--at", "0:03.05", cwd=there)
    assert (done.returncode, done.stderr) == (0, "")
    assert "0:03.0" in done.stdout
    assert Image.open(there / "a sign-at-3.05-shown.png").size == (720, 480)
    assert len(list(there.iterdir())) == 3


def test_what_cannot_be_shown_is_said_in_one_line(film: Path, tmp_path: Path) -> None:
    words = ("--operators", "media,properties")
    line = refused(2, "show", film, "--at", 10.5, *words)
    assert "0:10.0 long" in line
    assert "0:10.5" in line
    assert "not a time" in refused(2, "show", film, "--at", "noon", *words)
    assert "--grid" in refused(2, "show", film, "--at", 1, "--grid", 3, *words)
    assert "--from" in refused(2, "show", film, "--from", "objects", *words)
    (tmp_path / "sign.jpg").write_bytes(stop_sign())
    assert "--at" in refused(2, "show", tmp_path / "sign.jpg", "--at", 1, *words)
    assert "--at" in refused(2, "show", "--grid", 3, "--at", 1)
    assert "nowhere.mp4" in refused(1, "show", tmp_path / "nowhere.mp4", *words)
    (tmp_path / "note.mp4").write_text("no film")
    assert "note.mp4" in refused(1, "show", tmp_path / "note.mp4", *words)
    (tmp_path / "photo.mp4").write_bytes(stop_sign())
    assert "no video" in refused(1, "show", tmp_path / "photo.mp4", *words)
    assert "shots" in refused(2, "show", film, "--operators", "shots")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["note.mp4", "photo.mp4", "sign.jpg"]
