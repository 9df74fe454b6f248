"""What a collection is made of, as the user says it; and what must not change under those who ask it."""

import platform
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pinakes.catalog.errors import CollectionError
from pinakes.catalog.face_collections import Collection, last_load, settings_of
from pinakes.catalog.face_quality import QualityLimits
from pinakes.catalog.index_choice import LITE_LIMIT, choose
from pinakes.catalog.milvus import TOKEN_VARIABLE, lite_folder

if TYPE_CHECKING:
    from pinakes.catalog.catalog import Catalog

LONGEST_NAME = 100


@dataclass(frozen=True)
class Definition:
    """What makes a collection. What is None is as it was, or as usual."""

    model: str | None = None
    condition: str | None = None
    milvus: str | None = None
    quality: QualityLimits | None = None
    index: Mapping[str, Any] | None = None


def created(catalog: "Catalog", name: str, asked: Definition) -> Collection:
    """The first row of a collection. Raises CollectionError."""
    if not name.isidentifier() or not name.isascii() or len(name) > LONGEST_NAME:
        raise CollectionError(
            f"a collection's name has letters, digits and underscores, {LONGEST_NAME} at most: {name[:80]!r} has others"
        )
    in_milvus = milvus_name(name)
    return Collection(
        collection=name,
        action="created",
        load=last_load(catalog) + 1,
        model=asked.model or _only_model(catalog),
        dimensions=None,
        condition=asked.condition or None,
        quality=(asked.quality or QualityLimits()).model_dump_json(),
        milvus=checked_uri(asked.milvus),
        host=platform.node(),
        folder=None if asked.milvus else str(lite_folder(in_milvus)),
        milvus_name=in_milvus,
        index=settings_of(asked.index or {}),
        n=0,
        fingerprints="[]",
        faces=0,
        left_out=0,
        recorded_at=datetime.now(UTC),
    )


def checked_uri(uri: str | None) -> str | None:
    """The URI of a server; None for Milvus Lite. Raises CollectionError for what is no URI, or has a password in it."""
    if not uri:
        return None
    if not re.match(r"(https?|tcp|unix)://[^/]", uri):
        raise CollectionError(f"{uri} is no URI of a Milvus server: it is spelled like http://host:19530")
    if "@" in uri:
        raise CollectionError(
            f"a key stands in the variable {TOKEN_VARIABLE}, as KEY or USER:PASSWORD, and not in the URI: that is "
            "written to the catalogue"
        )
    return uri


def milvus_name(name: str) -> str:
    """Another name in Milvus for each time that it is made."""
    return f"{name}_{uuid.uuid4().hex[:8]}"


def _only_model(catalog: "Catalog") -> str:
    found: list[str] = []
    if "embeddings" in catalog.tables():
        rows = catalog.sql("SELECT DISTINCT model FROM latest_embeddings WHERE subject = 'face' ORDER BY 1")
        found = rows["model"].to_pylist()
    if not found:
        raise CollectionError(
            f"{catalog.url} has no vectors of faces yet: `pinakes run SOURCE --operators faces` makes them"
        )
    if len(found) > 1:
        raise CollectionError(
            f"{catalog.url} has vectors of faces by several models, and a collection is of one: say --model with "
            f"one of {', '.join(found)}"
        )
    return found[0]


def refuse_another(there: Collection, asked: Definition) -> None:
    """Raises CollectionError when what is asked for is not the collection that is there."""
    differ = []
    if asked.model is not None and asked.model != there.model:
        differ.append(f"its vectors are of the model {there.model}, not {asked.model}: they cannot be compared")
    if asked.condition is not None and asked.condition != (there.condition or ""):
        differ.append(f"its condition is {there.condition or 'none'}, not {asked.condition}")
    if asked.milvus is not None and asked.milvus != (there.milvus or ""):
        differ.append(f"it is in {there.milvus or 'Milvus Lite'}, not {asked.milvus}")
    if asked.quality is not None and asked.quality.model_dump_json() != there.quality:
        differ.append(f"its quality limits are {there.quality}")
    if asked.index is not None and dict(asked.index) != there.index_asked:
        differ.append(f"its index is asked to be {there.index_asked or 'chosen by size'}")
    if differ:
        raise CollectionError(
            f"collection {there.collection} is another: {'; '.join(differ)}. Nothing was touched; `pinakes faces "
            f"rebuild {there.collection}` with these words makes it anew, or name another collection"
        )


def advice(there: Collection) -> str | None:
    """What would be better for a collection of that size; None when it is well."""
    name, chosen = there.collection, there.index_chosen
    if there.is_lite and there.faces > LITE_LIMIT:
        return (
            f"Milvus Lite goes through all faces at every search: with more than {LITE_LIMIT:,} use a Milvus server, "
            f"`pinakes faces rebuild {name} --milvus URI`"
        )
    if chosen and there.dimensions and not there.index_asked:
        better = choose(there.faces, there.dimensions, there.is_lite).type
        if better != chosen.type:
            return f"for so many faces `pinakes faces rebuild {name}` would choose the index {better}"
    return None
