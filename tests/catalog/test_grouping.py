"""Faces put into groups: as slow average linkage does, in any order, strangers apart; and real faces."""

import os
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest

from pinakes.catalog import grouping
from pinakes.catalog.grouping import group, pairwise
from pinakes.catalog.thresholds import BY_MODEL
from pinakes.operators.decode import decode
from pinakes.operators.operator import Picture
from tests.drawings import drawn_faces
from tests.drawn_faces import identities
from tests.jobs.small_run import loaded

SAME_GROUP = BY_MODEL["yunet-2023mar+sface-2021dec"].grouping
#: Of the photos of the evaluation set, whose each face is, from left to right; "?" is somebody who is in none other.
PHOTOS = {
    "biden.jpg": ["Biden"],
    "lin-manuel-miranda.png": ["Miranda"],
    "obama.jpg": ["Obama"],
    "obama2.jpg": ["Obama"],
    "obama3.jpg": ["Obama"],
    "obama_partial_face.jpg": ["Obama"],
    "obama_partial_face2.jpg": ["Obama"],
    "two_people.jpg": ["Obama", "Biden"],
    "test/alex_lacamoire1.jpg": ["Lacamoire"],
    "test/johnsnow_test1.jpg": ["Harington"],
    "test/kit_with_rose.jpg": ["Leslie", "Harington"],
    "test/obama1.jpg": ["Obama"],
    "test/obama_and_biden.jpg": ["Biden", "Obama", "?"],
    "train/alex_lacamoire/img1.jpg": ["Lacamoire"],
    "train/biden/biden.jpg": ["Biden"],
    "train/biden/biden2.jpg": ["? behind", "Biden"],
    "train/obama/obama.jpg": ["Obama"],
    "train/obama/obama2.jpg": ["Obama"],
    "train/rose_leslie/img1.jpg": ["Leslie"],
    "train/rose_leslie/img2.jpg": ["Leslie"],
}


def faces_of(*pictures: bytes) -> list[tuple[int, np.ndarray]]:
    """Of every face its picture's number and its vector, from left to right."""
    seen = loaded("faces")["faces"].look([Picture(*decode(data)) for data in pictures])
    faces, vectors = seen["faces"].to_pylist(), seen["embeddings"]["vector"].to_pylist()
    both = sorted(zip(faces, vectors, strict=True), key=lambda one: (one[0]["picture"], one[0]["box"]["left"]))
    return [(face["picture"], np.asarray(vector, np.float32)) for face, vector in both]


def linkage(vectors: np.ndarray, threshold: float) -> np.ndarray:
    """Average linkage, the slow way: the two nearest groups are merged, until none are near."""
    found, sizes = np.arange(len(vectors)), np.ones(len(vectors))
    similar = (vectors @ vectors.T).astype(np.float64)
    np.fill_diagonal(similar, -np.inf)
    while similar.max() >= threshold:
        one, other = np.unravel_index(similar.argmax(), similar.shape)
        mean = (sizes[one] * similar[one] + sizes[other] * similar[other]) / (sizes[one] + sizes[other])
        similar[one] = similar[:, one] = mean
        similar[other] = similar[:, other] = similar[one, one] = -np.inf
        sizes[one] += sizes[other]
        found[found == other] = one
    return found


def same(one: np.ndarray, other: np.ndarray) -> bool:
    return pairwise(one, other) == (1.0, 1.0)


def noisy(count: int, faces: int, noise: float, seed: int) -> np.ndarray:
    """Identities that are hard to tell apart."""
    vectors = identities(count, faces, 24, seed)
    vectors = vectors + noise * np.random.default_rng(seed).normal(size=vectors.shape) / 24**0.5
    unit: np.ndarray = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return unit


