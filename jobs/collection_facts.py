"""`pinakes faces describe`: all that is known of a collection."""

from typing import Any

from pinakes.catalog import Catalog
from pinakes.catalog.collection_definition import advice
from pinakes.catalog.face_collections import Collections
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
            "SELECT reason, count(*) AS faces FROM (SELECT unnest(reasons) AS reason FROM latest_collection_faces "
            f"WHERE collection = '{there.collection}' AND milvus_name = '{there.milvus_name}' AND action = 'left_out') "
            "GROUP BY reason ORDER BY 2 DESC"
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
        "advice": advice(there),
    }
