"""Conditions on the faces of a collection: the SQL that one writes, as the expression by which Milvus filters.

DuckDB parses the condition, and what is not on the list here is refused, so nothing of it reaches Milvus unread. Milvus
2.3 knows no null, and its `not` no third truth value: sentinels stand for nulls (milvus.py), every comparison leaves
them out, and a NOT is carried down to the comparisons, where it turns them around.
"""

import json
import math
import sys
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any, Literal

import duckdb
import numpy as np
import pyarrow as pa

from pinakes.catalog.errors import QueryError
from pinakes.catalog.milvus import FIELDS, NO_FLOAT, NO_TEXT, NO_TIME

#: text; number: a float32; integer: an int64; time: an int64, milliseconds since 1970 UTC.
Kind = Literal["text", "number", "integer", "time"]
Node = Mapping[str, Any]
Value = str | float | Fraction

_KIND_OF: Mapping[pa.DataType, Kind] = {pa.string(): "text", pa.float32(): "number", pa.int64(): "integer"}
#: The columns of a collection.
KINDS: Mapping[str, Kind] = {field.name: _KIND_OF[field.type] for field in FIELDS} | {"captured_at": "time"}

_COMPARISONS = {
    "COMPARE_EQUAL": "==",
    "COMPARE_NOTEQUAL": "!=",
    "COMPARE_LESSTHAN": "<",
    "COMPARE_GREATERTHAN": ">",
    "COMPARE_LESSTHANOREQUALTO": "<=",
    "COMPARE_GREATERTHANOREQUALTO": ">=",
}
_CONTRARY = {"==": "!=", "!=": "==", "<": ">=", ">=": "<", ">": "<=", "<=": ">"}
_MIRRORED = {"==": "==", "!=": "!=", "<": ">", ">": "<", "<=": ">=", ">=": "<="}
#: Whether it is a NOT LIKE.
_LIKE = {"~~": False, "!~~": True, "like_escape": False, "not_like_escape": True}
_TAKEN = "it takes AND, OR, NOT, comparisons of a column with a value, IN, BETWEEN, LIKE and IS NULL"
_NUMBERS = ("INT", "DECIMAL", "DOUBLE", "FLOAT")
_INT64 = 2**63
_FLOAT32 = float(np.finfo(np.float32).max)
#: What Milvus Lite and a server both read, in double quotes; all else stands for itself.
_ESCAPED = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"})


def milvus_filter(condition: str, fields: Mapping[str, Kind] = KINDS, *, anywhere: bool = True) -> str:
    """The Milvus expression that holds for the faces for which the SQL condition is true; for null it is not.

    `anywhere`: whether that Milvus can look for a text in the middle of another; Lite does, and servers from 2.4 on.
    Texts are compared by their bytes, numbers as float32, as they are stored; times without an offset are UTC.
    Raises QueryError.
    """
    with duckdb.connect(config={"enable_external_access": False, "threads": 1}) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        return _Translation(connection, fields, anywhere).of(_parsed(connection, condition), False)


def _parsed(connection: duckdb.DuckDBPyConnection, condition: str) -> Node:
    """The syntax tree of one condition. Raises QueryError, when another clause or statement stands in it too."""
    found, bare = (_tree(connection, f"SELECT 1 FROM t WHERE {text}\n") for text in (condition, "true"))
    if found.get("error"):
        if found.get("error_type") != "parser":
            raise _refused("it takes one condition, and nothing after it")
        raise _refused(" ".join(str(found.get("error_message")).splitlines()[:1]))
    if len(found["statements"]) != 1 or found["statements"][0]["node"]["type"] != "SELECT_NODE":
        raise _refused("it takes one condition, and nothing after it")
    where: Node | None = found["statements"][0]["node"].pop("where_clause", None)
    bare["statements"][0]["node"].pop("where_clause")
    if where is None or _without_places(found) != _without_places(bare):
        raise _refused("it takes one condition, and nothing after it")
    return where


def _tree(connection: duckdb.DuckDBPyConnection, statement: str) -> dict[str, Any]:
    try:
        row = connection.execute("SELECT json_serialize_sql(?)", [statement]).fetchone()
    except duckdb.Error as error:
        raise _refused(str(error).splitlines()[0]) from error
    assert row is not None
    tree: dict[str, Any] = json.loads(row[0])
    return tree


def _without_places(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: _without_places(value) for key, value in tree.items() if not key.startswith("query_location")}
    return [_without_places(value) for value in tree] if isinstance(tree, list) else tree


def _refused(why: str) -> QueryError:
    return QueryError(f"--where: {why}")


