"""Taking faces out of Milvus for good, as far as Milvus lets one: a part of forgetting them, see forgetting.py."""

import os
import platform
from collections.abc import Collection as Some
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from pinakes.catalog.collection_definition import Definition
from pinakes.catalog.errors import CollectionError, QueryError
from pinakes.catalog.face_collections import Collection, Collections, last_load
from pinakes.catalog.face_loading import make_anew, remove_copy
from pinakes.catalog.forgetting import NOT_DONE, Removed
from pinakes.catalog.milvus import opened
from pinakes.catalog.sql import connect, reading

if TYPE_CHECKING:
    from pinakes.catalog.catalog import Catalog

#: Ids that are asked for at a time.
IDS = 1000


def erase_vectors(catalog: "Catalog", face_ids: Sequence[str], left: Some[str] = ()) -> Removed:
    """Take those faces out of every copy of every collection, also of those that were dropped.

    The catalogue's tables may have them still. A collection in Milvus Lite is made anew, since what is deleted there
    stays in its files; in a server the faces are deleted and a compaction is asked for. Copies that are not the
    collection any more are removed. `left` are the names in Milvus of copies that an earlier forgetting did not reach:
    of these it is no longer known whom they should not have, so they are made anew from the tables.

    What cannot be reached keeps nothing else from being done; the answer says so.
    """
    if not face_ids and not left:
        return Removed([], [])
    lines: list[str] = []
    still: list[str] = []
    for there in Collections(catalog).all():
        if face_ids or there.milvus_name in left:
            line, is_done = _erase(catalog, there, face_ids, anew=there.milvus_name in left)
            lines.append(line)
            if not is_done:
                still.append(there.milvus_name)
    for copy in Collections(catalog).copies():
        if not copy.is_current and (face_ids or copy.milvus_name in left):
            why = remove_copy(catalog, copy)
            where = f"a former copy of {copy.collection}, {copy.milvus_name},"
            if why:
                lines.append(f"{NOT_DONE} {where} has the faces still, if it ever had them: {why}")
                still.append(copy.milvus_name)
            else:
                lines.append(f"{where} is removed from {copy.place}")
    return Removed(lines, still)


def _erase(catalog: "Catalog", there: Collection, face_ids: Sequence[str], *, anew: bool) -> tuple[str, bool]:
    """Returns a line for the receipt, and whether it is done."""
    name = there.collection
    elsewhere = _elsewhere(there)
    try:
        if elsewhere is None:
            return (_made_anew if there.is_lite or anew else _deleted)(catalog, there, face_ids), True
    except (CollectionError, QueryError, OSError) as error:
        elsewhere = f"{error}; `pinakes faces forget` again, or `pinakes faces rebuild {name}`, does it later"
    if not _recorded(catalog, there, face_ids):
        elsewhere = f"{elsewhere} (another process has loaded it meanwhile)"
    return f"{NOT_DONE} {name} has the faces still: {elsewhere}", False


def _elsewhere(there: Collection) -> str | None:
    """Why a copy in Milvus Lite cannot be reached from here, and what to do; None if it can, or is in a server."""
    if not there.is_lite:
        return None
    what = f"`pinakes faces rebuild {there.collection}` there takes them out"
    if there.host != platform.node():
        return f"its copy is in Milvus Lite on {there.host}: {what}"
    try:
        mine = there.folder is None or os.access(_there_or_above(Path(there.folder)), os.W_OK | os.X_OK)
    except OSError:
        mine = False
    return None if mine else f"its copy in {there.folder} is another user's: {what}, if that user runs it"


def _there_or_above(folder: Path) -> Path:
    """The folder, or what there is of the way to it. Raises OSError when that may not be looked at."""
    for one in (folder, *folder.parents):
        with suppress(FileNotFoundError):
            one.stat()
            return one
    return folder


def _made_anew(catalog: "Catalog", there: Collection, face_ids: Sequence[str]) -> str:
    name = there.collection
    loaded = make_anew(catalog, name, Definition(), without=face_ids)
    where = there.milvus or "Milvus Lite"
    old = any(copy.milvus_name == there.milvus_name for copy in Collections(catalog).copies(name))
    return (
        f"{name}: made anew in {where} with {loaded.collection.faces:,} faces, "
        f"{'its old copy is there still, see below' if old else 'its old copy is removed'}"
    )


def _deleted(catalog: "Catalog", there: Collection, face_ids: Sequence[str]) -> str:
    """In a server. Raises CollectionError when it does not answer, or has some of the faces still."""
    with opened(there.milvus_name, there.milvus) as vectors:
        if not vectors.exists:
            return f"{there.collection}: {there.milvus} does not have it any more"
        vectors.remove(face_ids)
        vectors.count()  # from now on nobody finds them
        left = sum(len(vectors.get(face_ids[start : start + IDS])) for start in range(0, len(face_ids), IDS))
        if left:
            raise CollectionError(f"Milvus at {there.milvus} has {left:,} of the faces after they were deleted")
        compaction = vectors.compact()
    if not _recorded(catalog, there, face_ids):
        raise CollectionError("another process has loaded it meanwhile")
    return (
        f"{there.collection}: deleted from Milvus at {there.milvus}, compaction: {compaction}; the server's own "
        "garbage collection removes the old files after the time that is set there (dataCoord.gc)"
    )


def _recorded(catalog: "Catalog", there: Collection, without: Sequence[str]) -> bool:
    """Record how many faces the collection should have now: what has others is made anew by the next load.

    Its copy is where it was. False when another process has changed it in the meantime.
    """
    faces, left_out = _count(catalog, there, without)
    where = {"host": there.host, "folder": there.folder}
    last = replace(there, load=last_load(catalog)).after("forgotten", faces=faces, left_out=left_out, **where)
    return Collections(catalog).record(last)


def _count(catalog: "Catalog", there: Collection, without: Sequence[str]) -> tuple[int, int]:
    """How many faces the collection has, and how many were left out, by the table and without some."""
    if "collection_faces" not in catalog.tables():
        return 0, 0
    with connect(catalog) as connection, reading(catalog.url):
        connection.register("without", pa.table({"face_id": pa.array(without, pa.string())}))
        faces, left_out = connection.execute(
            "SELECT count(*) FILTER (action = 'indexed'), count(*) FILTER (action = 'left_out') "
            "FROM latest_collection_faces ANTI JOIN without USING (face_id) "
            "WHERE collection = $collection AND milvus_name = $milvus_name",
            {"collection": there.collection, "milvus_name": there.milvus_name},
        ).fetchall()[0]
    return faces, left_out
