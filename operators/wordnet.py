"""What the labels mean: the ancestors and categories of every class of the two vocabularies.

vocabulary.csv holds them, a row a class; derive_vocabulary.py made it out of WordNet 3.0.
A name means one thing: where both vocabularies have it, its WNID's sense, ancestors and categories are the same.

The words and the hierarchy are under the licence of WordNet, whose terms ask that this stand on all copies:

    This software and database is being provided to you, the LICENSEE, by Princeton University under the following
    license. By obtaining, using and/or copying this software and database, you agree that you have read,
    understood, and will comply with these terms and conditions:

    Permission to use, copy, modify and distribute this software and database and its documentation for any purpose
    and without fee or royalty is hereby granted, provided that you agree to comply with the following copyright
    notice and statements, including the disclaimer, and that the same appear on ALL copies of the software,
    database and documentation, including modifications that you make for internal use or for distribution.

    WordNet 3.0 Copyright 2006 by Princeton University. All rights reserved.

    THIS SOFTWARE AND DATABASE IS PROVIDED "AS IS" AND PRINCETON UNIVERSITY MAKES NO REPRESENTATIONS OR WARRANTIES,
    EXPRESS OR IMPLIED. BY WAY OF EXAMPLE, BUT NOT LIMITATION, PRINCETON UNIVERSITY MAKES NO REPRESENTATIONS OR
    WARRANTIES OF MERCHANTABILITY OR FITNESS FOR ANY PARTICULAR PURPOSE OR THAT THE USE OF THE LICENSED SOFTWARE,
    DATABASE OR DOCUMENTATION WILL NOT INFRINGE ANY THIRD PARTY PATENTS, COPYRIGHTS, TRADEMARKS OR OTHER RIGHTS.

    The name of Princeton University or Princeton may not be used in advertising or publicity pertaining to
    distribution of the software and/or database. Title to copyright in this software, database and any associated
    documentation shall at all times remain with Princeton University and LICENSEE agrees to preserve same.
"""

from functools import cache
from importlib.resources import files
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

#: The categories of Amazon Rekognition's labels: the 34 of one published list and six seen elsewhere. Not all of them
#: are shown by a class of these vocabularies.
CATEGORIES = (
    "Actions",
    "Animals and Pets",
    "Apparel and Accessories",
    "Beauty and Personal Care",
    "Buildings and Architecture",
    "Colors and Visual Composition",
    "Damage Detection",
    "Education",
    "Events and Attractions",
    "Everyday Objects",
    "Expressions and Emotions",
    "Food and Beverage",
    "Furniture and Furnishings",
    "Health and Fitness",
    "Hobbies and Interests",
    "Home and Indoors",
    "Home Appliances",
    "Kitchen and Dining",
    "Materials",
    "Medical",
    "Nature and Outdoors",
    "Offices and Workspaces",
    "Patterns and Shapes",
    "Performing Arts",
    "Person Description",
    "Plants and Flowers",
    "Popular Landmarks",
    "Profession",
    "Public Safety",
    "Religion",
    "Sports",
    "Symbols and Flags",
    "Technology and Computing",
    "Text and Documents",
    "Tools and Machinery",
    "Toys and Gaming",
    "Transport and Logistics",
    "Travel and Adventure",
    "Vehicles and Automotive",
    "Weapons and Military",
)

_COLUMNS = {"vocabulary": pa.string(), "index": pa.int32(), "name": pa.string(), "wnid": pa.string()}
_LISTS = {"ancestors": pa.string(), "categories": pa.string()}


@cache
def _rows() -> pa.Table:
    with (files("pinakes.operators") / "vocabulary.csv").open("rb") as file:
        options = csv.ConvertOptions(column_types=_COLUMNS | _LISTS, null_values=[""], strings_can_be_null=True)
        rows = csv.read_csv(file, convert_options=options)
    for name in _LISTS:
        rows = rows.set_column(rows.schema.get_field_index(name), name, pc.split_pattern(rows[name], ";"))
    return rows


@cache
def vocabulary(which: Literal["imagenet", "coco"]) -> pa.Table:
    """The classes in the order of the model's outputs: 1000 for `imagenet`, 80 for `coco`.

    Columns: index int32 from 0, name string (unique), wnid string ("n" and the offset in WordNet 3.0; null for the two
    COCO classes that have no synset), ancestors list<string> (nearest first, at least one), categories list<string>
    (of CATEGORIES, sorted, at least one). Raises ValueError where there is no such vocabulary.
    """
    if which not in ("imagenet", "coco"):
        raise ValueError(f"no vocabulary {which!r}: there are 'imagenet' and 'coco'")
    rows = _rows()
    return (
        rows.filter(pc.equal(rows["vocabulary"], which)).drop_columns(["vocabulary"]).sort_by("index").combine_chunks()
    )


@cache
def _by_name(column: str) -> dict[str, tuple[str, ...]]:
    rows = _rows()
    return {name: tuple(some) for name, some in zip(rows["name"].to_pylist(), rows[column].to_pylist(), strict=True)}


def ancestors(name: str) -> list[str]:
    """What the class `name` is a kind of, nearest first: "fox squirrel" gives tree squirrel, squirrel, rodent, ...

    Raises KeyError where neither vocabulary has the class.
    """
    return list(_by_name("ancestors")[name])


def categories(name: str) -> list[str]:
    """The categories of the class `name`, sorted, at least one. Raises KeyError where neither vocabulary has it."""
    return list(_by_name("categories")[name])


def meaning(name: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Ancestors and categories of the class `name`, in any case of letters; of a name that is none, nothing."""
    known = _in_small_letters().get(name.lower(), name)
    return _by_name("ancestors").get(known, ()), _by_name("categories").get(known, ())


@cache
def _in_small_letters() -> dict[str, str]:
    return {name.lower(): name for name in _by_name("ancestors")}
