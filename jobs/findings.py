"""What operators found in one picture, as things to draw and lines to read, whichever operator found it.

A table is read by its schema, so that those of anyone's own operator are shown too. Of a row:

- `box` (left, top, width, height), `polygon` (points) and `landmarks` (named points), ratios of the upright picture,
  are its shape;
- `name`, or else `text`, `kind` or the table's name, is its title, and `confidence` its score;
- lists of colours (red, green, blue of 0 to 255) are its swatches;
- other numbers, words and dates are its facts. Ids, vectors, and words beside a title say nothing to the eye.

A row with a `parent_id` is a part of another row (a word of a line) and is left out.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa

from pinakes.catalog.schema import SHARED

Point = tuple[float, float]
Colour = tuple[int, int, int]

_TITLES = ("name", "text", "kind")
_KNOWN = {*_TITLES, *SHARED.names, "picture", "confidence", "box", "polygon", "landmarks", "parent_id"}

#: Names of a list's items that are told.
_FEW = 3


@dataclass(frozen=True)
class Finding:
    """A row of a table as it is shown. Points are ratios of the upright picture, 0 to 1."""

    table: str
    title: str
    titled: bool  # by a column of its own, and not by the name of its table
    confidence: float | None
    corners: tuple[Point, ...]  # of its polygon, or of its box; none when it has no place in the picture
    slanted: bool  # whether they are those of a polygon
    dots: tuple[Point, ...]
    facts: tuple[tuple[str, str], ...]
    swatches: tuple[tuple[Colour, str], ...]

    @property
    def placed(self) -> bool:
        return bool(self.corners or self.dots)

    @property
    def bounds(self) -> tuple[Point, Point] | None:
        """Top left and bottom right of its corners, or of its dots; None when it has no place in the picture."""
        if not self.placed:
            return None
        across, down = zip(*(self.corners or self.dots), strict=True)
        return (min(across), min(down)), (max(across), max(down))

    @property
    def caption(self) -> str:
        """Its title and score."""
        return self.title if self.confidence is None else f"{self.title} {self.confidence:.2f}"

    @property
    def details(self) -> str:
        return ", ".join(f"{name} {value}" for name, value in self.facts)


def findings(tables: Mapping[str, pa.Table]) -> list[Finding]:
    """The rows of those tables, in their order. Columns that the catalogue adds do not matter."""
    return [
        _finding(table, rows.schema, row)
        for table, rows in tables.items()
        for row in without_vectors(rows).to_pylist()
        if row.get("parent_id") is None
    ]


def has_shapes(schema: pa.Schema) -> bool:
    """Whether rows with those columns have a place in the picture."""
    return any(_is_shape(field) for field in schema)


def without_vectors(rows: pa.Table) -> pa.Table:
    """The table without its lists of numbers, which nobody reads."""
    return rows.select([field.name for field in rows.schema if not _is_vector(field.type)])


def _finding(table: str, schema: pa.Schema, row: Mapping[str, Any]) -> Finding:
    title = next((row[name] for name in _TITLES if isinstance(row.get(name), str) and row[name].strip()), None)
    shapes = {field.name: row[field.name] for field in schema if _is_shape(field) and row[field.name] is not None}
    polygon = _inside(_points(shapes.get("polygon") or []))
    corners = polygon if len(polygon) > 2 else _inside(_box_corners(shapes["box"])) if "box" in shapes else ()
    marks = shapes.get("landmarks") or []
    confidence = row.get("confidence")
    facts, swatches = [], []
    for field in schema:
        value = row.get(field.name)
        if value is None or field.name in _KNOWN or field.name.endswith(("_id", "_key")):
            continue
        if _is_colours(field.type):
            swatches += [_swatch(one) for one in value if one]
        elif not (title and _is_words(field.type)) and (said := _said(value)):
            facts.append((field.name.replace("_", " "), said))
    return Finding(
        table=table,
        title=title or _one_of(table),
        titled=title is not None,
        confidence=confidence if isinstance(confidence, float) and math.isfinite(confidence) else None,
        corners=corners,
        slanted=len(polygon) > 2,
        dots=_inside(_points(marks.values() if isinstance(marks, dict) else marks)),
        facts=tuple(facts),
        swatches=tuple(swatches),
    )


def _one_of(table: str) -> str:
    """What a row of a table is called that is named after many, as tables are: faces, face."""
    return table if table.endswith(("ss", "us", "is")) else table.removesuffix("s")


# --- kinds of columns


def _is_list(kind: pa.DataType) -> bool:
    is_one: bool = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    return is_one


def _is_vector(kind: pa.DataType) -> bool:
    return _is_list(kind) and (pa.types.is_floating(kind.value_type) or pa.types.is_integer(kind.value_type))


def _is_words(kind: pa.DataType) -> bool:
    return _is_list(kind) and (pa.types.is_string(kind.value_type) or pa.types.is_large_string(kind.value_type))


def _has_numbers(kind: pa.DataType, *names: str) -> bool:
    if not pa.types.is_struct(kind):
        return False
    numbers = {one.name for one in kind if pa.types.is_floating(one.type) or pa.types.is_integer(one.type)}
    return all(name in numbers for name in names)


def _is_colours(kind: pa.DataType) -> bool:
    return _is_list(kind) and _has_numbers(kind.value_type, "red", "green", "blue")


def _is_shape(field: pa.Field) -> bool:
    kind = field.type
    match field.name:
        case "box":
            return _has_numbers(kind, "left", "top", "width", "height")
        case "polygon":
            return _is_list(kind) and _has_numbers(kind.value_type, "x", "y")
        case "landmarks" if pa.types.is_struct(kind):
            return kind.num_fields > 0 and all(_has_numbers(one.type, "x", "y") for one in kind)
        case "landmarks":
            return _is_list(kind) and _has_numbers(kind.value_type, "x", "y")
    return False


# --- values


def _box_corners(box: Mapping[str, float | None]) -> Iterable[Point]:
    left, top, width, height = (_number(box[side]) for side in ("left", "top", "width", "height"))
    right, bottom = left + width, top + height
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def _points(points: Iterable[Mapping[str, float | None] | None]) -> list[Point]:
    return [(_number(one["x"]), _number(one["y"])) for one in points if one]


def _inside(points: Iterable[Point]) -> tuple[Point, ...]:
    """The points, brought into the picture; none at all when one of them is no number."""
    points = list(points)
    if not all(math.isfinite(ratio) for point in points for ratio in point):
        return ()
    return tuple((min(max(x, 0.0), 1.0), min(max(y, 0.0), 1.0)) for x, y in points)


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _swatch(colour: Mapping[str, Any]) -> tuple[Colour, str]:
    red, green, blue = (min(max(int(colour[channel] or 0), 0), 255) for channel in ("red", "green", "blue"))
    names = [colour.get(name) for name in ("name", "css_name", "simplified_name", "hex")]
    name = next((one for one in names if one), f"#{red:02x}{green:02x}{blue:02x}")
    share = colour.get("share")
    return (red, green, blue), name if share is None else f"{name} {share:.0%}"


def _said(value: Any) -> str:
    """A value as one reads it; nothing for one that has nothing to read."""
    match value:
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.3g}" if math.isfinite(value) else ""
        case datetime():
            return f"{value:%Y-%m-%d %H:%M:%S}"
        case int() | str() | date() | Decimal():
            return str(value)
        case dict():
            named = value.get("name") or value.get("value")
            if isinstance(named, str) and isinstance(value.get("confidence"), float):
                return f"{named} {value['confidence']:.2f}"
            return " ".join(f"{name.replace('_', ' ')} {said}" for name, one in value.items() if (said := _said(one)))
        case list():
            if value and all(isinstance(one, dict) and isinstance(one.get("confidence"), float) for one in value):
                value = sorted(value, key=lambda one: -one["confidence"])
            return ", ".join(said for one in value[:_FEW] if (said := _said(one)))
    return ""
