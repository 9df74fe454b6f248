"""The operator `tracks` on rows made up, and on a film of six people who come in one after another."""

import os
import time
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from pinakes.operators.operator import BOX, MediaFacts, Picture, WholeVideo, create
from pinakes.operators.shots import MARKS
from pinakes.operators.tracks import TRACKS, Tracks, TracksConfig
from pinakes.operators.video import Window, open_video

FACTS = MediaFacts("video", "mp4", 1600, 900, 1, 1000)

MORE = [pa.field("frame_ms", pa.int64()), pa.field("window_start_ms", pa.int64()), pa.field("operator", pa.string())]


def box(left, top=0.3, width=0.1, height=0.5):
    return {"left": left, "top": top, "width": width, "height": height}


def head(left):
    """The face of whoever has `box(left)`."""
    return box(left + 0.035, 0.32, 0.03, 0.07)


def vector(person):
    """Of length 1, like no other person's."""
    found = np.zeros(128, np.float32)
    found[person] = 1
    return found


def table(rows, *columns):
    """A table of dictionaries, of those columns and MORE."""
    return pa.Table.from_pylist(rows, schema=pa.schema([*columns, *MORE]))


def video(frame_ms, people=(), faces=(), cuts=(), facts=FACTS):
    """`people` are (frame_ms, box[, confidence]), `faces` (frame_ms, box, vector or None), `cuts` milliseconds."""
    objects = [
        {"name": "person", "frame_ms": ms, "box": where, "confidence": sure[0] if sure else 0.9}
        for ms, where, *sure in people
    ]
    found = [
        {"face_id": f"face {number}", "frame_ms": ms, "box": where, "confidence": 0.9}
        for number, (ms, where, _) in enumerate(faces)
    ]
    vectors = [
        {"subject": "face", "subject_id": f"face {number}", "vector": value.tolist(), "frame_ms": ms}
        for number, (ms, _, value) in enumerate(faces)
        if value is not None
    ]
    end = int(max(frame_ms)) + 1000
    marks = [mark("window", 0, end, 0, end), *(mark("cut", ms, ms, ms, ms) for ms in cuts)]
    name, confidence = pa.field("name", pa.string()), pa.field("confidence", pa.float32())
    face_id, place = pa.field("face_id", pa.string()), pa.field("box", BOX)
    subject, subject_id = pa.field("subject", pa.string()), pa.field("subject_id", pa.string())
    rows = {
        "objects": table(objects, name, confidence, place),
        "faces": table(found, face_id, place, confidence),
        "embeddings": table(vectors, subject, subject_id, pa.field("vector", pa.list_(pa.float32()))),
        "marks": table(marks, *MARKS),
    }
    return WholeVideo("ab" * 16, facts, np.array(sorted(frame_ms), np.int64), "1fps", rows)


def mark(kind, start_ms, end_ms, start_frame, end_frame):
    """A row of `marks`, of a film of 1000 frames a second."""
    times = {"start_ms": start_ms, "end_ms": end_ms, "start_frame": start_frame, "end_frame": end_frame}
    return {"kind": kind, **times, "confidence": 1.0, "frame_ms": max(0, start_ms - 1), "window_start_ms": 0}


def tracks(whole, kind=None, **settings):
    made = Tracks(TracksConfig(**settings)).finish(whole)["tracks"]
    assert made.schema.equals(TRACKS)
    made.validate(full=True)
    rows = made.to_pylist()
    assert len({row["track_id"] for row in rows}) == len(rows)
    return [row for row in rows if kind in (None, row["kind"])]


def lefts(row):
    """Where the boxes of a track are, in hundredths."""
    return [round(one["left"] * 100) for one in row["boxes"]]


SECONDS = [second * 1000 for second in range(10)]


