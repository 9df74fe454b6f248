"""The views beside the tables: what each is for, the tables that it needs, and its SQL.

`latest_ledger` has the look of each operator at each item that counts, and `latest_TABLE`, of every table of results,
the rows that it found. The others are made of these. A video counts from the moment when all its windows have been
looked at. A view is there where its tables are.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from pinakes.catalog.face_tables import TABLES as FACE_TABLES
from pinakes.catalog.schema import LOOK, OWN_TABLES

#: Per place and operator the look that counts: of the newest version of the file, with the fingerprint that a run asked
#: for last (to go back to earlier settings costs nothing), the newest attempt; and with it those at a video's windows.
#: Groups and joins by keys alone: a window function over whole rows of the ledger takes half as long again.
_LATEST_LEDGER = """
    WITH asked AS (
        SELECT fingerprint, max(recorded_at) AS asked_at FROM (
            SELECT unnest([value->>'$.fingerprint', value->>'$.video_fingerprint']) AS fingerprint, recorded_at
            FROM runs, json_each(runs.operators)
        ) GROUP BY ALL
    ), whole AS (
        FROM ledger WHERE window_start_ms IS NULL
    ), newest AS (
        SELECT uri, item_key, operator, max(n) AS n, arg_max(
            {'fingerprint': fingerprint, 'attempt': attempt},
            (coalesce(asked_at, '-infinity'::TIMESTAMPTZ), n, attempt)
        ) AS look
        FROM whole LEFT JOIN asked USING (fingerprint) GROUP BY uri, item_key, operator
    ), versions AS (
        SELECT uri, arg_max(item_key, n) AS item_key FROM newest GROUP BY uri
    ), looks AS (
        SELECT item_key, operator, look.fingerprint AS fingerprint, look.attempt AS attempt
        FROM newest SEMI JOIN versions USING (uri, item_key)
    ), counting AS (
        SELECT whole.* FROM whole SEMI JOIN looks USING (item_key, operator, fingerprint, attempt)
    ), windows AS (
        SELECT ledger.* FROM ledger SEMI JOIN looks USING (item_key, operator, fingerprint)
        WHERE window_start_ms IS NOT NULL
        QUALIFY row_number() OVER (PARTITION BY item_key, operator, window_start_ms ORDER BY attempt DESC) = 1
    )
    FROM counting UNION ALL FROM windows
"""

_LATEST = """
    SELECT found.* FROM {table} AS found SEMI JOIN (FROM latest_ledger WHERE status = 'ok') AS looks
    ON found.item_key = looks.item_key AND found.fingerprint = looks.fingerprint AND found.attempt = looks.attempt
       AND found.n = looks.n AND found.window_start_ms IS NOT DISTINCT FROM looks.window_start_ms
"""

#: Of the rows of a face the one that counts: a reference before a match, a match before a group; then the newest.
_ONE_ROW_A_FACE = """
    FROM people WHERE face_id IS NOT NULL
    QUALIFY row_number() OVER (
        PARTITION BY collection, face_id
        ORDER BY list_position(['reference', 'matched', 'grouped'], how), recorded_at DESC,
                 similarity DESC NULLS LAST, person_id
    ) = 1
"""

_LATEST_PEOPLE = f"""
    SELECT who.*, seen.uri, seen.item_key, seen.content_id, seen.frame_ms, seen.box
    FROM ({_ONE_ROW_A_FACE}) AS who JOIN latest_faces AS seen ON seen.face_id = who.face_id
"""

_LATEST_COLLECTION_FACES = """
    SELECT collection, milvus_name, face_id, any_value(uri) AS uri, max(load) AS load, arg_max(action, load) AS action,
           arg_max_null(reasons, load) AS reasons
    FROM collection_faces GROUP BY collection, milvus_name, face_id
"""

_LABELS_ALL = """
    SELECT * EXCLUDE (name, ancestors, categories, found), found.name AS name, found.ancestor_of AS ancestor_of,
           found.ancestor_of IS NULL AS direct
    FROM (
        SELECT *, unnest(list_prepend(
            {'name': name, 'ancestor_of': NULL::VARCHAR},
            list_transform(list_distinct(ancestors), lambda one: {'name': one, 'ancestor_of': name})
        )) AS found
        FROM latest_labels
    )
"""

_MEDIA_FAILED = """
    SELECT uri, any_value(item_key) AS item_key, list(operator ORDER BY operator) AS operators,
           error_code AS code, any_value(error_message) AS message, max(attempt) AS attempts,
           max(finished_at) AS failed_at, error_code IN ('unreachable') AS tries_again
    FROM latest_ledger WHERE status = 'failed' AND window_start_ms IS NULL GROUP BY uri, error_code
