"""What holds for every operator: its tables, its settings, its fingerprint, and that a picture's answer is its own."""

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from pinakes.operators import models
from pinakes.operators.errors import ConfigError
from pinakes.operators.operator import PICTURE, available, create

NAMES = ("media", "labels", "objects", "faces", "text", "moderation", "properties")


@pytest.fixture(scope="module", params=NAMES)
def operator(request, local_models):
    made = create(request.param)
    made.load()
    return made


@pytest.fixture(scope="module")
def pictures(scene, encoded, picture):
    """Three of different sizes; in the last there is nothing to see."""
    images = [scene, scene.transpose(0).resize((1500, 1000)), scene.crop((600, 0, 720, 60))]
    return [picture(encoded(image)) for image in images]


def test_each_is_on_record():
    assert set(NAMES) <= set(available())


def test_tables_are_described_and_filled_as_declared(operator, pictures):
    for batch in ([], pictures[:1], pictures):
        found = operator.look(batch)
        assert set(found) == set(operator.tables)
        for name, schema in operator.tables.items():
            assert all(field.metadata[b"description"] for field in schema)
            assert found[name].schema.equals(pa.schema([PICTURE, *schema]), check_metadata=True)
            assert set(found[name]["picture"].to_pylist()) <= set(range(len(batch)))
            found[name].validate(full=True)


def test_an_answer_does_not_depend_on_the_batch(operator, pictures):
    together = operator.look([*pictures, *pictures[::-1]])
    for name in operator.tables:
        for position, one in enumerate([*pictures, *pictures[::-1]]):
            alone = operator.look([one])[name]
            rows = together[name].filter(pc.equal(together[name]["picture"], position))
            assert rows.drop(["picture"]).to_pylist() == alone.drop(["picture"]).to_pylist()


def test_confidence_falls_and_is_never_under_the_threshold(local_models, pictures):
    for name in ("labels", "objects"):
        for threshold in (0.02, 0.3, 1.0):
            one = create(name, {"min_confidence": threshold})
            one.load()
            for row in pictures:
                confidence = one.look([row])[name]["confidence"].to_pylist()
                assert confidence == sorted(confidence, reverse=True)
                assert all(threshold <= value <= 1 for value in confidence)


def test_settings_change_the_fingerprint_and_wrong_ones_are_refused():
    prints = {create("labels").fingerprint, create("objects").fingerprint, create("media").fingerprint}
    prints |= {
        create("labels", {"min_confidence": 0.2}).fingerprint,
        create("labels", {"max_labels": 3}).fingerprint,
    }
    assert len(prints) == 5
    assert create("labels", {"min_confidence": 0.1}).fingerprint == create("labels").fingerprint
    for name, settings in (
        ("labels", {"min_confidence": 1.1}),
        ("labels", {"max_labels": 0}),
        ("objects", {"min_confidence": -0.1}),
        ("objects", {"max_labels": 3}),
        ("media", {"min_confidence": 0.5}),
    ):
        with pytest.raises(ConfigError, match=f"operator {name}: {next(iter(settings))}"):
            create(name, settings)


def test_other_weights_change_the_fingerprint(monkeypatch):
    before = create("labels").fingerprint
    entry = models.entry("pp-lcnetv2-base")
    files = (entry.files[0], entry.files[1].model_copy(update={"sha256": "0" * 64}))
    monkeypatch.setattr(models, "entry", lambda name: entry.model_copy(update={"files": files}))
    assert create("labels").fingerprint != before