def test_one_who_walks_by_at_one_frame_a_second():
    (row,) = tracks(video(SECONDS, [(ms, box(0.05 + 0.00008 * ms)) for ms in SECONDS[2:8]]))
    assert (row["kind"], row["start_ms"], row["end_ms"], row["frames"]) == ("person", 2000, 7000, 6)
    assert [one["frame_ms"] for one in row["boxes"]] == SECONDS[2:8]
    assert row["boxes"][0]["top"] == pytest.approx(0.3)
    assert row["confidence"] == pytest.approx(0.9)
    assert row["face_ids"] == []
    assert row["person_track_id"] is None


def test_two_who_cross():
    people = [(ms, box(0.1 + 0.00007 * ms)) for ms in SECONDS] + [(ms, box(0.75 - 0.00007 * ms)) for ms in SECONDS]
    first, second = sorted(tracks(video(SECONDS, people)), key=lefts)
    assert lefts(first) == [10 + 7 * second for second in range(10)]
    assert lefts(second) == [75 - 7 * second for second in range(10)]


def test_another_at_the_same_place_after_a_while():
    people = [(ms, box(0.4)) for ms in (0, 1000, 2000, 6000, 7000)]
    assert [row["start_ms"] for row in tracks(video(SECONDS, people))] == [0, 6000]


@pytest.mark.parametrize("missed", [1, 2])
def test_one_frame_may_be_missed_and_at_one_a_second_not_two(missed):
    people = [(ms, box(0.4)) for ms in SECONDS if not 4000 <= ms < 4000 + 1000 * missed]
    assert [row["frames"] for row in tracks(video(SECONDS, people))] == ([9] if missed == 1 else [4, 4])


def test_no_track_goes_on_over_a_cut():
    people = [(ms, box(0.4)) for ms in SECONDS]
    rows = tracks(video(SECONDS, people, cuts=[4500]))
    assert [(row["start_ms"], row["end_ms"]) for row in rows] == [(0, 4000), (5000, 9000)]


def test_a_cut_at_a_sampled_frame_is_before_it():
    rows = tracks(video(SECONDS, [(ms, box(0.4)) for ms in SECONDS], cuts=[5000]))
    assert [(row["start_ms"], row["end_ms"]) for row in rows] == [(0, 4000), (5000, 9000)]


def test_who_is_seen_while_one_shot_fades_into_another_is_in_neither():
    whole = video(SECONDS, [(ms, box(0.4)) for ms in SECONDS])
    rows = [mark("window", 0, 10_000, 0, 10_000), mark("cut", 3800, 5200, 3800, 5200)]
    whole = replace(whole, rows={**whole.rows, "marks": table(rows, *MARKS)})
    assert [row["frames"] for row in tracks(whole)] == [4, 2, 4]


def test_faces_that_change_places_are_told_apart_by_their_vectors():
    places = [(0.3, 0.4) if ms < 5000 else (0.4, 0.3) for ms in SECONDS]
    faces = [
        (ms, head(place), vector(who))
        for ms, both in zip(SECONDS, places, strict=True)
        for who, place in enumerate(both)
    ]
    rows = tracks(video(SECONDS, faces=faces), "face")
    assert sorted(row["face_ids"] for row in rows) == [
        [f"face {number}" for number in range(start, 20, 2)] for start in (0, 1)
    ]


def test_another_face_at_the_same_place_is_another_track():
    faces = [(ms, head(0.4), vector(int(ms >= 5000))) for ms in SECONDS]
    assert [row["frames"] for row in tracks(video(SECONDS, faces=faces), "face")] == [5, 5]


def test_so_is_the_person_that_carries_it():
    people, faces = [(ms, box(0.4)) for ms in SECONDS], [(ms, head(0.4), vector(int(ms >= 5000))) for ms in SECONDS]
    rows = tracks(video(SECONDS, people, faces))
    assert [(row["kind"], row["frames"]) for row in rows] == [("person", 5), ("face", 5)] * 2
    assert [row["person_track_id"] for row in rows[1::2]] == [row["track_id"] for row in rows[::2]]


