"""Taking faces out of Milvus for good, as far as Milvus lets one: a part of forgetting them, see forgetting.py."""

import platform
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import pyarrow as pa

from pinakes.catalog.collection_definition import Definition
from pinakes.catalog.errors import CollectionError
from pinakes.catalog.face_collections import Collection, Collections, last_load
from pinakes.catalog.face_loading import make_anew
from pinakes.catalog.milvus import opened
from pinakes.catalog.sql import connect, reading

if TYPE_CHECKING:
    from pinakes.catalog.catalog import Catalog


def erase_vectors(catalog: "Catalog", face_ids: Sequence[str]) -> list[str]:
    """Take those faces out of every collection. Returns a line for each that says what was done and what was not.

    The catalogue's tables may have them still. A collection in Milvus Lite is made anew, since what is
    deleted there stays in its files; in a server the faces are deleted and a compaction is asked for. Raises
    CollectionError when a server does not answer: to be called again.
    """
    return [_erase(catalog, one, face_ids) for one in Collections(catalog).all()]


def _erase(catalog: "Catalog", there: Collection, face_ids: Sequence[str]) -> str:
    name = there.collection
    if there.dimensions is None:
        return f"{name}: has no vectors"
    if there.is_lite and there.host != platform.node():
        return (
            f"{name}: NOT DONE, its copy is in Milvus Lite on {there.host}: `pinakes faces rebuild {name}` there takes "
            "the vectors out"
        )
    if there.is_lite:
        loaded = make_anew(catalog, name, Definition(), without=face_ids)
        return f"{name}: made anew in Milvus Lite with {loaded.collection.faces:,} faces, its old files are removed"
    with opened(there.milvus_name, there.milvus) as vectors:
        if not vectors.exists:
            return f"{name}: {there.milvus} does not have it any more"
        vectors.remove(face_ids)
        vectors.count()  # from now on nobody finds them
        if left := vectors.get(face_ids[:1000]):
            raise CollectionError(f"Milvus at {there.milvus} still has {len(left):,} of the faces: forget again")
        compaction = vectors.compact()
    faces, left_out = _recorded(catalog, there, face_ids)
    last = replace(there, load=last_load(catalog, name)).after("forgotten", faces=faces, left_out=left_out)
    if not Collections(catalog).record(last):
        raise CollectionError(f"another process has loaded {name} meanwhile: forget again")
    return (
        f"{name}: deleted from Milvus at {there.milvus}, compaction: {compaction}; the server's own garbage collection "
        "removes the old files after the time that is set there (dataCoord.gc)"
    )


def _recorded(catalog: "Catalog", there: Collection, without: Sequence[str]) -> tuple[int, int]:
    """How many faces the collection has, and how many were left out, by the table and without some."""
    with connect(catalog) as connection, reading(catalog.url):
        connection.register("without", pa.table({"face_id": pa.array(without, pa.string())}))
        faces, left_out = connection.execute(
            "SELECT count(*) FILTER (action = 'indexed'), count(*) FILTER (action = 'left_out') FROM ("
            "SELECT arg_max(action, load) AS action FROM collection_faces ANTI JOIN without USING (face_id) "
            "WHERE collection = $collection AND milvus_name = $milvus_name GROUP BY face_id)",
            {"collection": there.collection, "milvus_name": there.milvus_name},
        ).fetchall()[0]
    return faces, left_out
