"""The vocabularies: complete, consistent with one another, and saying what a reader would expect."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pinakes.operators import wordnet

WORDNET = Path("/usr/share/wordnet")  # of the Debian package wordnet-base
EVAL = os.environ.get("PINAKES_EVAL")
BOTH = [*wordnet.vocabulary("imagenet").to_pylist(), *wordnet.vocabulary("coco").to_pylist()]


@pytest.mark.parametrize(("which", "count"), [("imagenet", 1000), ("coco", 80)])
def test_classes_stand_in_the_order_of_the_outputs(which: str, count: int) -> None:
    table = wordnet.vocabulary(which)
    assert table["index"].to_pylist() == list(range(count))
    names = table["name"].to_pylist()
    assert len({name.casefold() for name in names}) == count
    assert all(name == name.strip() and ";" not in name for name in names)


def test_imagenet_is_numbered_by_wnid() -> None:
    table = wordnet.vocabulary("imagenet")
    wnids = table["wnid"].to_pylist()
    assert wnids == sorted(set(wnids))
    known = {0: "tench", 1: "goldfish", 207: "golden retriever", 335: "fox squirrel", 963: "pizza", 999: "toilet paper"}
    assert {index: table["name"][index].as_py() for index in known} == known


def test_coco_is_in_its_usual_order() -> None:
    names = wordnet.vocabulary("coco")["name"].to_pylist()
    known = {0: "person", 2: "car", 9: "traffic light", 16: "dog", 24: "backpack", 39: "bottle", 56: "chair", 62: "tv"}
    assert {index: names[index] for index in known} == known
    assert names[-2:] == ["hair drier", "toothbrush"]


def test_every_class_has_ancestors_and_known_categories() -> None:
    for row in BOTH:
        above, given = row["ancestors"], row["categories"]
        assert above, row
        assert all(above), row
        assert len(set(above)) == len(above), row
        assert row["name"] not in above, row
        assert given, row
        assert given == sorted(set(given)), row
        assert set(given) <= set(wordnet.CATEGORIES), row
    assert len(set(wordnet.CATEGORIES)) == 40


def test_a_name_means_one_thing_in_both_vocabularies() -> None:
    seen: dict[str, tuple[list[str], list[str]]] = {}
    for row in BOTH:
        meaning = (row["ancestors"], row["categories"])
        assert seen.setdefault(row["name"], meaning) == meaning, row
    by_wnid: dict[str, set[str]] = {}
    for row in BOTH:
        if row["wnid"]:
            by_wnid.setdefault(row["wnid"], set()).add(row["name"])
    assert [names for names in by_wnid.values() if len(names) > 1] == []


def test_the_nearest_ancestor_comes_first() -> None:
    """Where an ancestor is a class itself, its own ancestors follow it."""
    classes = {row["name"]: row["ancestors"] for row in BOTH}
    checked = 0
    for row in BOTH:
        for at, one in enumerate(row["ancestors"]):
            if one in classes:
                assert set(classes[one]) <= set(row["ancestors"][at + 1 :]), (row, one)
                checked += 1
    assert checked > 100


def test_fox_squirrel() -> None:
    squirrel = wordnet.ancestors("fox squirrel")
    assert squirrel == ["tree squirrel", "squirrel", "rodent", "mammal", "vertebrate", "animal", "living thing"]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("dog", "animal"),
        ("golden retriever", "dog"),
        ("tabby cat", "cat"),
        ("goldfinch", "bird"),
        ("tench", "fish"),
        ("crane (bird)", "bird"),
        ("crane (machine)", "machine"),
        ("minivan", "car"),
        ("school bus", "bus"),
        ("bus", "vehicle"),
        ("warplane", "airplane"),
        ("rocking chair", "chair"),
        ("studio couch", "couch"),
        ("stop sign", "sign"),
        ("volleyball", "ball"),
        ("violin", "musical instrument"),
        ("pizza", "food"),
        ("banana", "fruit"),
        ("red wine", "beverage"),
        ("daisy", "plant"),
        ("church", "building"),
        ("maillot", "clothing"),
        ("baseball player", "person"),
        ("giant panda", "bear"),
        ("assault rifle", "weapon"),
        ("four-poster bed", "furniture"),
    ],
)
def test_a_query_by_kind_finds_the_class(name: str, kind: str) -> None:
    assert kind in wordnet.ancestors(name)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("church", {"Buildings and Architecture", "Religion"}),
        ("assault rifle", {"Weapons and Military"}),
        ("comic book", {"Text and Documents"}),
        ("volleyball", {"Sports"}),
        ("hen", {"Animals and Pets"}),
        ("daisy", {"Plants and Flowers"}),
        ("pizza", {"Food and Beverage"}),
        ("minivan", {"Vehicles and Automotive"}),
        ("aircraft carrier", {"Vehicles and Automotive", "Weapons and Military"}),
        ("laptop", {"Technology and Computing"}),
        ("refrigerator", {"Home Appliances", "Kitchen and Dining"}),
        ("person", {"Person Description"}),
        ("stethoscope", {"Medical"}),
    ],
)
def test_categories_a_reader_expects(name: str, expected: set[str]) -> None:
    assert expected <= set(wordnet.categories(name))


def test_no_abstract_ancestors() -> None:
    noise = {
        "entity",
        "physical entity",
        "object",
        "whole",
        "artifact",
        "instrumentality",
        "placental",
        "drug of abuse",
    }
    assert not noise & {one for row in BOTH for one in row["ancestors"]}


def test_what_is_not_there() -> None:
    with pytest.raises(KeyError):
        wordnet.ancestors("unicorn")
    with pytest.raises(ValueError, match="'imagenet' and 'coco'"):
        wordnet.vocabulary("openimages")  # type: ignore[arg-type]


@pytest.mark.skipif(not EVAL, reason="PINAKES_EVAL is not set")
def test_every_evaluation_photo_is_of_a_class() -> None:
    wnids = set(wordnet.vocabulary("imagenet")["wnid"].to_pylist())
    photos = [path.name for path in Path(EVAL or "", "imagenet").glob("n*.JPEG")]
    assert photos
    assert {name.split("_")[0] for name in photos} <= wnids


@pytest.mark.skipif(not (WORDNET / "data.noun").exists(), reason="no WordNet 3.0 (apt install wordnet-base)")
def test_the_vocabulary_is_what_wordnet_gives(tmp_path: Path) -> None:
    here = Path(wordnet.__file__).parent
    for name in ("derive_vocabulary.py", "vocabulary.csv"):
        (tmp_path / name).write_bytes((here / name).read_bytes())
    subprocess.run([sys.executable, tmp_path / "derive_vocabulary.py", WORDNET], check=True, timeout=120)
    assert (tmp_path / "vocabulary.csv").read_bytes() == (here / "vocabulary.csv").read_bytes()