def test_the_face_of_one_who_walks_stays_with_the_body():
    steps = [(ms, 0.05 + 0.00018 * ms) for ms in SECONDS[:5]]
    # Each is like the others by a cosine of 0.2.
    vectors = [0.2**0.5 * vector(0) + 0.8**0.5 * vector(number) for number in range(1, 6)]
    faces = [(ms, head(left), one) for (ms, left), one in zip(steps, vectors, strict=True)]
    person, face = tracks(video(SECONDS, [(ms, box(left)) for ms, left in steps], faces))
    assert face["frames"] == 5
    assert face["person_track_id"] == person["track_id"]
    assert len(tracks(video(SECONDS, (), faces), "face")) > 1


def test_of_two_bodies_a_face_is_of_the_one_whose_head_it_is():
    people = [(0, box(0.4)), (0, box(0.36, 0.1, 0.16, 0.9))]
    (face,) = tracks(video(SECONDS, people, [(0, head(0.4), None)]), "face")
    _, nearer = sorted(tracks(video(SECONDS, people), "person"), key=lefts)
    assert face["person_track_id"] == nearer["track_id"]


def test_a_face_at_ones_feet_is_not_ones_own():
    rows = tracks(video(SECONDS, [(0, box(0.4))], [(0, box(0.43, 0.7, 0.03, 0.07), None)]), "face")
    assert [row["person_track_id"] for row in rows] == [None]


def test_little_confidence_goes_on_and_does_not_begin():
    people = [(ms, box(0.4), 0.45 if ms < 3000 or ms > 6000 else 0.8) for ms in SECONDS]
    (row,) = tracks(video(SECONDS, people))
    assert (row["start_ms"], row["end_ms"]) == (3000, 9000)
    assert row["max_confidence"] == pytest.approx(0.8)
    assert [row["start_ms"] for row in tracks(video(SECONDS, people), "person")] == [3000]
    assert [row["start_ms"] for row in tracks(video(SECONDS, people), person_confidence=0.4)] == [0]


def test_key_frames_at_uneven_times():
    frame_ms = [0, 1500, 6000, 9800, 30_000, 30_040]
    rows = tracks(video(frame_ms, [(ms, box(0.4)) for ms in frame_ms]))
    assert [(row["start_ms"], row["end_ms"]) for row in rows] == [(0, 9800), (30_000, 30_040)]


def test_between_frames_far_apart_none_may_be_missed():
    frame_ms = [0, 4000, 8000, 12_000]
    assert len(tracks(video(frame_ms, [(ms, box(0.4)) for ms in (0, 8000, 12_000)]))) == 2


def test_who_is_far_away_is_somebody_else():
    rows = tracks(video(SECONDS, [(0, box(0.02, 0.4, 0.05, 0.2)), (1000, box(0.9, 0.4, 0.05, 0.2))]))
    assert [row["frames"] for row in rows] == [1, 1]


def test_a_person_is_called_what_the_model_calls_one():
    whole = video(SECONDS, [(0, box(0.4))])
    assert tracks(whole, person="Person") == []
    assert [row["kind"] for row in tracks(whole, person="person")] == ["person"]


def test_two_boxes_of_one_person_are_one():
    people = [(ms, where, sure) for ms in SECONDS for where, sure in ((box(0.4), 0.9), (box(0.405), 0.8))]
    (row,) = tracks(video(SECONDS, people))
    assert lefts(row) == [40] * 10


@pytest.mark.parametrize("tables", [(), ("objects",), ("faces",), ("faces", "embeddings"), ("objects", "marks")])
def test_it_makes_what_it_can_of_what_there_is(tables):
    whole = video(SECONDS, [(0, box(0.4))], [(0, head(0.4), vector(0))])
    rows = tracks(replace(whole, rows={name: whole.rows[name] for name in tables}))
    assert [row["kind"] for row in rows] == [
        kind for kind, name in (("person", "objects"), ("face", "faces")) if name in tables
    ]


def test_nothing_seen():
    assert tracks(video(SECONDS)) == []


