"""Words to look for: a vocabulary file of the user's, and what a model's own labels mean.

A vocabulary is a text file with a word or phrase a line, or a CSV file with a column `name` and, if it likes,
`ancestors` and `categories`, each a list with semicolons between, the nearest ancestor first; or one of Pinakes' own
two by name, `imagenet` and `coco`. Where a file says nothing of a word that Pinakes' own vocabularies have, they do.
"""

import csv
import hashlib
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import fsspec
import pyarrow as pa

from pinakes.operators import wordnet
from pinakes.operators.errors import ConfigError

#: What a file may hold: more is a mistake, or takes a model for ever.
MOST_WORDS = 100_000
MOST_BYTES = 32 * 2**20

SCHEMA = pa.schema(
    [
        pa.field("name", pa.string()),
        pa.field("ancestors", pa.list_(pa.string())),
        pa.field("categories", pa.list_(pa.string())),
    ]
)


@dataclass(frozen=True)
class Words:
    """Names, each once, with their ancestors (nearest first) and categories."""

    names: tuple[str, ...]
    ancestors: tuple[tuple[str, ...], ...]
    categories: tuple[tuple[str, ...], ...]

    @property
    def digest(self) -> str:
        """16 hex digits over all of it."""
        return hashlib.blake2b(repr((self.names, self.ancestors, self.categories)).encode(), digest_size=8).hexdigest()

    def table(self) -> pa.Table:
        """By SCHEMA, a row a name, in order."""
        columns: list[Iterable[Any]] = [self.names, self.ancestors, self.categories]
        return pa.table([pa.array(column, kind) for column, kind in zip(columns, SCHEMA.types, strict=True)], SCHEMA)


def read_words(place: str) -> Words:
    """The vocabulary at a path or fsspec URL, or of that name. Raises ConfigError, in one line."""
    if place in ("imagenet", "coco"):
        rows = wordnet.vocabulary("imagenet" if place == "imagenet" else "coco")
        return _words(rows.select(SCHEMA.names).to_pylist())
    try:
        with fsspec.open(place, "rb") as file:
            data = file.read(MOST_BYTES + 1)
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigError(f"vocabulary {place}: is not UTF-8 text") from None
    except Exception as error:  # every file system has its own
        raise ConfigError(f"vocabulary {place}: cannot be read: {' '.join(str(error).split())[:300]}") from None
    if len(data) > MOST_BYTES:
        raise ConfigError(f"vocabulary {place}: is larger than {MOST_BYTES // 2**20} MiB")
    rows = _of_csv(place, text) if place.lower().endswith(".csv") else [{"name": line} for line in text.splitlines()]
    first: dict[str, dict[str, Any]] = {}
    for row in rows:
        name = " ".join(row["name"].split())
        if name:
            first.setdefault(name, {**row, "name": name})
    rows = list(first.values())
    if not rows:
        raise ConfigError(
            f"vocabulary {place}: has no words (it holds one a line, or is a CSV file with a column name)"
        )
    if len(rows) > MOST_WORDS:
        raise ConfigError(f"vocabulary {place}: has {len(rows):,} words; at most {MOST_WORDS:,} are taken")
    return _words(rows)


def _of_csv(place: str, text: str) -> list[dict[str, Any]]:
    try:
        reader = csv.DictReader(io.StringIO(text), strict=True)
        columns = reader.fieldnames or []
        if "name" not in columns or set(columns) - set(SCHEMA.names):
            raise ConfigError(
                f"vocabulary {place}: its columns are {', '.join(map(str, columns)) or 'none'}; there must be name, "
                "and there may be ancestors and categories"
            )
        rows = []
        for row in reader:
            if None in row or None in row.values():
                raise ConfigError(f"vocabulary {place}: line {reader.line_num} has not as many fields as the first")
            lists = {column: _split(row[column]) for column in SCHEMA.names[1:] if row.get(column)}
            rows.append({"name": row["name"], **lists})
    except csv.Error as error:
        raise ConfigError(f"vocabulary {place}: line {reader.line_num}: {error}") from None
    return rows


def _split(value: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in value.split(";") if part.strip())


def _words(rows: Sequence[dict[str, Any]]) -> Words:
    known = [wordnet.meaning(row["name"]) for row in rows]
    return Words(
        tuple(row["name"] for row in rows),
        tuple(tuple(row.get("ancestors") or known[at][0]) for at, row in enumerate(rows)),
        tuple(tuple(row.get("categories") or known[at][1]) for at, row in enumerate(rows)),
    )


def of_model(labels: Sequence[str]) -> Words:
    """A model's own labels, in order, as it spells them; where they are ImageNet's, or known words, with their meaning.

    ImageNet's labels are lists of synonyms, of which some name two classes ("crane"): those of a model with all
    thousand are told apart by their place.
    """
    imagenet = wordnet.vocabulary("imagenet")["name"].to_pylist()
    by_place = len(labels) == len(imagenet) and (
        sum(name.lower() in _synonyms(label) for name, label in zip(imagenet, labels, strict=True)) > len(imagenet) / 2
    )
    found = []
    for at, label in enumerate(labels):
        names = [imagenet[at]] if by_place else _synonyms(label)
        found.append(next(filter(any, map(wordnet.meaning, names)), ((), ())))
    return Words(tuple(labels), tuple(one[0] for one in found), tuple(one[1] for one in found))


def _synonyms(label: str) -> list[str]:
    return [label.strip().lower(), *(part.strip().lower() for part in label.split(","))]
