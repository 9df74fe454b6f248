"""What is read as a video and what is refused, and for what reason; how much of a file is read for it."""

import io
import struct
import subprocess
import sys
from datetime import UTC, datetime
from fractions import Fraction

import av
import numpy as np
import pytest

from pinakes.operators import formats
from pinakes.operators.errors import ErrorCode, MediaError
from pinakes.operators.video import Window, open_video
from tests.films import number_in, write_film

LIMIT = 300_000_000

KINDS = {
    "a.mp4": ("mp4", "h264", {}),
    "a.mov": ("mov", "prores", {"codec": "prores"}),
    "a.mkv": ("mkv", "hevc", {"codec": "hevc"}),
    "a.webm": ("webm", "vp9", {"codec": "vp9"}),
    "a.avi": ("avi", "mpeg4", {"codec": "mpeg4", "b_frames": 0}),
    "a.ts": ("mpegts", "h264", {}),
    "a.m2ts": ("mpegts", "h264", {}),
    "a.mpg": ("mpegps", "mpeg2video", {"codec": "mpeg2video"}),
    "a.flv": ("flv", "h264", {}),
    "a.wmv": ("asf", "wmv2", {"codec": "wmv2"}),
    "a.mxf": ("mxf", "mpeg2video", {"codec": "mpeg2video"}),
    "a.ogv": ("ogg", "vp8", {"codec": "vp8"}),
    "a.3gp": ("mp4", "h264", {}),
}

#: They do not say how long they are.
STREAMS = ["a.ts", "a.m2ts", "a.mpg", "a.ogv"]


def opened(source, name="film.mp4", max_pixels=LIMIT):
    data = source if isinstance(source, bytes) else source.read_bytes()
    return open_video(io.BytesIO(data), name, len(data), max_pixels)


def read(source, name="film.mp4", **settings):
    with opened(source, name, **settings) as video:
        return [frame for window in video.windows(2000) for frame in video.frames(window, "1fps")]


def refusal(source, name="film.mp4", **settings):
    with pytest.raises(MediaError) as error:
        read(source, name, **settings)
    assert name in str(error.value)
    return error.value.code, str(error.value)


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """Ten seconds, with a key frame in each; its index is at the front."""
    path = tmp_path_factory.mktemp("films") / "film.mp4"
    write_film(path, 10, size=(192, 108), gop=25, noise=8)
    return path


@pytest.mark.parametrize("name", KINDS)
def test_the_content_says_what_it_is(tmp_path, name):
    kind, codec, settings = KINDS[name]
    write_film(tmp_path / name, 2, size=(176, 144), **settings)
    head = (tmp_path / name).read_bytes()[:4096]
    assert formats.container(head) == kind
    assert formats.sniff(head) == "video"
    with opened(tmp_path / name, "misnamed.jpg") as video:
        facts = video.facts
        found = list(video.frames(Window(0, None), "1fps"))
    assert (facts.media_type, facts.format, facts.codec) == ("video", kind, codec)
    assert (facts.width, facts.height, facts.orientation) == (176, 144, 1)
    assert facts.size == (tmp_path / name).stat().st_size
    assert facts.duration_ms == pytest.approx(2000, abs=300 if kind == "mpegps" else 90)
    assert facts.fps == pytest.approx(25, abs=0.5)
    assert [number_in(frame.pixels) for frame in found] == [0, 25]


def test_a_transport_stream_is_known_by_its_marks():
    assert formats.container((b"\x47" + bytes(187)) * 4) == "mpegts"
    assert formats.container((bytes(4) + b"\x47" + bytes(187)) * 4) == "mpegts"
    assert formats.container(b"\x47" + bytes(187) + b"\x47" + bytes(187)) is None
    assert formats.container(b"GIF89a" + bytes(600)) is None


def test_old_films_are_told_from_words():
    assert formats.container(b"\x00\x00\x00\x08wide\x00\x01\x02\x03mdat") == "mov"
    assert formats.container(b"the free software movement") is None


