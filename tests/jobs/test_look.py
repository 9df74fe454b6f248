"""Looking in this process: what comes out is what each operator says of each picture, whoever looks beside it."""

import os
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from pinakes.catalog.metering import METER, SPENT
from pinakes.catalog.schema import LEDGER, SHARED
from pinakes.jobs.look import Limits, Looker
from pinakes.jobs.rows import WORK, Tables, uncommitted
from pinakes.jobs.watch import BATCH
from pinakes.operators.decode import decode
from pinakes.operators.operator import PICTURE, Operator, Picture, Results
from tests.jobs.small_run import LIMITS, jpeg, loaded, small_jpeg, stop_sign

ALL = ("media", "labels", "objects")
NUMBER = pa.schema([pa.field("number", pa.int64())])


class Wide(Operator):
    """Says the width of a picture, but of one of 48 pixels misbehaves in the way it is told."""

    name = "wide"
    tables: ClassVar = {"wide": NUMBER}

    def __init__(self, misbehave: str = "") -> None:
        super().__init__()
        self.misbehave = misbehave

    def look(self, pictures: Sequence[Picture]) -> Results:
        found = {"picture": list(range(len(pictures))), "number": [one.pixels.shape[1] for one in pictures]}
        table = pa.table(found, schema=pa.schema([PICTURE, *NUMBER]))
        if 48 in found["number"]:
            match self.misbehave:
                case "raises":
                    raise RuntimeError("48 is\ntoo much for me")
                case "no table":
                    return {}
                case "no column":
                    return {"wide": table.drop_columns(["number"])}
                case "another type":
                    return {"wide": table.set_column(1, "number", pa.array(["wide"] * len(table)))}
                case "no such picture":
                    return {"wide": table.set_column(0, PICTURE, pa.array([len(table) + 5] * len(table), pa.int32()))}
                case "writes":
                    for one in pictures:
                        one.pixels[:] = 0
        return {"wide": table}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """More pictures than a batch has: photographs where there are some, else drawn ones; and two odd ones."""
    folder = tmp_path_factory.mktemp("photos")
    drawn = [stop_sign(), jpeg(Image.effect_mandelbrot((2000, 1500), (-2, -1, 1, 1), 50).convert("RGB"))]
    # The size of a model's input: nothing is left to be resized.
    drawn += [jpeg(Image.effect_noise((side, side), 60).convert("RGB")) for side in (224, 256, 416)]
    for number, data in enumerate(drawn):
        (folder / f"{number}.jpg").write_bytes(data)
    (folder / "small.jpg").write_bytes(small_jpeg())
    (folder / "line.jpg").write_bytes(jpeg(Image.new("RGB", (900, 1), "red")))
    found = sorted(folder.iterdir())
    if os.environ.get("PINAKES_EVAL"):
        found += sorted((Path(os.environ["PINAKES_EVAL"]) / "coco").glob("*.jpg"))[:6]
    return found * 2 if len(found) <= BATCH else found


def work(paths: Sequence[Path], operators: Sequence[str] = ALL, **facts: Any) -> pa.Table:
    rows = [
        {
            **dict.fromkeys(WORK.names),
            "uri": f"file://{path}",
            "item_key": f"{number:032x}",
            "operators": list(operators),
            "attempts": [1] * len(operators),
            "fingerprints": [loaded(name)[name].fingerprint if name in ALL else "0" for name in operators],
            "is_video": False,
            **facts,
        }
        for number, path in enumerate(paths)
    ]
    return pa.Table.from_pylist(rows, schema=WORK)


def look(operators: Mapping[str, Operator], items: pa.Table, limits: Limits = LIMITS) -> Tables:
    """Everything found, by table; every item is finished once, in order."""
    found: dict[str, list[pa.Table]] = {}
    finished: list[int] = []
    for positions, tables in Looker(operators, limits, lambda positions: None).look(items):
        finished += positions
        for name, rows in tables.items():
            found.setdefault(name, []).append(rows)
    assert finished == list(range(items.num_rows))
    return {name: pa.concat_tables(rows) for name, rows in found.items()}


