"""What a collection lacks and what it has too much: the tables `to_add` and `to_remove` of a DuckDB connection."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import duckdb
import pyarrow as pa

from pinakes.catalog.chosen_faces import suppressed
from pinakes.catalog.errors import CollectionError, QueryError
from pinakes.catalog.face_collections import Collection
from pinakes.catalog.face_quality import QualityLimits, reasons
from pinakes.catalog.face_tables import COLLECTION_FACES
from pinakes.catalog.sql import connect, reading
from pinakes.catalog.suppressions import Suppressions

if TYPE_CHECKING:
    from pinakes.catalog.catalog import Catalog

#: The faces of a model that count, with all that a condition may ask of them.
_INDEXABLE = """
    CREATE TEMP VIEW indexable AS
    SELECT found.subject_id AS face_id, found.uri, found.item_key, found.content_id, found.frame_ms, found.n,
           seen.box, seen.confidence, seen.pose, seen.quality, seen.age, seen.gender, seen.gender_confidence,
           media.media_type, media.width AS media_width, media.height AS media_height, media.captured_at, runs.source
    FROM (FROM latest_embeddings WHERE subject = 'face' AND model = '{model}') AS found
    LEFT JOIN latest_faces AS seen ON seen.face_id = found.subject_id
    LEFT JOIN (
        SELECT uri, any_value(media_type) AS media_type, any_value(width) AS width, any_value(height) AS height,
               any_value(captured_at) AS captured_at FROM latest_media GROUP BY uri
    ) AS media ON media.uri = found.uri
    LEFT JOIN (SELECT run_id, any_value(source) AS source FROM runs GROUP BY run_id) AS runs
    ON runs.run_id = found.run_id
"""
_WANTED = """
    face_id, uri, source, epoch_ms(captured_at) AS captured_at, frame_ms, age, gender, confidence, box.left AS left,
    box.top AS top, box.width AS width, box.height AS height, n, {reasons} AS reasons
"""
#: What a condition may ask of a face.
_COLUMNS = (
    *("face_id", "uri", "item_key", "content_id", "frame_ms", "n", "box", "confidence", "pose", "quality", "age"),
    *("gender", "gender_confidence", "media_type", "media_width", "media_height", "captured_at", "source"),
)
_RECORDED = """
    CREATE TEMP TABLE recorded AS
    SELECT face_id, any_value(uri) AS uri, arg_max(action, load) AS action,
           coalesce(arg_max(action, load) FILTER (load <= $load), 'removed') AS action_before
    FROM collection_faces {touched}
    WHERE collection = $collection AND milvus_name = $milvus_name GROUP BY face_id
"""

#: `to_add` to the collection or to those that are left out, `to_remove` from both, and `to_leave` Milvus for either.
_CHANGES = """
    CREATE TEMP TABLE to_add AS
    FROM wanted ANTI JOIN recorded ON recorded.face_id = wanted.face_id
    AND recorded.action = CASE WHEN len(wanted.reasons) = 0 THEN 'indexed' ELSE 'left_out' END;
    CREATE TEMP TABLE to_remove AS
    FROM recorded ANTI JOIN wanted USING (face_id) WHERE action <> 'removed';
    CREATE TEMP TABLE to_leave AS
    FROM recorded ANTI JOIN (FROM wanted WHERE len(reasons) = 0) USING (face_id) WHERE action = 'indexed'
