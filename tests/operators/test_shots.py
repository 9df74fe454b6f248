"""The operator `shots`: cuts to the frame, the same however a film was cut into windows; black frames; timecodes."""

import cv2
import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from pinakes.operators.operator import Footage, MediaFacts, WholeVideo
from pinakes.operators.shots import APART, MARKS, SEGMENTS, Shots, ShotsConfig
from pinakes.operators.timecode import timecode
from pinakes.operators.transnet import REACH
from pinakes.operators.video import open_video
from tests.films import scenes, write_film


@pytest.fixture(scope="module")
def shots(local_models):
    operator = Shots()
    operator.load()
    return operator


@pytest.fixture
def scripted():
    """The operator with a network that reads its two answers, in percent, from the first pixel."""
    operator = Shots()
    operator._network = lambda frames: (frames[:, 0, 0, :2] / 100).astype(np.float32)
    return operator


def drawn(frames, fps, cuts=(), black=()):
    """Times, thumbnails and shares of black of a film that tests/films.py draws."""
    pictures = list(scenes(frames, (96, 54), cuts, black, numbers=False))
    thumbnails = np.stack([cv2.resize(one, (48, 27), interpolation=cv2.INTER_AREA) for one in pictures])
    dark = np.array([(one <= 51).all(axis=2).mean() for one in pictures], np.float32)
    return (np.arange(frames) * 1000 / fps).astype(np.int64), thumbnails, dark