def test_ids_are_the_same_again_and_others_in_another_item():
    whole = video(SECONDS, [(ms, box(0.4)) for ms in SECONDS], [(0, head(0.4), vector(0))])
    ids = [row["track_id"] for row in tracks(whole)]
    assert ids == [row["track_id"] for row in tracks(whole)]
    assert not {*ids} & {row["track_id"] for row in tracks(replace(whole, item_key="cd" * 16))}
    assert all(len(one) == 32 and int(one, 16) for one in ids)


def test_the_order_of_the_rows_does_not_matter():
    whole = walkers(20, 5)
    order = np.random.default_rng(1).permutation
    mixed = {name: rows.take(pa.array(order(len(rows)))) for name, rows in whole.rows.items()}
    assert Tracks().finish(replace(whole, rows=mixed))["tracks"].equals(Tracks().finish(whole)["tracks"])


def walkers(frames, people, seed=0):
    """People who walk about and turn at the picture's edge, each missed in one frame of ten; and their faces."""
    generator = np.random.default_rng(seed)
    place, speed = generator.uniform(0.05, 0.85, people), generator.normal(0, 0.03, people)
    found = []
    for frame in range(frames):
        place = place + speed
        speed = np.where((place < 0.02) | (place > 0.88), -speed, speed)
        place = place.clip(0.02, 0.88)
        seen = np.flatnonzero(generator.random(people) > 0.1)
        found += [(frame * 1000, who, float(place[who])) for who in seen.tolist()]
    height = 0.9 / people
    boxes = [(ms, box(left, who * height, 0.04, height)) for ms, who, left in found]
    faces = [(ms, box(left + 0.01, who * height, 0.02, height / 5), vector(who)) for ms, who, left in found]
    return video([frame * 1000 for frame in range(frames)], boxes, faces)


@pytest.mark.parametrize(("frames", "people"), [(2000, 10), (600, 30)])
def test_many_people_take_no_time(frames, people):
    """21,600 frames, six hours at one a second, with ten people in each and their faces took 11 s of CPU."""
    whole = walkers(frames, people)
    start = time.process_time()
    rows = tracks(whole)
    assert time.process_time() - start < 6
    assert sum(row["frames"] for row in rows) > 1.9 * 0.9 * frames * people * 0.99


@pytest.fixture(scope="module")
def film(local_models, evaluation):
    """What there is of a film of six people, two frames a second."""
    path = str(evaluation / "video" / "one-by-one-person-detection.mp4")
    operators = [create("objects"), create("faces")]
    for operator in operators:
        operator.load()
    times, found = [], {"objects": [], "faces": [], "embeddings": []}
    with open_video(path, path, os.path.getsize(path), 10**8) as opened:
        for frame in opened.frames(Window(0, None), "2fps"):
            times.append(frame.frame_ms)
            picture = Picture(frame.pixels, opened.facts, "ab" * 16, frame_ms=frame.frame_ms)
            for operator in operators:
                for name, rows in operator.look([picture]).items():
                    ms = pa.array([frame.frame_ms] * len(rows), pa.int64())
                    found[name].append(rows.append_column("frame_ms", ms))
    rows = {name: pa.concat_tables(tables) for name, tables in found.items()}
    return WholeVideo("ab" * 16, opened.facts, np.array(times, np.int64), "2fps", rows)


@pytest.mark.parametrize("every", [1, 2, 4], ids=["2fps", "1fps", "every 2 s"])
def test_each_of_six_people_has_one_track(film, every):
    frame_ms = film.frame_ms[::every]
    rows = {name: rows.filter(pc.is_in(rows["frame_ms"], pa.array(frame_ms))) for name, rows in film.rows.items()}
    people = tracks(replace(film, frame_ms=frame_ms, rows=rows), "person")
    there = [(6, 20), (22, 45), (50, 70), (74, 87), (92, 120), (123, 136)]
    assert len(people) == len(there)
    for row, (start, end) in zip(people, there, strict=True):
        assert start * 1000 <= row["start_ms"] < row["end_ms"] <= end * 1000
        assert row["end_ms"] - row["start_ms"] > (end - start - 6) * 1000
