"""`pinakes faces describe`: all that is known of a collection."""

from typing import Any

from pinakes.catalog import Catalog
from pinakes.catalog.face_collections import Collection, Collections
from pinakes.catalog.index_choice import LITE_LIMIT, choose
from pinakes.catalog.milvus import lite_folder, opened


def facts(catalog: Catalog, name: str) -> dict[str, Any]:
    """By name, for a person or a script. Raises CollectionError when there is none, or Milvus does not answer."""
    there = Collections(catalog).get(name)
    with opened(there.milvus_name, there.milvus) as vectors:
        in_milvus = vectors.count() if vectors.exists else 0
    last = catalog.sql("SELECT max(n) AS n FROM commits").to_pylist()[0]["n"] or 0
    chosen = there.index_chosen
    reasons = {}
    if there.left_out:
        rows = catalog.sql(
            "SELECT reason, count(*) AS faces FROM (SELECT face_id, unnest(arg_max(reasons, load)) AS reason, "
            "arg_max(action, load) AS action FROM collection_faces "
            f"WHERE collection = '{there.collection}' AND milvus_name = '{there.milvus_name}' GROUP BY face_id) "
            "WHERE action = 'left_out' GROUP BY reason ORDER BY 2 DESC"
        )
        reasons = {row["reason"]: row["faces"] for row in rows.to_pylist()}
    return {
        "faces": there.faces,
        "faces in Milvus": in_milvus,
        "left out": there.left_out,
        "left out because": reasons,
        "model": there.model,
        "dimensions": there.dimensions,
        "where": there.condition,
        "quality": there.quality,
        "milvus": there.milvus or f"Milvus Lite, {lite_folder(there.milvus_name)} on {there.host}",
        "name in Milvus": there.milvus_name,
        "index": chosen and {"type": chosen.type, **chosen.build, **chosen.search},
        "why this index": chosen and chosen.why,
        "loaded": there.recorded_at,
        "loaded up to commit": there.n,
        "commits since": last - there.n,
        "advice": _advice(there),
    }


def _advice(there: Collection) -> str | None:
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
