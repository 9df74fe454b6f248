"""The table `spans`: runs of labels over the sampled frames of a video."""

import time

import numpy as np
import pyarrow as pa
import pytest

from pinakes.operators.labels import Labels
from pinakes.operators.moderation import Moderation
from pinakes.operators.operator import MediaFacts, WholeVideo
from pinakes.operators.spans import SPANS, spans


def video(rows, frame_ms, duration_ms=None, kind="labels"):
    """With rows (frame_ms, name, confidence)."""
    facts = MediaFacts("video", "mp4", 640, 360, 1, 1000, duration_ms=duration_ms)
    ms, names, confidence = zip(*rows, strict=True) if rows else ([], [], [])
    table = pa.table(
        {
            "name": pa.array(names, pa.string()),
            "confidence": pa.array(confidence, pa.float32()),
            "frame_ms": pa.array(ms, pa.int64()),
        }
    )
    return WholeVideo("ab" * 16, facts, np.array(frame_ms, np.int64), "1fps", {kind: table})


def found(whole, kind="labels"):
    """(name, start, end, frames) of every span."""
    rows = spans(kind, whole).to_pylist()
    return [(row["name"], row["start_ms"], row["end_ms"], row["frames"]) for row in rows]


SECONDS = list(range(0, 10_000, 1000))


def test_a_run_ends_with_the_first_frame_that_has_it_no_more():
    rows = [(ms, "dog", 0.5) for ms in (2000, 3000, 4000)]
    assert found(video(rows, SECONDS)) == [("dog", 2000, 5000, 3)]


def test_one_frame_without_it_is_bridged_and_two_are_not():
    rows = [(ms, "dog", 0.5) for ms in (0, 2000, 5000)]
    assert found(video(rows, SECONDS)) == [("dog", 0, 3000, 2), ("dog", 5000, 6000, 1)]


@pytest.mark.parametrize(("duration_ms", "end_ms"), [(9700, 9700), (None, 9000), (8000, 9000)])
def test_a_run_to_the_last_frame_ends_with_the_video(duration_ms, end_ms):
    rows = [(9000, "dog", 0.5)]
    assert found(video(rows, SECONDS, duration_ms)) == [("dog", 9000, end_ms, 1)]


def test_names_do_not_mix_and_come_by_time_and_name():
    rows = [(0, "dog", 0.5), (0, "cat", 0.6), (1000, "dog", 0.5), (2000, "ant", 0.9), (3000, "cat", 0.9)]
    assert found(video(rows, SECONDS)) == [
        ("cat", 0, 1000, 1),
        ("dog", 0, 2000, 2),
        ("ant", 2000, 3000, 1),
        ("cat", 3000, 4000, 1),
    ]


def test_of_several_rows_of_a_frame_the_most_confident_counts():
    rows = [(0, "dog", 0.2), (0, "dog", 0.8), (0, "dog", 0.5), (1000, "dog", 0.4)]
    (row,) = spans("labels", video(rows, SECONDS)).to_pylist()
    assert row["frames"] == 2
    assert row["max_confidence"] == pytest.approx(0.8)
    assert row["mean_confidence"] == pytest.approx(0.6)


def test_uneven_frames():
    assert found(video([(0, "dog", 0.5), (9600, "dog", 0.5)], [0, 400, 9600, 11_000])) == [("dog", 0, 11_000, 2)]


def test_no_rows_and_no_table_are_no_spans():
    assert spans("labels", video([], SECONDS)).equals(SPANS.empty_table())
    assert spans("moderation", video([(0, "dog", 0.5)], SECONDS)).equals(SPANS.empty_table())


def test_the_order_of_the_rows_does_not_matter():
    generator = np.random.default_rng(4)
    rows = [(ms, name, float(generator.random())) for ms in SECONDS for name in "abcdef" if generator.random() < 0.4]
    shuffled = [rows[place] for place in generator.permutation(len(rows))]
    assert spans("labels", video(shuffled, SECONDS)).equals(spans("labels", video(rows, SECONDS)))


def test_a_film_of_six_hours_takes_no_time():
    generator = np.random.default_rng(5)
    frame_ms = np.arange(21_600) * 1000
    rows = [(int(ms), f"label {name}", 0.5) for ms in frame_ms for name in generator.integers(0, 300, 5)]
    whole = video(rows, frame_ms)
    start = time.process_time()
    table = spans("labels", whole)
    assert time.process_time() - start < 2
    assert sum(table["frames"].to_pylist()) == len({row[:2] for row in rows})


@pytest.mark.parametrize("operator", [Labels(), Moderation()], ids=lambda one: one.name)
def test_operators_finish_with_spans_of_their_own_kind(operator):
    whole = video([(0, "Explicit", 0.9)], SECONDS, kind=operator.name)
    made = operator.finish(whole)
    assert dict(operator.video_tables) == {"spans": SPANS}
    assert made["spans"].schema.equals(SPANS)
    assert made["spans"]["kind"].to_pylist() == [operator.name]


@pytest.mark.parametrize("name", ["ClassifierLabels", "ZeroShotLabels"])
def test_models_of_ones_own_make_them_too(name):
    transformer_labels = pytest.importorskip("pinakes.operators.transformer_labels")
    operator_class = getattr(transformer_labels, name)
    assert dict(operator_class.video_tables) == {"spans": SPANS}
    made = operator_class.finish(Labels(), video([(0, "dog", 0.9)], SECONDS))
    assert made["spans"]["name"].to_pylist() == ["dog"]
