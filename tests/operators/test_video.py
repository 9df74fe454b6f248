"""Which frames of a video are given, when they are shown, and what their pixels are."""

from fractions import Fraction
from itertools import chain

import av
import cv2
import numpy as np
import pytest

from pinakes.operators.video import Window, open_video
from tests.films import number_in, write_film

LIMIT = 300_000_000
VARIABLE = [0, 40, 90, 100, 500, 1500, 1501, 1600, 3000, 3033, 3066, 3999, 4000, 4040]


def opened(path):
    return open_video(str(path), path.name, path.stat().st_size, LIMIT)


def frames(path, sampling, length_ms=300_000, **settings):
    with opened(path) as video:
        return [frame for window in video.windows(length_ms) for frame in video.frames(window, sampling, **settings)]


def sample(times, fps):
    """By the contract's words: for every multiple of 1/N the first frame at or after it, each once."""
    due = range(0, times[-1] + 1, 1000 // fps)
    return sorted({next(at for at in times if at >= multiple) for multiple in due})


def shown(found):
    return [(frame.frame_ms, frame.keyframe, frame.pixels.tobytes()) for frame in found if frame.pixels is not None]


FILMS = {
    "b-frames.mp4": {"cuts": (33,), "b_frames": 3},
    "pyramid.mp4": {"b_frames": 7, "gop": 30, "fps": 30},
    "open.mp4": {"b_frames": 3, "gop": 20, "encoder_options": {"x264-params": "open-gop=1"}},
    "ntsc.mp4": {"fps": Fraction(30000, 1001), "gop": 30, "audio": True},
    "variable.mp4": {"times": VARIABLE},
    "variable.mkv": {"times": VARIABLE},
    "late.mp4": {"start_ms": 2500},
    "late.mkv": {"start_ms": 2500},
    "fragments.mp4": {"container_options": {"movflags": "frag_keyframe+empty_moov"}, "gop": 20},
    "index-last.mov": {"container_options": {}, "audio": 9.0},
    "plain.mkv": {"gop": 20, "audio": True},
    "stream.ts": {"gop": 20, "audio": True},
    "disc.m2ts": {"gop": 40},
    "flash.flv": {"b_frames": 2},
    "old.avi": {"codec": "mpeg4", "b_frames": 0},
    "older.ts": {"codec": "mpeg2video", "gop": 12},
    "hevc.mp4": {"codec": "hevc", "gop": 25, "b_frames": 4},
    "vp9.webm": {"codec": "vp9", "gop": 25},
    "vp8.webm": {"codec": "vp8", "gop": 25},
    "av1.mp4": {"codec": "av1", "gop": 25},
    "prores.mov": {"codec": "prores"},
    "mjpeg.mov": {"codec": "mjpeg"},
    "ten-bit.mkv": {"pixel_format": "yuv420p10le"},
    "interlaced.ts": {"encoder_options": {"x264-params": "tff=1"}},
    "windows.wmv": {"codec": "wmv2"},
}


@pytest.fixture(scope="module", params=FILMS)
def film(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("films") / request.param
    times = write_film(path, 4, size=(192, 108), **FILMS[request.param])
    return path, times


def test_every_frame_is_given_at_its_time(film):
    path, times = film
    found = frames(path, "every-frame")
    assert [number_in(frame.pixels) for frame in found] == list(range(len(times)))
    assert [frame.frame_ms for frame in found] == times
    assert found[0].keyframe


@pytest.mark.parametrize("fps", [1, 2])
def test_a_sample_is_the_first_frame_at_or_after_each_multiple(film, fps):
    path, times = film
    found = frames(path, f"{fps}fps")
    assert [frame.frame_ms for frame in found] == sample(times, fps)
    assert [number_in(frame.pixels) for frame in found] == [times.index(at) for at in sample(times, fps)]


def test_what_is_skipped_changes_no_pixel(film):
    path, _ = film
    whole = {frame.frame_ms: frame.pixels for frame in frames(path, "every-frame")}
    for frame in frames(path, "2fps") + frames(path, "keyframes"):
        assert np.array_equal(frame.pixels, whole[frame.frame_ms])


def test_the_key_frames_are_those_of_the_container(film):
    path, _ = film
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        keys = sum(packet.is_keyframe and packet.size > 0 for packet in container.demux(stream))
    found = frames(path, "keyframes")
    assert len(found) == keys
    assert all(frame.keyframe for frame in found)
    assert [frame.frame_ms for frame in found] == [
        frame.frame_ms for frame in frames(path, "every-frame") if frame.keyframe
    ]


@pytest.mark.parametrize("sampling", ["1fps", "2fps", "keyframes", "every-frame"])
def test_windows_together_give_what_the_whole_does(film, sampling):
    path, times = film
    whole = frames(path, sampling)
    assert shown(frames(path, sampling, 1000)) == shown(whole)
    watched = frames(path, sampling, 1000, every_frame=True, context_frames=3)
    assert shown(watched) == shown(whole)
    assert [frame.frame_ms for frame in watched if frame.inside] == times


def test_context_is_the_frames_around_a_window(film):
    path, times = film
    with opened(path) as video:
        found = list(video.frames(Window(1000, 2000), None, every_frame=True, context_frames=30))
    first, last = (next(n for n, at in enumerate(times) if at >= ms) for ms in (1000, 2000))
    assert [frame.frame_ms for frame in found] == times[max(0, first - 30) : last + 30]
    assert [frame.frame_ms for frame in found if frame.inside] == times[first:last]
    assert all(frame.pixels is None and frame.thumbnail.shape == (27, 48, 3) for frame in found)


def test_windows_can_be_read_in_any_order(tmp_path):
    write_film(tmp_path / "film.mp4", 4, size=(192, 108), gop=20)
    with opened(tmp_path / "film.mp4") as video:
        windows = video.windows(1000)
        backwards = [list(video.frames(window, "2fps")) for window in reversed(windows)]
        next(video.frames(windows[2], "2fps"))  # and dropped
        assert shown(chain.from_iterable(backwards[::-1])) == shown(frames(tmp_path / "film.mp4", "2fps"))


def test_the_last_window_has_no_end(tmp_path):
    write_film(tmp_path / "film.mp4", 4, size=(192, 108))
    with opened(tmp_path / "film.mp4") as video:
        assert video.windows() == [Window(0, None)]
        assert video.windows(3000) == [Window(0, 3000), Window(3000, None)]
        with pytest.raises(ValueError, match="whole seconds"):
            video.windows(1500)


def test_a_gap_belongs_to_the_window_that_its_end_is_in(tmp_path):
    write_film(tmp_path / "film.mkv", times=[0, 500, 9100, 9200, 9900], size=(192, 108))
    assert [frame.frame_ms for frame in frames(tmp_path / "film.mkv", "1fps", 2000)] == [0, 9100]


def test_an_mpeg_program_stream_is_read_in_one_piece(tmp_path):
    write_film(tmp_path / "film.mpg", 4, size=(192, 108), codec="mpeg2video", gop=12)
    found = frames(tmp_path / "film.mpg", "1fps", 1000)
    assert [number_in(frame.pixels) for frame in found] == pytest.approx([0, 25, 50, 75], abs=2)
    with opened(tmp_path / "film.mpg") as video:
        assert video.windows(1000) == [Window(0, None)]


def test_frames_that_an_edit_list_hides_are_not_given(tmp_path):
    write_film(tmp_path / "whole.mp4", 4, size=(192, 108), gop=100)
    with av.open(str(tmp_path / "whole.mp4")) as source, av.open(str(tmp_path / "cut.mp4"), "w") as output:
        stream = output.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.pts -= 12800 * 3 // 2  # the film begins a second and a half into its first group
                packet.dts -= 12800 * 3 // 2
                packet.stream = stream
                output.mux(packet)
    found = frames(tmp_path / "cut.mp4", "every-frame")
    hidden = number_in(found[0].pixels)
    assert 36 <= hidden <= 38
    assert [number_in(frame.pixels) for frame in found] == list(range(hidden, 100))
    assert found[0].frame_ms == 0
    sampled = frames(tmp_path / "cut.mp4", "1fps", 1000)
    assert [frame.frame_ms for frame in sampled] == sample([frame.frame_ms for frame in found], 1)


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
@pytest.mark.parametrize("name", ["film.mp4", "film.mkv"])
def test_pixels_and_size_are_upright(tmp_path, rotation, name):
    write_film(tmp_path / name, 1, size=(128, 192), rotation=rotation)
    with opened(tmp_path / name) as video:
        found = list(video.frames(Window(0, None), "1fps", every_frame=True))
    assert (video.facts.width, video.facts.height) == (128, 192)
    assert video.facts.orientation == {0: 1, 90: 6, 180: 3, 270: 8}[rotation]
    assert found[0].pixels.shape == (192, 128, 3)
    assert number_in(found[0].pixels) == 0
    assert found[5].thumbnail.shape == (27, 48, 3)


def test_a_mirrored_film_is_upright(tmp_path):
    path = tmp_path / "film.mp4"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.set_display_rotation(-90, hflip=True)
        picture = np.zeros((48, 64, 3), np.uint8)
        picture[:10, :10] = 255
        for _ in range(5):
            output.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        output.mux(stream.encode(None))
    (found,) = frames(path, "1fps")
    places = {"tl": (2, 2), "tr": (2, -3), "bl": (-3, 2), "br": (-3, -3)}
    corners = {name: found.pixels[y, x, 0] > 128 for name, (y, x) in places.items()}
    with opened(path) as video:
        orientation = video.facts.orientation
    assert orientation in (5, 7)
    assert corners == {name: name == ("tl" if orientation == 5 else "br") for name in corners}


SIZES = [((1918, 1080), (1918, 1080)), ((1920, 1080), (960, 540)), ((1926, 1082), (963, 541)), ((3842, 242), (961, 61))]


@pytest.mark.parametrize(("size", "canonical"), SIZES)
def test_pictures_have_the_canonical_size(tmp_path, size, canonical):
    write_film(tmp_path / "film.mp4", fps=1, seconds=1, size=size)
    (found,) = frames(tmp_path / "film.mp4", "1fps")
    assert found.pixels.shape == (*canonical[::-1], 3)
    assert not found.pixels.flags.writeable


COLOURS = [(200, 30, 30), (20, 180, 40), (30, 40, 210), (220, 220, 220), (16, 16, 16), (128, 64, 32)]


SMALL, LARGE = (320, 180), (1920, 1080)


#: Size, BT.709, full range, and whether the film says so; unsaid a small film is taken for BT.601, limited.
@pytest.mark.parametrize(
    ("size", "bt709", "full_range", "said"),
    [
        *(
            (size, bt709, full, True)
            for size, bt709 in ((SMALL, False), (SMALL, True), (LARGE, True))
            for full in (0, 1)
        ),
        (SMALL, False, False, False),
        (LARGE, True, False, False),
    ],
)
def test_colours_are_right(tmp_path, size, bt709, full_range, said):
    picture = np.repeat(np.repeat(np.array([COLOURS], np.uint8), size[1], 0), size[0] // len(COLOURS), 1)
    picture = np.pad(picture, ((0, 0), (0, size[0] - picture.shape[1]), (0, 0)), "edge")
    path = tmp_path / "film.mp4"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=25, options={"crf": "4"})
        stream.width, stream.height, stream.pix_fmt = *size, "yuv444p"
        if said:
            stream.codec_context.color_range = 2 if full_range else 1
            stream.codec_context.colorspace = 1 if bt709 else 6
        frame = av.VideoFrame.from_ndarray(picture, "rgb24").reformat(
            format="yuv444p", dst_colorspace="itu709" if bt709 else "itu601", dst_color_range=2 if full_range else 1
        )
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    (found,) = frames(path, None, every_frame=True)
    with opened(path) as video:
        pixels = next(video.frames(Window(0, None), "1fps")).pixels
    width = pixels.shape[1] // len(COLOURS)
    for number, colour in enumerate(COLOURS):
        middle = pixels[pixels.shape[0] // 2, number * width + width // 2]
        assert np.abs(middle.astype(int) - colour).max() <= 4, (colour, middle)
        small = found.thumbnail[13, number * 8 + 4]
        assert np.abs(small.astype(int) - colour).max() <= 5, (colour, small)


@pytest.mark.parametrize("settings", [{}, {"full_range": True}, {"pixel_format": "yuv420p10le"}, {"codec": "prores"}])
@pytest.mark.parametrize(("grey", "dark"), [(0, 1.0), (48, 1.0), (56, 0.0), (255, 0.0)])
def test_dark_is_the_share_of_black_pixels(tmp_path, monkeypatch, settings, grey, dark):
    def half(frames, size, *_):
        picture = np.full((size[1], size[0], 3), 200, np.uint8)
        picture[:, : size[0] // 2] = grey
        yield from [picture] * frames

    monkeypatch.setattr("tests.films.scenes", half)
    path = tmp_path / "film.mov"
    write_film(path, 0.2, **settings)
    found = frames(path, None, every_frame=True)
    assert len(found) == 5
    for frame in found:
        assert frame.dark == pytest.approx(dark / 2, abs=0.02)


def test_a_film_without_luma_has_its_dark_measured_in_the_thumbnail(tmp_path):
    write_film(tmp_path / "film.mkv", 1, codec="ffv1", pixel_format="bgr0", black=((5, 24),))
    found = frames(tmp_path / "film.mkv", None, every_frame=True)
    assert found[0].dark < 0.2
    assert found[5].dark == 1


def test_thumbnails_show_what_the_frame_does(tmp_path):
    write_film(tmp_path / "film.mp4", 1, size=(640, 360), cuts=(10,))
    for frame in frames(tmp_path / "film.mp4", "every-frame", every_frame=True):
        exact = cv2.resize(frame.pixels, (48, 27), interpolation=cv2.INTER_AREA).astype(int)
        assert np.abs(frame.thumbnail - exact).mean() < 2


@pytest.mark.parametrize("name", ["b-frames.mp4", "variable.mp4", "turned.mp4"])
def test_decord_sees_the_same(tmp_path, name):
    decord = pytest.importorskip("decord")
    settings = {"b-frames.mp4": {"b_frames": 3}, "variable.mp4": {"times": VARIABLE}, "turned.mp4": {"rotation": 90}}
    times = write_film(tmp_path / name, 4, gop=30, **settings[name])
    reader = decord.VideoReader(str(tmp_path / name), num_threads=1)
    found = frames(tmp_path / name, "2fps")
    theirs = reader.get_batch([times.index(frame.frame_ms) for frame in found]).asnumpy()
    for frame, pixels in zip(found, theirs, strict=True):
        assert np.abs(frame.pixels.astype(int) - pixels).mean() < 1.5


def test_real_films(evaluation):
    for path in sorted((evaluation / "video").iterdir()):
        with opened(path) as video, av.open(str(path)) as container:
            stream = container.streams.video[0]
            exact = [
                int((frame.pts - stream.start_time) * stream.time_base * 1000) for frame in container.decode(stream)
            ]
            assert (video.facts.width, video.facts.height) == (stream.width, stream.height)
            found = [frame for window in video.windows(7000) for frame in video.frames(window, "1fps")]
            assert [frame.frame_ms for frame in found] == sample(exact, 1)
