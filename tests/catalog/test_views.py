"""The views that put tables together: labels with their ancestors, in another service's shape, and what failed."""

from pathlib import Path
from typing import Any

import pytest

from pinakes.catalog import Catalog
from pinakes.operators.errors import ErrorCode
from tests.catalog.label_rows import commit, label, thing

#: Two dogs of two kinds and a van in one picture, a van in another, which an earlier look took for a boat.
LABELS = {
    "a": [
        label("beagle", 0.75, "dog", "animal", categories=("Animals and Pets",)),
        label("pug", 0.25, "dog", "animal", categories=("Animals and Pets",)),
    ],
    "b": [label("van", 0.5, "vehicle")],
}
OBJECTS = {"a": [thing("dog", 0.5, "animal"), thing("dog", 0.875, "animal")], "b": [thing("van", 0.625, "vehicle")]}


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    made = Catalog(str(tmp_path_factory.mktemp("views") / "catalog"), create=True)
    commit(made, {"labels": {"a": [label("boat", 0.5, "vehicle")], "b": []}}, "earlier")
    commit(made, {"labels": LABELS, "objects": OBJECTS}, failed={"c": "truncated", "d": "unreachable"})
    return made


def rows(catalog: Catalog, query: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = catalog.sql(query).to_pylist()
    return found


def test_pictures_are_counted_by_what_is_in_them_or_above_it(catalog: Catalog) -> None:
    counted = rows(catalog, "SELECT name, count(DISTINCT uri) AS pictures FROM labels_all GROUP BY 1 ORDER BY 1")
    assert [tuple(row.values()) for row in counted] == [
        ("animal", 1), ("beagle", 1), ("dog", 1), ("pug", 1), ("van", 1), ("vehicle", 1)
    ]  # fmt: skip
    dogs = rows(catalog, "SELECT direct, ancestor_of, confidence FROM labels_all WHERE name = 'dog' ORDER BY 2")
    assert [tuple(row.values()) for row in dogs] == [(False, "beagle", 0.75), (False, "pug", 0.25)]
    (beagle,) = rows(catalog, "SELECT direct, ancestor_of, confidence FROM labels_all WHERE name = 'beagle'")
    assert tuple(beagle.values()) == (True, None, 0.75)


def test_labels_and_boxes_are_one_in_the_shape_of_the_service(catalog: Catalog) -> None:
    found = {(row["uri"], row["Name"]): row for row in rows(catalog, "FROM rekognition_labels")}
    assert set(found) == {("a", "beagle"), ("a", "pug"), ("a", "dog"), ("a", "animal"), ("b", "van"), ("b", "vehicle")}
    box = {"Width": 0.3, "Height": 0.4, "Left": 0.1, "Top": 0.2}
    dog = found["a", "dog"]
    assert dog["Confidence"] == 87.5
    assert dog["Parents"] == [{"Name": "animal"}]
    assert [one["Confidence"] for one in dog["Instances"]] == [87.5, 50.0]
    assert dog["Instances"][0]["BoundingBox"] == pytest.approx(box)
    assert dog["LabelModelVersion"] == "labels+objects"
    assert (dog["Timestamp"], dog["Aliases"], dog["Categories"]) == (None, [], [])
    beagle = found["a", "beagle"]
    assert beagle["Parents"] == [{"Name": "dog"}, {"Name": "animal"}]
    assert (beagle["Confidence"], beagle["Instances"]) == (75.0, [])
    assert beagle["Categories"] == [{"Name": "Animals and Pets"}]
    assert (found["a", "animal"]["Confidence"], found["a", "animal"]["Instances"]) == (87.5, [])
    van = found["b", "van"]
    assert (van["Confidence"], len(van["Instances"]), van["Parents"]) == (62.5, 1, [{"Name": "vehicle"}])


def test_labels_alone_have_that_shape_too(tmp_path: Path) -> None:
    catalog = Catalog(str(tmp_path), create=True)
    commit(catalog, {"labels": LABELS})
    query = 'SELECT count(*) AS rows, sum(len("Instances")) AS boxes FROM rekognition_labels'
    assert rows(catalog, query) == [{"rows": 6, "boxes": 0}]


def test_what_failed_is_an_item_with_its_operators(catalog: Catalog) -> None:
    query = "SELECT uri, operators, code, attempts, tries_again FROM media_failed ORDER BY uri"
    assert [tuple(row.values()) for row in rows(catalog, query)] == [
        ("c", ["labels", "objects"], "truncated", 1, False),
        ("d", ["labels", "objects"], "unreachable", 1, True),
    ]


def test_the_view_knows_which_failures_a_run_tries_again(tmp_path: Path) -> None:
    catalog = Catalog(str(tmp_path), create=True)
    commit(catalog, {"labels": {}}, failed={code.value: code.value for code in ErrorCode})
    tried = {row["code"] for row in rows(catalog, "SELECT code FROM media_failed WHERE tries_again")}
    assert tried == {code.value for code in ErrorCode if code.transient}