def script(middle, part=None, dark=None, fps=10):
    """A film of frames that the scripted network answers so of, in percent."""
    thumbnails = np.zeros((len(middle), 27, 48, 3), np.uint8)
    thumbnails[np.arange(len(middle)) // APART % 2 == 1, 9:] = 255  # else the network is not asked
    thumbnails[:, 0, 0, 0] = middle
    thumbnails[:, 0, 0, 1] = middle if part is None else part
    shares = np.zeros(len(middle)) if dark is None else np.array(dark)
    return (np.arange(len(middle)) * 1000 / fps).astype(np.int64), thumbnails, shares.astype(np.float32)


def windows(film, length_ms, context):
    """The film's footage, window by window."""
    times, thumbnails, dark = film
    for start in range(0, int(times[-1]) + 1, length_ms):
        first, end = np.searchsorted(times, (start, start + length_ms))
        low, high = max(0, first - context), min(len(times), end + context)
        yield (
            start,
            Footage(times[low:high], thumbnails[low:high], dark[low:high], range(first - low, end - low)),
        )


def whole(marks, fps=25.0):
    facts = MediaFacts("video", "mp4", 96, 54, 1, 1, fps=fps)
    return WholeVideo("", facts, np.zeros(0, np.int64), "1fps", {"marks": marks})


def segments(operator, film, length_ms=300_000, fps=25.0):
    """What the operator makes of a film that is cut into windows of that length."""
    marks = []
    for start, footage in windows(film, length_ms, operator.context_frames):
        found = operator.watch(footage)["marks"]
        assert found.schema == pa.schema([pa.field("picture", pa.int32(), nullable=False), *MARKS])
        times = pa.array(footage.frame_ms[found["picture"].to_numpy()])
        starts = pa.array([start] * len(found), pa.int64())
        marks.append(found.append_column("frame_ms", times).append_column("window_start_ms", starts))
    found = operator.finish(whole(pa.concat_tables(marks), fps))["segments"]
    assert found.schema == SEGMENTS
    return found


def frames(table, kind="shot"):
    """First and last frame of each."""
    return [(row["start_frame"], row["end_frame"]) for row in table.to_pylist() if row["kind"] == kind]


# On the network.


def test_cuts_are_found_to_the_frame_and_black_too(shots):
    film = drawn(250, 25, cuts=(60, 100, 180), black=((210, 249),))
    found = segments(shots, film)
    assert frames(found) == [(0, 59), (60, 99), (100, 179), (180, 209), (210, 249)]
    assert frames(found, "black_frames") == [(210, 249)]
    assert found["index"].to_pylist() == [0, 1, 2, 3, 4, None]
    shot = found.to_pylist()[1]
    assert shot.pop("confidence") > 0.5
    assert shot == {
        "kind": "shot",
        "index": 1,
        "start_ms": 2400,
        "end_ms": 4000,
        "duration_ms": 1600,
        "start_frame": 60,
        "end_frame": 99,
        "frames": 40,
        "start_timecode": "00:00:02:10",
        "end_timecode": "00:00:03:24",
    }


def test_a_film_without_cuts_is_one_shot(shots):
    (shot,) = segments(shots, drawn(40, 10)).to_pylist()
    assert (shot["start_frame"], shot["end_frame"], shot["start_ms"], shot["end_ms"]) == (0, 39, 0, 4000)
    assert shot["confidence"] == 1


def test_answers_do_not_depend_on_the_windows(shots):
    # One cut is between the windows of ten seconds, and one stretch of black lies across an edge.
    film = drawn(210, 6, cuts=(30, 60, 90), black=((115, 130),))
    at_once = segments(shots, film, 300_000)
    assert frames(at_once)[:3] == [(0, 29), (30, 59), (60, 89)]
    assert frames(at_once, "black_frames") == [(115, 130)]
    for length in (10_000, 30_000):
        assert segments(shots, film, length).equals(at_once)


def test_a_dissolve_belongs_to_neither_shot(shots):
    times, thumbnails, dark = drawn(120, 25, cuts=(60,))
    part = (np.arange(1, 9) / 9)[:, None, None, None]
    thumbnails[56:64] = (thumbnails[55] * (1 - part) + thumbnails[64] * part).round().astype(np.uint8)
    (_, until), (since, _) = frames(segments(shots, (times, thumbnails, dark)))
    assert abs(until - 55) <= 1
    assert abs(since - 64) <= 1


def test_a_film_from_a_file(shots, tmp_path):
    path = tmp_path / "film.mp4"
    write_film(path, 6, cuts=(50, 90), black=((120, 149),))
    with open_video(str(path), path.name, path.stat().st_size, 10**8) as video:
        (window,) = video.windows()
        seen = list(video.frames(window, None, every_frame=True, context_frames=shots.context_frames))
    film = (
        np.array([one.frame_ms for one in seen]),
        np.stack([one.thumbnail for one in seen]),
        np.array([one.dark for one in seen], np.float32),
    )
    found = segments(shots, film)
    assert frames(found) == [(0, 49), (50, 89), (90, 119), (120, 149)]
    assert frames(found, "black_frames") == [(120, 149)]
    assert found["end_ms"].to_pylist()[3] == 6000


@pytest.mark.parametrize("name", ["book.mkv", "car-detection.mp4"])
def test_a_real_film_without_cuts(shots, evaluation, name):
    path = evaluation / "video" / name
    with open_video(str(path), name, path.stat().st_size, 10**8) as video:
        (window,) = video.windows()
        seen = list(video.frames(window, None, every_frame=True))
    times = np.array([one.frame_ms for one in seen])
    film = (times, np.stack([one.thumbnail for one in seen]), np.zeros(len(seen), np.float32))
    assert frames(segments(shots, film)) == [(0, len(seen) - 1)]


# On what is made of its answers.


def test_a_hard_cut_is_between_two_frames_and_a_gradual_one_has_some(scripted):
    middle, part = np.zeros(40, int), np.zeros(40, int)
    middle[9], part[9] = 90, 80
    middle[22], part[20:25] = 70, 60
    part[30:33] = 99  # no middle: none
    ((_, footage),) = windows(script(middle, part), 10_000, 50)
    marks = scripted.watch(footage)["marks"].to_pylist()
    assert [tuple(mark.values()) for mark in marks] == [
        (0, "window", 0, 4000, 0, 40, 1.0),
        (9, "cut", 1000, 1000, 10, 10, pytest.approx(0.9)),
        (20, "cut", 2000, 2500, 20, 25, pytest.approx(0.7)),
    ]
    found = segments(scripted, script(middle, part))
    assert frames(found) == [(0, 9), (10, 19), (25, 39)]
    assert found["end_ms"].to_pylist() == [1000, 2000, 4000]
    assert found["confidence"].to_pylist() == pytest.approx([0.9, 0.7, 0.7])


@pytest.mark.parametrize("first", range(93, 103))
@pytest.mark.parametrize("middle_at", [0, 2, 5])
def test_a_transition_across_an_edge_is_one(scripted, first, middle_at):
    middle, part = np.zeros(300, int), np.zeros(300, int)
    part[first : first + 6] = 70
    middle[first + middle_at] = 60
    film = script(middle, part)
    expected = segments(scripted, film)
    assert frames(expected) == [(0, first - 1), (first + 6, 299)]
    assert segments(scripted, film, 10_000).equals(expected)


@pytest.mark.parametrize("at", [98, 99, 100, 101])
def test_a_hard_cut_at_an_edge(scripted, at):
    middle = np.zeros(200, int)
    middle[at] = 60
    expected = segments(scripted, script(middle))
    assert frames(expected) == [(0, at), (at + 1, 199)]
    assert segments(scripted, script(middle), 10_000).equals(expected)


def test_two_frames_on_either_side_of_an_edge_are_one_transition(scripted):
    middle = np.zeros(200, int)
    middle[99:101] = 60, 80
    found = segments(scripted, script(middle), 10_000)
    assert frames(found) == [(0, 98), (101, 199)]
    assert found["end_ms"].to_pylist()[0] == 9900
    assert found.equals(segments(scripted, script(middle)))


def test_what_touches_an_edge_and_has_no_middle_is_nothing(scripted):
    part = np.zeros(200, int)
    part[96:104] = 70
    assert frames(segments(scripted, script(np.zeros(200, int), part), 10_000)) == [(0, 199)]


def test_black_across_edges_is_one_stretch(scripted):
    dark = np.zeros(350)
    dark[90:310] = 1
    dark[200] = 0.992
    dark[330:335] = 0.98  # not black enough
    found = segments(scripted, script(np.zeros(350, int), dark=dark), 10_000)
    assert frames(found, "black_frames") == [(90, 309)]
    row = found.to_pylist()[1]
    assert (row["start_ms"], row["end_ms"], row["index"]) == (9000, 31_000, None)
    assert row["confidence"] == pytest.approx(0.992)


def test_a_film_may_end_in_a_transition_and_begin_with_one(scripted):
    middle = np.zeros(50, int)
    middle[:3] = middle[45:] = 90
    assert frames(segments(scripted, script(middle))) == [(3, 44)]
    assert frames(segments(scripted, script(np.full(50, 90)))) == [(0, 49)]
    assert frames(segments(scripted, script([90]))) == [(0, 0)]


def test_a_window_may_be_without_frames(scripted):
    times, thumbnails, dark = script(np.eye(1, 60, 29, dtype=int)[0] * 90)
    times[30:] += 20_000  # nothing from 3 to 23 s
    found = segments(scripted, (times, thumbnails, dark))
    assert frames(found) == [(0, 29), (30, 59)]
    assert found["end_ms"].to_pylist() == [23_000, 26_000]


def test_no_frames_no_segments(scripted):
    assert scripted.finish(whole(None))["segments"].num_rows == 0


def test_the_network_is_shown_stretches_of_the_films_own_time(shots, monkeypatch):
    shown = []

    def network(given):
        shown.append(given[:, 0, 0, 0].tolist())
        return np.zeros((len(given), 2), np.float32)

    operator = Shots()
    operator._network = network
    film = script(np.arange(250))
    for _, footage in windows(film, 20_000, operator.context_frames):
        operator.watch(footage)
    assert shown == [
        [0] * 50 + list(range(150)),
        list(range(50, 250)),
        [*range(150, 250), *[249] * 50],
    ]
    shown.clear()
    operator.watch(next(windows(script(np.zeros(700, int), fps=70), 10_000, 50))[1])
    assert [len(one) for one in shown] == [334, 333, 333]


def test_where_nothing_moves_the_network_is_not_asked(shots, monkeypatch):
    asked = []
    network = shots._network
    monkeypatch.setattr(shots, "_network", lambda frames: asked.append(len(frames)) or network(frames))
    random = np.random.default_rng(3)
    room = random.integers(0, 255, (27, 48, 3))
    frames = (room + random.integers(-2, 3, (500, 27, 48, 3))).clip(0, 255).astype(np.uint8)
    still = Footage(np.arange(500) * 40, frames, np.zeros(500, np.float32), range(500))
    assert [row["kind"] for row in shots.watch(still)["marks"].to_pylist()] == ["window"]
    assert asked == []
    # Something small crosses the room in the second stretch: that is looked at, and the first is not.
    for number in range(400, 460):
        frames[number, 5:20, (number - 400) % 40 : (number - 400) % 40 + 8] = 255
    assert [row["kind"] for row in shots.watch(still)["marks"].to_pylist()] == ["window"]
    assert asked == [250 + 2 * REACH]


def test_the_threshold_is_a_setting(scripted):
    film = script(np.eye(1, 60, 29, dtype=int)[0] * 40)
    assert frames(segments(scripted, film)) == [(0, 59)]
    scripted.config = ShotsConfig(min_confidence=0.3)
    assert frames(segments(scripted, film)) == [(0, 29), (30, 59)]
    with pytest.raises(ValidationError):
        ShotsConfig(min_confidence=1.5)


def test_columns_are_described():
    assert all(field.metadata and field.metadata[b"description"] for field in [*MARKS, *SEGMENTS])


# Timecodes.


@pytest.mark.parametrize(
    ("frame", "fps", "expected"),
    [
        (0, 25, "00:00:00:00"),
        (24, 25, "00:00:00:24"),
        (25, 25, "00:00:01:00"),
        (90_000, 25, "01:00:00:00"),
        (1439, 23.976, "00:00:59:23"),
        (1440, 24000 / 1001, "00:01:00:00"),
        (1800, 30, "00:01:00:00"),
        (1799, 29.97, "00:00:59;29"),
        (1800, 30000 / 1001, "00:01:00;02"),
        (17_981, 29.97, "00:09:59;29"),
        (17_982, 29.97, "00:10:00;00"),
        (19_781, 29.97, "00:10:59;29"),
        (19_782, 29.97, "00:11:00;02"),
        (107_892, 29.97, "01:00:00;00"),
        (3599, 59.94, "00:00:59;59"),
        (3600, 60000 / 1001, "00:01:00;04"),
        (35_964, 59.94, "00:10:00;00"),
        (3600, 60, "00:01:00:00"),
        (119, 120, "00:00:00:119"),
    ],
)
def test_known_timecodes(frame, fps, expected):
    assert timecode(frame, fps) == expected


@pytest.mark.parametrize(("fps", "dropped"), [(30000 / 1001, {0, 1}), (60000 / 1001, {0, 1, 2, 3})])
def test_no_timecode_comes_twice_and_only_the_dropped_ones_are_missing(fps, dropped):
    nominal = round(fps)
    codes = [timecode(frame, fps) for frame in range(nominal * 60 * 21)]
    assert codes == sorted(set(codes))
    shown = {tuple(int(part) for part in code.replace(";", ":").split(":")) for code in codes}
    missing = {
        (minute, frame) for minute in range(20) for frame in range(nominal) if (0, minute, 0, frame) not in shown
    }
    assert missing == {(minute, frame) for minute in range(20) if minute % 10 for frame in dropped}


def test_without_a_rate_there_are_no_timecodes(scripted):
    found = segments(scripted, script(np.zeros(20, int)), fps=None)
    assert found["start_timecode"].to_pylist() == [None]