def by_item(rows: pa.Table, columns: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for row in rows.to_pylist():
        found.setdefault(row["uri"], []).append({name: row[name] for name in columns})
    return found


@pytest.fixture(scope="module")
def together(photos: list[Path]) -> Tables:
    return look(loaded(*ALL), work(photos))


def test_the_rows_are_what_each_operator_says_of_each_picture_alone(photos: list[Path], together: Tables) -> None:
    for operator in loaded(*ALL).values():
        for table, columns in operator.tables.items():
            found = by_item(together[table], columns.names)
            for path in set(photos):
                pixels, facts = decode(path.read_bytes(), name=str(path))
                alone = operator.look([Picture(pixels, facts)])[table].drop_columns(["picture"]).to_pylist()
                assert found.get(f"file://{path}", []) == alone * photos.count(path), f"{operator.name} {path.name}"
    assert together["objects"].num_rows > 0
    assert together["labels"].num_rows > 0


def test_an_operator_alone_and_in_another_order_says_the_same(photos: list[Path], together: Tables) -> None:
    names = [name for name in together["labels"].column_names if name != "item_key"]
    alone = look(loaded("labels"), work(photos[::-1], ["labels"]))
    assert set(alone) == {"labels", "ledger", SPENT}
    assert by_item(alone["labels"], names) == by_item(together["labels"], names)


def test_rows_and_ledger_agree_and_say_where_they_come_from(photos: list[Path], together: Tables) -> None:
    operators = loaded(*ALL)
    ledger = together["ledger"]
    assert ledger.schema.equals(pa.schema([*uncommitted(LEDGER), *METER]))
    assert ledger.num_rows == len(photos) * len(ALL)
    keys = {f"{number:032x}": path for number, path in enumerate(photos)}
    for row in ledger.to_pylist():
        path, operator = keys[row["item_key"]], operators[row["operator"]]
        assert row["uri"] == f"file://{path}"
        assert row["content_id"] == blake2b(path.read_bytes(), digest_size=16).hexdigest()
        assert (row["model"], row["fingerprint"], row["attempt"]) == (operator.model, operator.fingerprint, 1)
        assert (row["status"], row["error_code"], row["error_message"]) == ("ok", None, None)
        found = together[row["operator"]].filter(
            pa.compute.equal(together[row["operator"]]["item_key"], row["item_key"])
        )
        assert found.num_rows == row["results"]
        assert set(found["fingerprint"].to_pylist()) <= {operator.fingerprint}
    for name in ALL:
        assert together[name].column_names == [*uncommitted(SHARED).names, *operators[name].tables[name].names]


@pytest.mark.parametrize("how", ["raises", "no table", "no column", "another type", "no such picture", "writes"])
def test_an_operator_that_fails_on_a_picture_fails_there_alone(photos: list[Path], together: Tables, how: str) -> None:
    wide = Wide(how)
    # First of all: whatever it does, the others come after it.
    operators = {"wide": wide, **loaded(*ALL)}
    found = look(operators, work(photos, ["wide", *ALL]))
    for name in ALL:
        assert found[name].equals(together[name])
    small = {f"file://{path}" for path in photos if path.name == "small.jpg"}
    for row in found["ledger"].to_pylist():
        if row["operator"] == "wide" and row["uri"] in small:
            assert (row["status"], row["results"], row["error_code"]) == ("failed", 0, "operator_failed")
            assert row["error_message"]
            assert "\n" not in row["error_message"]
            assert row["content_id"]
        else:
            assert row["status"] == "ok"
    assert set(by_item(found["wide"], [])) == {f"file://{path}" for path in photos} - small


def test_what_cannot_be_looked_at_costs_its_neighbours_nothing(photos: list[Path], tmp_path: Path) -> None:
    (tmp_path / "truncated.jpg").write_bytes(stop_sign()[:-5000])
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "notes").write_bytes(b"no picture")
    paths = [tmp_path / "truncated.jpg", photos[0], tmp_path / "empty.jpg", tmp_path / "gone.jpg", tmp_path / "notes"]
    found = look(loaded("media"), work([*paths, photos[0]], ["media"]))
    said = [(row["status"], row["error_code"], row["content_id"] is None) for row in found["ledger"].to_pylist()]
    assert sorted(said, key=str) == sorted(
        [
            ("failed", "truncated", False),
            ("ok", None, False),
            ("failed", "empty", False),
            ("failed", "not_found", True),
            ("skipped", "not_media", False),
            ("ok", None, False),
        ],
        key=str,
    )
    assert found["media"].num_rows == 2


def test_limits(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(stop_sign())
    size = len(stop_sign())
    for limits, code in (
        (Limits(max_pixels=720 * 480, max_bytes=size), None),
        (Limits(max_pixels=720 * 480 - 1, max_bytes=size), "too_many_pixels"),
        (Limits(max_pixels=720 * 480, max_bytes=size - 1), "too_large"),
    ):
        found = look(loaded("media"), work([tmp_path / "a.jpg"], ["media"]), limits)
        assert found["ledger"]["error_code"].to_pylist() == [code]


def test_what_the_listing_refused_is_not_opened(photos: list[Path]) -> None:
    items = work(photos[:1], ["media"], error_code="bad_name", error_message="the name is not UTF-8 text")
    (row,) = look(loaded("media"), items)["ledger"].to_pylist()
    assert (row["error_code"], row["error_message"]) == ("bad_name", "the name is not UTF-8 text")
    assert row["content_id"] is None


def test_an_operator_looks_only_at_what_is_due_for_it(photos: list[Path]) -> None:
    rows = work(photos[:3], ["media"]).to_pylist()
    rows[1] |= {"operators": ["labels", "media"], "attempts": [7, 2], "fingerprints": ["a", "b"]}
    found = look(loaded(*ALL), pa.Table.from_pylist(rows, schema=WORK))
    said = {(row["item_key"][-1], row["operator"], row["attempt"]) for row in found["ledger"].to_pylist()}
    assert said == {("0", "media", 1), ("1", "media", 2), ("1", "labels", 7), ("2", "media", 1)}
    assert set(found["labels"]["attempt"].to_pylist()) <= {7}


@pytest.fixture
def held(photos: list[Path]) -> list[list[int]]:
    """What was in hand, one after the other, over the look at all photos by an operator that fails on one of them."""
    told: list[list[int]] = []
    looker = Looker({"wide": Wide("raises")}, LIMITS, lambda positions: told.append(list(positions)))
    for _ in looker.look(work(photos, ["wide"])):
        assert told[-1] == []
    return told


def test_every_item_is_in_hand_when_it_is_touched(photos: list[Path], held: list[list[int]]) -> None:
    assert held[1::2] == [[]] * (len(held) // 2)
    decoded = [positions for positions in held[::2] if len(positions) == 1]
    assert {position for (position,) in decoded} == set(range(len(photos)))
    assert list(range(BATCH)) in held  # a batch for the operator, and then one by one


def test_pixels_are_shared_and_protected(photos: list[Path]) -> None:
    seen: list[np.ndarray] = []

    class Keeps(Wide):
        def look(self, pictures: Sequence[Picture]) -> Results:
            seen.extend(one.pixels for one in pictures)
            return super().look(pictures)

    look({"wide": Keeps(), "again": Keeps()}, work(photos[:1], ["wide"]))
    assert seen[0] is seen[1]
    assert not seen[0].flags.writeable