class _Translation:
    def __init__(self, connection: duckdb.DuckDBPyConnection, fields: Mapping[str, Kind], anywhere: bool) -> None:
        self._connection = connection
        self._fields = fields
        self._anywhere = anywhere
        self._names = {name.lower(): name for name in fields}

    def of(self, node: Node, negated: bool) -> str:
        """The expression for a condition, or for its contrary; neither holds where the condition is null."""
        kind, children = node["type"], node.get("children", ())
        if kind in ("CONJUNCTION_AND", "CONJUNCTION_OR"):
            word = " and " if (kind == "CONJUNCTION_AND") != negated else " or "
            return _grouped(word, [self.of(child, negated) for child in children])
        if kind == "OPERATOR_NOT":
            return self.of(children[0], not negated)
        if kind in _COMPARISONS:
            return self._comparison(node["left"], _COMPARISONS[kind], node["right"], negated)
        if kind == "COMPARE_BETWEEN":
            both = [
                self._comparison(node["input"], sign, node[side], negated)
                for sign, side in ((">=", "lower"), ("<=", "upper"))
            ]
            return _grouped(" or " if negated else " and ", both)
        if kind in ("COMPARE_IN", "COMPARE_NOT_IN"):
            return self._in(self._column(children[0]), children[1:], negated ^ (kind == "COMPARE_NOT_IN"))
        if kind in ("OPERATOR_IS_NULL", "OPERATOR_IS_NOT_NULL"):
            column = self._column(children[0])
            return self._absent(column) if (kind == "OPERATOR_IS_NULL") != negated else self._there(column)
        if kind == "FUNCTION" and node["function_name"] in _LIKE:
            return self._like(node, negated ^ _LIKE[node["function_name"]])
        raise _refused(f"{_named(node)}: {_TAKEN}")

    # --- columns and values

    def _column(self, node: Node) -> str:
        if node["class"] != "COLUMN_REF":
            raise _refused(f"{_named(node)}: on one side of a comparison stands a column: {', '.join(self._fields)}")
        written = ".".join(node["column_names"])
        if written.lower() not in self._names:
            raise _refused(f"there is no column {written}; there are: {', '.join(self._fields)}")
        return self._names[written.lower()]

    def _there(self, column: str) -> str:
        return f"{column} {'!=' if self._fields[column] == 'text' else '>'} {_written(self._sentinel(column))}"

    def _absent(self, column: str) -> str:
        return f"{column} {'==' if self._fields[column] == 'text' else '<='} {_written(self._sentinel(column))}"

    def _sentinel(self, column: str) -> Value:
        kind = self._fields[column]
        return NO_TEXT if kind == "text" else float(np.float32(NO_FLOAT)) if kind == "number" else Fraction(NO_TIME)

    def _value(self, node: Node) -> tuple[str, str]:
        """Type and text of a literal, or of one that is cast, as DuckDB reads it."""
        inner = node
        while inner["class"] == "CAST":
            inner = inner["child"]
        if inner["class"] == "COLUMN_REF":
            raise _refused(f"{self._column(inner)} is compared with a column: {_TAKEN}")
        if inner["class"] != "CONSTANT":
            raise _refused(f"{_named(inner)}: {_TAKEN}")
        tree = _tree(self._connection, "SELECT 1")
        tree["statements"][0]["node"]["select_list"] = [{**node, "alias": "value"}]
        row = self._asked(
            "SELECT typeof(value), CAST(value AS VARCHAR) FROM json_execute_serialized_sql(?)", json.dumps(tree)
        )
        if row[1] is None:
            raise _refused("no comparison with NULL is ever true: write IS NULL")
        return row[0], row[1]

    def _asked(self, query: str, parameter: str) -> tuple[Any, ...]:
        try:
            row: tuple[Any, ...] | None = self._connection.execute(query, [parameter]).fetchone()
        except duckdb.Error as error:
            raise _refused(str(error).splitlines()[0]) from error
        assert row is not None
        return row

    # --- comparisons

    def _comparison(self, left: Node, sign: str, right: Node, negated: bool) -> str:
        if left["class"] != "COLUMN_REF" and right["class"] == "COLUMN_REF":
            left, sign, right = right, _MIRRORED[sign], left
        column = self._column(left)
        value, sign = self._literal(column, right), _CONTRARY[sign] if negated else sign
        if isinstance(value, Fraction) and value.denominator != 1:
            if sign in ("==", "!="):
                return self._there(column) if sign == "!=" else self._never(column)
            value = Fraction(math.floor(value) if sign in (">", "<=") else math.ceil(value))
        return self._compared(column, sign, value)

    def _compared(self, column: str, sign: str, value: Value) -> str:
        compared = f"{column} {sign} {_written(value)}"
        if sign in ("==", ">", ">=") and value > self._sentinel(column):  # type: ignore[operator]
            return compared  # which the sentinel fails by itself
        return _grouped(" and ", [compared, self._there(column)])

    def _in(self, column: str, nodes: Sequence[Node], negated: bool) -> str:
        values = [self._literal(column, node) for node in nodes]
        written = [_written(value) for value in values if not isinstance(value, Fraction) or value.denominator == 1]
        if not written:
            return self._there(column) if negated else self._never(column)
        listed = f"{column} {'not in' if negated else 'in'} [{', '.join(written)}]"
        return _grouped(" and ", [listed, self._there(column)])

    def _never(self, column: str) -> str:
        return _grouped(" and ", [self._there(column), self._absent(column)])

    def _literal(self, column: str, node: Node) -> Value:
        """A value to compare the column with, of the type that its values have; a Fraction for a time or an integer."""
        kind, (type_name, text) = self._fields[column], self._value(node)
        if kind == "text":
            if type_name != "VARCHAR":
                raise _refused(f"{column} is a text: write '{text}' in single quotes")
            return text
        if kind == "time":
            return self._milliseconds(column, type_name, text)
        if not any(name in type_name for name in _NUMBERS) or not math.isfinite(float(text)):
            raise _refused(f"{column} is a number, and {text} ({type_name}) is none")
        value, most = (Fraction(text), _INT64) if kind == "integer" else (Fraction(float(text)), _FLOAT32)
        if abs(value) >= most:
            raise _refused(f"{text} is more than {column} can be")
        return value if kind == "integer" else float(np.float32(float(value)))

    def _milliseconds(self, column: str, type_name: str, text: str) -> Fraction:
        """Since 1970 UTC."""
        if type_name != "VARCHAR" and not type_name.startswith(("DATE", "TIMESTAMP")):
            raise _refused(f"{column} is a time: write '2019-12-31' or '2019-12-31 18:00:00', in UTC")
        (microseconds,) = self._asked("SELECT epoch_us(CAST(? AS TIMESTAMPTZ))", text)
        if microseconds is None:
            raise _refused(f"{column}: {text} is no time")
        return Fraction(microseconds, 1000)

    # --- LIKE

    def _like(self, node: Node, negated: bool) -> str:
        given = node.get("children") or [argument["expression"] for argument in node["arguments"]]
        column = self._column(given[0])
        if self._fields[column] != "text":
            raise _refused(f"{column} is no text: LIKE is for texts")
        pattern, *escape = (self._value(value)[1] for value in given[1:])
        parts = _pattern(pattern, escape[0] if escape else "")
        letters = "".join(part for part in parts if len(part) == 1)
        wild = [part for part in parts if len(part) > 1]
        if not wild:
            return self._compared(column, "!=" if negated else "==", letters)
        if set(wild) == {"any"} and parts[: len(letters)] == list(letters):
            return self._prefix(column, letters, negated)
        if not self._anywhere:
            raise _refused(
                f"{column} LIKE '{pattern}': that Milvus server finds a text by its beginning only (LIKE 'begins%'); "
                "servers from 2.4 on, and Milvus Lite, find it anywhere"
            )
        if "\\" in letters:
            # Milvus Lite 3.2.2 takes a backslash in the middle, escaped as it must be, for two.
            raise _refused(f"{column} LIKE '{pattern}': Milvus cannot look for a backslash in the middle of a text")
        wildcards = {"any": "%", "one": "_", "%": "\\%", "_": "\\_"}
        like = f"{column} like {_written(''.join(wildcards.get(part, part) for part in parts))}"
        return _grouped(" and ", [f"not ({like})" if negated else like, self._there(column)])

    def _prefix(self, column: str, prefix: str, negated: bool) -> str:
        """As a range: Milvus 2.3 knows no way to write a prefix with a % or a _ in it."""
        if not prefix:
            return self._never(column) if negated else self._there(column)
        end = prefix.rstrip(chr(sys.maxunicode))
        # Among bytes of UTF-8 as among code points; there are none from U+D800 to U+DFFF.
        after = end and end[:-1] + ("\ue000" if end[-1] == "\ud7ff" else chr(ord(end[-1]) + 1))
        if negated:
            below = self._compared(column, "<", prefix)
            return _grouped(" or ", [below, f"{column} >= {_written(after)}"]) if after else below
        bounds = [f"{column} >= {_written(prefix)}", *([f"{column} < {_written(after)}"] if after else [])]
        return _grouped(" and ", bounds)


def _pattern(pattern: str, escape: str) -> list[str]:
    """The letters of a LIKE, each by itself, and `any` and `one` for its wildcards."""
    wildcards: Mapping[str, str] = {"%": "any", "_": "one"}
    parts, letters = [], iter(pattern)
    for letter in letters:
        if escape and letter == escape:
            escaped = next(letters, None)
            if escaped is None:
                raise _refused(f"LIKE '{pattern}' ends with its escape character")
            parts.append(escaped)
        else:
            parts.append(wildcards.get(letter, letter))
    return parts


def _named(node: Node) -> str:
    """What a part of a condition that is refused is called."""
    kind = str(node["type"]).rpartition("_")[2] or "that"
    return f"{node['function_name']}()" if node["class"] == "FUNCTION" else kind.lower()


def _grouped(word: str, parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"({word.join(parts)})"


def _written(value: Value) -> str:
    """As Milvus reads it; a float32 to its last digit, for Milvus Lite compares it with a float64."""
    return f'"{value.translate(_ESCAPED)}"' if isinstance(value, str) else str(value)