@pytest.mark.parametrize("threshold", [0.2, 0.35, 0.5, 0.7])
def test_groups_are_those_of_average_linkage(threshold: float, monkeypatch: pytest.MonkeyPatch) -> None:
    # With the nearest twelve and several taken in at once the outcome may differ by a face in doubt.
    monkeypatch.setattr(grouping, "NEIGHBOURS", 80)
    monkeypatch.setattr(grouping, "SLICE", 1000)
    for seed in range(3):
        vectors = noisy(10, 6, 0.6, seed)
        groups = group(vectors, threshold)
        assert same(groups, linkage(vectors, threshold))
        assert 1 < groups.max() < 59


def test_shortcuts_change_little() -> None:
    vectors = noisy(8, 40, 0.5, 1)
    right, shown = linkage(vectors, 0.45), group(vectors, 0.45)
    assert min(pairwise(shown, right)) > 0.97


def test_people_are_found_among_many(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = np.concatenate([identities(150, 10), identities(1, 2500, seed=5)])
    truth = np.concatenate([np.repeat(np.arange(150), 10), np.full(2500, 150)])
    exactly = group(vectors, SAME_GROUP)
    assert same(exactly, truth)
    assert (exactly[-2500:] == 0).all()  # the largest comes first
    monkeypatch.setattr(grouping, "EXACT", 500)
    assert same(group(vectors, SAME_GROUP), truth)


def test_the_order_of_faces_does_not_matter() -> None:
    vectors = noisy(40, 8, 0.6, 2)
    groups = group(vectors, 0.4)
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(len(vectors))
        assert same(group(vectors[order], 0.4), groups[order])
    assert (group(vectors, 0.4) == groups).all()


def test_a_chain_of_likenesses_does_not_join_strangers() -> None:
    turns = np.linspace(0, np.pi / 2, 30)
    chain = np.stack([np.cos(turns), np.sin(turns)], axis=1).astype(np.float32)
    assert (chain[:-1] * chain[1:]).sum(axis=1).min() > 0.99
    groups = group(chain, 0.8)
    assert groups[0] != groups[-1]
    for number in np.unique(groups):
        members = chain[groups == number]
        assert (members @ members.T).mean() >= 0.8


def test_few_and_equal_faces() -> None:
    assert len(group(np.empty((0, 128), np.float32), 0.4)) == 0
    one = identities(1, 1)
    assert group(one, 0.4).tolist() == [0]
    assert group(np.repeat(one, 50, axis=0), 0.4).tolist() == [0] * 50
    assert sorted(group(np.concatenate([one, -one]), 0.4)) == [0, 1]


def test_precision_and_recall_are_of_pairs() -> None:
    truth = np.array([0, 0, 0, 1, 1])
    assert pairwise(truth, truth) == (1, 1)
    assert pairwise(np.zeros(5, int), truth) == (4 / 10, 1)
    assert pairwise(np.arange(5), truth) == (1, 0)
    assert pairwise(np.array([0, 0, 1, 1, 1]), truth) == (2 / 4, 2 / 4)


def test_real_faces_are_grouped_by_who_they_are() -> None:
    if os.environ.get("PINAKES_EVAL"):
        folder = Path(os.environ["PINAKES_EVAL"], "faces")
        seen = faces_of(*((folder / name).read_bytes() for name in PHOTOS))
        truth = [who for people in PHOTOS.values() for who in people]
        assert [number for number, _ in seen] == [at for at, people in enumerate(PHOTOS.values()) for _ in people]
        assert len(set(truth)) == 8
    else:
        # The same face, drawn at several places and sizes.
        pictures = []
        for scale in (0.8, 1.0, 1.3, 1.7):
            out = BytesIO()
            drawn_faces((640, 640), [(300 + 20 * scale, 250, scale)]).save(out, "JPEG", quality=90)
            pictures.append(out.getvalue())
        seen, truth = faces_of(*pictures), ["drawn"] * 4
        assert len(seen) == 4
    groups = group(np.stack([vector for _, vector in seen]), SAME_GROUP)
    assert pairwise(groups, np.unique(truth, return_inverse=True)[1]) == (1, 1)