@pytest.mark.parametrize("rate", [Fraction(24000, 1001), Fraction(30000, 1001), 50])
def test_the_rate_is_the_mean(tmp_path, rate):
    write_film(tmp_path / "film.mp4", 4, rate, size=(96, 64))
    with opened(tmp_path / "film.mp4") as video:
        assert video.facts.fps == pytest.approx(float(rate), abs=0.01)


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ({"creation_time": "2021-03-04T05:06:07.000000Z"}, datetime(2021, 3, 4, 5, 6, 7, tzinfo=UTC)),
        ({"creation_time": "1904-01-01T00:00:00Z"}, None),
        ({"creation_time": "2199-01-01T00:00:00Z"}, None),
        ({"title": "none"}, None),
    ],
)
def test_when_it_was_taken(tmp_path, said, meant):
    write_film(tmp_path / "film.mkv", 1, size=(96, 64), metadata=said)
    with opened(tmp_path / "film.mkv") as video:
        assert video.facts.captured_at == meant


def test_the_aspect_of_pixels_changes_nothing(tmp_path):
    write_film(tmp_path / "film.mp4", 1, size=(176, 144), aspect=Fraction(16, 11))
    with opened(tmp_path / "film.mp4") as video:
        assert (video.facts.width, video.facts.height) == (176, 144)


def test_a_path_with_odd_characters_is_a_path(tmp_path, film):
    path = tmp_path / "concat:a|b?c=1,http:#%20ä.mp4"
    path.write_bytes(film.read_bytes())
    with open_video(str(path), path.name, path.stat().st_size, LIMIT) as video:
        assert video.facts.duration_ms == 10_000


def test_a_file_that_is_not_there_is_no_media_error(tmp_path):
    with pytest.raises(FileNotFoundError), open_video(str(tmp_path / "none.mp4"), "none.mp4", 10, LIMIT):
        pass


# What is refused.


@pytest.mark.parametrize(
    ("data", "name", "code", "text"),
    [
        (b"", "film.mp4", ErrorCode.EMPTY, "zero bytes"),
        (b"\xff\xd8\xff\xe0" + bytes(5000), "film.mp4", ErrorCode.UNSUPPORTED_FORMAT, "jpeg"),
        (b"just text, and more of it\n" * 50, "film.mp4", ErrorCode.UNSUPPORTED_FORMAT, "is not a video"),
        (b"<!DOCTYPE html><html>", "film.mp4", ErrorCode.UNSUPPORTED_FORMAT, "HTML"),
        (b"just text", "notes.txt", ErrorCode.NOT_MEDIA, "its name does not say so"),
        (b"#EXTM3U\n#EXTINF:10,\nfile:///etc/passwd\n", "film.mp4", ErrorCode.UNSUPPORTED_FORMAT, "is not a video"),
        (b"ffconcat version 1.0\nfile /etc/passwd\n", "film.mp4", ErrorCode.UNSUPPORTED_FORMAT, "is not a video"),
        (b"\x00\x00\x01\xb3" + bytes(5000), "film.m2v", ErrorCode.UNSUPPORTED_FORMAT, "of a kind that is not read"),
        (b"\x1a\x45\xdf\xa3" + bytes(5000), "film.mkv", ErrorCode.CORRUPT, "header cannot be read"),
        (b"FLV\x01" + bytes(5000), "film.flv", ErrorCode.CORRUPT, ""),
        (b"RIFF" + bytes(4) + b"AVI " + bytes(5000), "film.avi", ErrorCode.CORRUPT, "header cannot be read"),
        (b"\x00\x00\x01\xba" + bytes(5000), "film.mpg", ErrorCode.CORRUPT, "header cannot be read"),
        ((b"\x47" + bytes(187)) * 40, "film.ts", ErrorCode.CORRUPT, "header cannot be read"),
        (b"OggS" + bytes(5000), "film.ogv", ErrorCode.CORRUPT, ""),
    ],
)
def test_what_is_no_video_is_refused(data, name, code, text):
    found, said = refusal(data, name)
    assert (found, text in said) == (code, True), said


def test_sound_alone_is_refused(tmp_path):
    with av.open(str(tmp_path / "sound.mp4"), "w") as output:
        stream = output.add_stream("aac", rate=48000, layout="mono")
        for number in range(20):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
            frame.sample_rate, frame.pts = 48000, 1024 * number
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    assert refusal(tmp_path / "sound.mp4") == (
        ErrorCode.UNSUPPORTED_FORMAT,
        "film.mp4: has no video, only sound",
    )