"""

#: Where the names come from.
_SEEN = {
    "labels": "SELECT uri, item_key, frame_ms, model, name, confidence, ancestors, categories FROM latest_labels",
    "objects": "SELECT uri, item_key, frame_ms, model, name, confidence, ancestors, box FROM latest_objects",
}

#: As DetectLabels answers: a label has its boxes, and its ancestors are labels as well.
_REKOGNITION_LABELS = """
    WITH seen AS (
        FROM (SELECT NULL::VARCHAR[] AS categories, NULL::{box} AS box LIMIT 0) UNION ALL BY NAME {seen}
    ), named AS (
        SELECT * EXCLUDE (name, categories, box), list_prepend(name, ancestors)[up] AS name,
               ancestors[up:] AS parents, CASE WHEN up = 1 THEN categories END AS categories,
               CASE WHEN up = 1 THEN box END AS box
        FROM (SELECT *, unnest(range(1, coalesce(len(ancestors), 0) + 2)) AS up FROM seen)
    )
    SELECT uri, item_key, frame_ms AS "Timestamp", name AS "Name", (100 * max(confidence))::FLOAT AS "Confidence",
           coalesce(list_transform(arg_min(parents, up), lambda one: {{'Name': one}}), []) AS "Parents",
           []::STRUCT("Name" VARCHAR)[] AS "Aliases",
           coalesce(list_transform(any_value(categories), lambda one: {{'Name': one}}), []) AS "Categories",
           coalesce(list({{
               'BoundingBox': {{'Width': box.width, 'Height': box.height, 'Left': box."left", 'Top': box.top}},
               'Confidence': (100 * confidence)::FLOAT
           }} ORDER BY confidence DESC) FILTER (box IS NOT NULL), []) AS "Instances",
           string_agg(DISTINCT model, '+' ORDER BY model) AS "LabelModelVersion"
    FROM named GROUP BY uri, item_key, frame_ms, name
"""
_BOX = 'STRUCT("left" FLOAT, top FLOAT, width FLOAT, height FLOAT)'


@dataclass(frozen=True)
class View:
    """A view: its SQL, what a row of it is, and what its columns mean that are not a table's."""

    name: str
    needs: tuple[str, ...]  # tables
    sql: str = field(repr=False)
    description: str
    columns: Mapping[str, str] = field(default_factory=dict)


_NAMED = (
    View(
        "latest_people",
        ("people", "faces"),
        _LATEST_PEOPLE,
        "a face that counts, where it is, and whose it is, by the best reason for that",
    ),
    View(
        "latest_collection_faces",
        ("collection_faces",),
        _LATEST_COLLECTION_FACES,
        "what was done last with a face, in each copy of a collection",
    ),
    View(
        "labels_all",
        ("labels",),
        _LABELS_ALL,
        "a label of latest_labels, or one of its ancestors, with the label's confidence; an ancestor of several labels "
        "of a picture has several rows, so count with count(DISTINCT uri)",
        {
            "name": "the label, or the ancestor",
            "ancestor_of": "the label that it is an ancestor of; null of a label itself",
            "direct": "whether it is the label itself",
        },
    ),
    View(
        "media_failed",
        ("ledger",),
        _MEDIA_FAILED,
        "an item of which the look that counts failed, and why; several rows where operators failed differently",
        {
            "operators": "the operators whose looks failed so",
            "code": "why, as error_code of ledger",
            "message": "the same in words",
            "attempts": "looks at it so far that an operator has made",
            "failed_at": "when the last of them ended",
            "tries_again": "whether the next `pinakes run` looks again by itself; of others `pinakes retry` does",
        },
    ),
)

_SERVICE = View(
    "rekognition_labels",
    ("labels", "objects"),
    "",
    "a label of a picture or frame as Amazon Rekognition's DetectLabels gives it: latest_labels and latest_objects as "
    "one, and all their ancestors as labels too. Otherwise than there an ancestor has the highest confidence below it "
    "and no categories, things that only objects knows have no categories either, and no label has aliases",
    {
        "Timestamp": "time of the frame in milliseconds, as in GetLabelDetection; null for a still",
        "Name": "the label",
        "Confidence": "0 to 100, the highest of its boxes and of what it is an ancestor of",
        "Parents": "all ancestors, the nearest first; of an ancestor those that stand after it",
        "Aliases": "always empty",
        "Categories": "of a label; empty of an ancestor or a thing",
        "Instances": "boxes of things of that name, the most confident first: ratios of the upright picture, and "
        "confidence, 0 to 100",
        "LabelModelVersion": "the models that saw it, with + between",
    },
)


def views(tables: Mapping[str, Iterable[str]]) -> list[View]:
    """The views of a catalogue with those tables, each with names of its columns, in the order to make them in."""
    found = [View("latest_ledger", ("ledger", "runs"), _LATEST_LEDGER, "a look that counts, of an operator at an item")]
    for name in sorted(tables):
        if name not in OWN_TABLES and set(LOOK) <= set(tables[name]):
            latest = _LATEST.format(table=quoted(name))
            found.append(View(f"latest_{name}", (name,), latest, f"a row of {name} that counts"))
    made = {one.name for one in found}
    known = made | {f"latest_{name}" for name in tables if name in OWN_TABLES or name in FACE_TABLES}
    found += [one for one in _NAMED if known.issuperset(f"latest_{need}" for need in one.needs)]
    there = [name for name in _SERVICE.needs if f"latest_{name}" in made]
    if there:
        seen = " UNION ALL BY NAME ".join(_SEEN[name] for name in there)
        found.append(replace(_SERVICE, sql=_REKOGNITION_LABELS.format(box=_BOX, seen=seen)))
    return found


def quoted(name: str) -> str:
    """As SQL spells it: who can make a folder in the catalogue chooses the name of a table."""
    return '"' + name.replace('"', '""') + '"'


def needed(name: str) -> tuple[str, ...]:
    """The tables behind a view, or a table, of that name: of one that is not there any of them may be missing."""
    known = next((one for one in (*_NAMED, _SERVICE) if one.name == name), None)
    return known.needs if known else (name.removeprefix("latest_"),)