"""


@dataclass
class Difference:
    """How many faces a load adds, removes and leaves out, and how many there are of either kind after it."""

    added: int = 0
    removed: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    faces: int = 0
    all_left_out: int = 0

    @property
    def changes(self) -> bool:
        return bool(self.added or self.removed or self.left_out)


def compare(
    connection: duckdb.DuckDBPyConnection,
    catalog: "Catalog",
    there: Collection,
    since: int,
    without: Sequence[str] = (),
) -> None:
    """Make `wanted` (what the tables have), `recorded` (what the collection has), and what is to be added.

    `without` are faces that do not count, whatever the tables say. Raises QueryError when the condition cannot be
    asked.
    """
    # What a forgetting that was killed has not taken out of the tables yet does not come back either.
    gone = suppressed(catalog, Suppressions.read(catalog.storage)).to_pylist()
    connection.register("without", pa.table({"face_id": pa.array([*without, *gone], pa.string())}))
    chosen = _choose(connection, there)
    with _asking(there):
        chosen.query("chosen", "CREATE TABLE wanted AS FROM chosen ANTI JOIN without USING (face_id)")
    if "collection_faces" not in catalog.tables():
        connection.register("collection_faces", COLLECTION_FACES.empty_table())
    touched = "SEMI JOIN (SELECT uri FROM ledger) USING (uri)" if since else ""
    connection.execute(
        _RECORDED.format(touched=touched),
        {"collection": there.collection, "milvus_name": there.milvus_name, "load": there.load},
    )
    connection.execute(_CHANGES)


def check_condition(catalog: "Catalog", there: Collection) -> None:
    """Raises QueryError when the collection's condition cannot be asked of the faces that there are."""
    if there.condition and has_faces(catalog):
        with connect(catalog) as connection, reading(catalog.url):
            chosen = _choose(connection, there)
            with _asking(there):
                chosen.aggregate("count(*)").fetchall()


@contextmanager
def _asking(there: Collection) -> Iterator[None]:
    """A condition may be understood and yet fail on some row."""
    try:
        yield
    except duckdb.Error as error:
        if there.condition is None:
            raise
        said = " ".join(str(error).splitlines()[:2])
        raise QueryError(
            f"the condition {there.condition} takes one SQL expression over {', '.join(_COLUMNS)}: {said}. Nothing was "
            "touched"
        ) from error


def has_faces(catalog: "Catalog") -> bool:
    """Whether any run has looked for faces."""
    return {"embeddings", "faces", "media"} <= set(catalog.tables())


def _choose(connection: duckdb.DuckDBPyConnection, there: Collection) -> duckdb.DuckDBPyRelation:
    connection.execute(_INDEXABLE.format(model=there.model.replace("'", "''")))
    faces = connection.view("indexable")
    limits = QualityLimits.model_validate_json(there.quality)
    with _asking(there):
        # Taken as one expression: neither another statement nor another clause can stand in it.
        chosen = faces.filter(there.condition) if there.condition else faces
        return chosen.project(_WANTED.format(reasons=reasons(limits)))


def refuse_replaced(connection: duckdb.DuckDBPyConnection, there: Collection) -> None:
    """A catalogue whose faces were looked at anew with another model would empty the collection without a word."""
    others = connection.execute(
        "SELECT any_value(now.model), count(DISTINCT now.uri) FROM latest_ledger AS now "
        "SEMI JOIN (SELECT uri, operator FROM ledger WHERE model = $model) AS made "
        "ON made.uri = now.uri AND made.operator = now.operator SEMI JOIN to_leave ON to_leave.uri = now.uri "
        "WHERE now.model <> $model",
        {"model": there.model},
    ).fetchall()[0]
    if others[1]:
        raise CollectionError(
            f"collection {there.collection} is of the model {there.model}, and {others[1]:,} of its items have been "
            f"looked at with {others[0]} since: their vectors cannot be compared. Nothing was touched; `pinakes "
            f"faces rebuild {there.collection} --model {others[0]}` makes it anew"
        )


def count(connection: duckdb.DuckDBPyConnection, there: Collection, since: int) -> Difference:
    """What is about to change, and what there will be."""
    added, removed, good, bad, good_before, bad_before = connection.execute(
        "SELECT (SELECT count(*) FROM to_add WHERE len(reasons) = 0), "
        "(SELECT count(*) FROM to_leave), "
        "(SELECT count(*) FROM wanted WHERE len(reasons) = 0), (SELECT count(*) FROM wanted WHERE len(reasons) > 0), "
        "(SELECT count(*) FROM recorded WHERE action_before = 'indexed'), "
        "(SELECT count(*) FROM recorded WHERE action_before = 'left_out')"
    ).fetchall()[0]
    found = Difference(added, removed, faces=good, all_left_out=bad)
    if since:
        found.faces += there.faces - good_before
        found.all_left_out += there.left_out - bad_before
    reasons_found = connection.execute(
        "SELECT reason, count(*) FROM (SELECT unnest(reasons) AS reason FROM to_add) GROUP BY 1 ORDER BY 2 DESC"
    ).fetchall()
    found.left_out.update(dict(reasons_found))
    return found