def test_an_encrypted_film_is_refused(tmp_path):
    key = {"encryption_scheme": "cenc-aes-ctr", "encryption_key": "0" * 31 + "1", "encryption_kid": "1" * 32}
    write_film(tmp_path / "film.mp4", 2, size=(96, 64), container_options=key)
    assert refusal(tmp_path / "film.mp4") == (ErrorCode.UNSUPPORTED_FORMAT, "film.mp4: is encrypted")


def test_an_unknown_codec_is_refused(tmp_path):
    write_film(tmp_path / "film.mp4", 1, size=(96, 64))
    data = (tmp_path / "film.mp4").read_bytes().replace(b"avc1", b"zzzz")
    code, text = refusal(data)
    assert (code, "its codec" in text) == (ErrorCode.UNSUPPORTED_FORMAT, True), text


@pytest.mark.parametrize("name", [name for name in KINDS if name not in STREAMS])
def test_a_film_cut_off_is_refused(tmp_path, name):
    write_film(tmp_path / name, 6, size=(176, 144), noise=4, **KINDS[name][2])
    data = (tmp_path / name).read_bytes()
    code, text = refusal(data[: len(data) // 2], name)
    assert (code, "ends early" in text) == (ErrorCode.TRUNCATED, True), text


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_cut_off_is_read_as_far_as_it_goes(tmp_path, name):
    write_film(tmp_path / name, 6, size=(176, 144), gop=10, noise=4, **KINDS[name][2])
    data = (tmp_path / name).read_bytes()
    with opened(data[: len(data) // 2], name) as video:
        assert len(list(video.frames(Window(0, None), "1fps"))) in (3, 4)


def test_films_whose_index_is_missing_or_behind_are_told_apart(tmp_path):
    write_film(tmp_path / "film.mp4", 2, size=(96, 64), container_options={})
    data = (tmp_path / "film.mp4").read_bytes()
    with opened(data) as video:
        assert video.facts.duration_ms == 2000
    code, text = refusal(data[: data.index(b"moov") - 4])
    assert (code, "never finished" in text) == (ErrorCode.TRUNCATED, True), text


def test_fragments_cut_off_are_refused_at_the_end(tmp_path):
    fragments = {"movflags": "frag_keyframe+empty_moov"}
    write_film(tmp_path / "film.mp4", 6, size=(192, 108), gop=25, noise=8, container_options=fragments)
    data = (tmp_path / "film.mp4").read_bytes()
    assert refusal(data[: len(data) // 2])[0] is ErrorCode.TRUNCATED


def test_sound_longer_than_the_film_is_not_a_film_cut_off(tmp_path):
    for name in ("film.mp4", "film.mkv", "film.avi", "film.mov"):
        write_film(tmp_path / name, 3, size=(96, 64), audio=12.0, b_frames=0)
        with opened(tmp_path / name) as video:
            found = [frame for window in video.windows(2000) for frame in video.frames(window, "1fps")]
        assert [number_in(frame.pixels) for frame in found] == pytest.approx([0, 25, 50], abs=3)


def damaged(path, first, last):
    """The bytes of a film with those frames' data overwritten."""
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    for packet in packets[first : last + 1]:
        data[packet.pos : packet.pos + packet.size] = bytes(packet.size)
    return bytes(data)


def test_a_damaged_frame_costs_its_own_place_at_most(film):
    with opened(damaged(film, 110, 112)) as video:
        found = list(video.frames(Window(0, None), "1fps"))
    assert [number_in(frame.pixels) for frame in found] == [25 * number for number in range(10)]
    with opened(damaged(film, 125, 125)) as video:
        found = list(video.frames(Window(0, None), "1fps"))
    good = [number_in(frame.pixels) for frame in found]
    assert [number for number in good if number not in range(125, 150)] == [0, 25, 50, 75, 100, 150, 175, 200, 225]


def test_a_film_of_damaged_frames_is_corrupt(film):
    assert refusal(damaged(film, 0, 249))[0] is ErrorCode.CORRUPT


def test_a_window_of_damaged_frames_is_corrupt(film):
    with opened(damaged(film, 75, 174)) as video:
        assert list(video.frames(Window(0, 2000), "1fps"))
        with pytest.raises(MediaError, match="no frame here") as error:
            list(video.frames(Window(4000, 6000), "1fps"))
        assert list(video.frames(Window(8000, None), "1fps"))
    assert error.value.code is ErrorCode.CORRUPT


def test_a_film_whose_second_half_was_never_filled_is_truncated(film):
    with opened(damaged(film, 125, 249)) as video:
        for settings in ({"sampling": "1fps"}, {"sampling": "keyframes"}, {"sampling": None, "every_frame": True}):
            with pytest.raises(MediaError, match=r"0:00:04\.\d of 0:00:09") as error:
                list(video.frames(Window(0, None), **settings))
            assert error.value.code is ErrorCode.TRUNCATED


@pytest.mark.parametrize("name", KINDS)
def test_a_frame_with_too_many_pixels_is_refused(tmp_path, name):
    write_film(tmp_path / name, 1, size=(176, 144), **KINDS[name][2])
    code, text = refusal(tmp_path / name, name, max_pixels=20_000)
    assert code is ErrorCode.TOO_MANY_PIXELS, text


def test_noise_after_any_header_ends(tmp_path):
    """Nothing that follows a container's first bytes may hang, crash or take memory without end."""
    script = """
import io, sys, numpy as np
from pinakes.operators.errors import MediaError
from pinakes.operators.video import open_video
random = np.random.default_rng(0)
for path in sys.argv[1:]:
    whole = open(path, "rb").read()
    for trial in range(12):
        data = bytearray(whole)
        for at in random.integers(8, len(data), 3 + 20 * trial):
            data[at] = random.integers(256)
        try:
            with open_video(io.BytesIO(data), path, len(data), 1_000_000) as video:
                for window in video.windows(1000)[:5]:
                    assert sum(1 for _ in video.frames(window, "2fps")) <= (2 if window.end_ms else 1000)
                    assert sum(1 for _ in video.frames(window, "keyframes")) <= 1000
        except MediaError:
            pass
"""
    for name, (_, _, settings) in KINDS.items():
        write_film(tmp_path / name, 1, size=(96, 64) if name != "a.3gp" else (176, 144), **settings)
    done = subprocess.run(
        [sys.executable, "-c", script, *(str(tmp_path / name) for name in KINDS)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr


def test_an_absurd_duration_is_not_millions_of_windows(tmp_path):
    write_film(tmp_path / "film.mkv", 1, size=(96, 64))
    data = (tmp_path / "film.mkv").read_bytes()
    at = data.index(b"\x44\x89\x88") + 3
    with opened(data[:at] + struct.pack(">d", 1e15) + data[at + 8 :]) as video:
        assert len(video.windows(1000)) <= 10_000


# How much is read.


class Counting(io.RawIOBase):
    """A file that counts what is read of it."""

    def __init__(self, path):
        self._file = path.open("rb")
        self.count = 0

    def readable(self):
        return True

    def seekable(self):
        return True

    def seek(self, at, whence=0):
        return self._file.seek(at, whence)

    def tell(self):
        return self._file.tell()

    def read(self, size=-1):
        data = self._file.read(size)
        self.count += len(data)
        return data


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    path = tmp_path_factory.mktemp("films") / "large.mp4"
    plain = {"preset": "ultrafast", "crf": "8"}
    write_film(path, 16, 12, size=(640, 360), gop=24, noise=40, audio=True, encoder_options=plain)
    assert path.stat().st_size > 16 << 20
    return path


PARTS = [(Window(8000, 10000), "1fps", 0.2), (Window(0, 2000), "1fps", 0.2), (Window(0, None), "keyframes", 0.1)]


@pytest.mark.parametrize(("window", "sampling", "share"), PARTS)
def test_only_what_is_needed_is_read(large, window, sampling, share):
    size = large.stat().st_size
    file = Counting(large)
    with open_video(file, "large.mp4", size, LIMIT) as video:
        found = list(video.frames(window, sampling))
    assert len(found) >= 2
    assert file.count < share * size, (file.count, size)


def test_what_a_file_raises_is_not_a_media_error(large):
    class Failing(Counting):
        def read(self, size=-1):
            if self.count > 12 << 20:
                raise ConnectionResetError("the line is down")
            return super().read(size)

    with (
        open_video(Failing(large), "large.mp4", large.stat().st_size, LIMIT) as video,
        pytest.raises(ConnectionResetError, match="the line is down"),
    ):
        list(video.frames(Window(0, None), "1fps"))
