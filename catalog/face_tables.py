"""The tables of face search: collections and what is in them, people, searches, and what is to be forgotten.

They are made when they are first needed. All but `people` and `audit` are only ever added to, apart from what
forgetting.py takes out of every table.
"""

import pyarrow as pa

from pinakes.catalog.schema import CONTENT_ID, FRAME_MS, TIMESTAMP, column

COLLECTION = column("collection", pa.string(), "name of the collection", nullable=False)
FACE_ID = column("face_id", pa.string(), "the face: a row of faces, and of embeddings by its subject_id")
SIMILARITY = column("similarity", pa.float32(), "cosine of the two vectors, 0 to 1; below 0 is said as 0")
#: Of a face and a person.
NEARNESS = column(
    "similarity",
    pa.float32(),
    "cosine, 0 to 1, with the nearest reference (matched), or with the mean of the group (grouped); 1 of a reference",
)

#: What a collection is and was: the newest row of a name counts that is not `begun` or `removed`.
COLLECTIONS = pa.schema(
    [
        COLLECTION,
        column(
            "action",
            pa.string(),
            "created, loaded, rebuilt, forgotten or dropped; begun and removed are of copies in Milvus that are not "
            "the collection yet, or no more",
            nullable=False,
        ),
        column("load", pa.int64(), "number of this row among those of the collection, from 1", nullable=False),
        column("model", pa.string(), "model of the vectors, as in embeddings", nullable=False),
        column("dimensions", pa.int32(), "of a vector; null until there is one"),
        column("condition", pa.string(), "SQL that a face must meet to be in it; null: none"),
        column("quality", pa.string(), "limits of the quality filter, as JSON", nullable=False),
        column("milvus", pa.string(), "URI of the Milvus server; null: Milvus Lite on the host"),
        column("host", pa.string(), "the machine that loaded it; Milvus Lite has it there only", nullable=False),
        column("folder", pa.string(), "where Milvus Lite keeps it on that machine; null: in a server"),
        column("milvus_name", pa.string(), "its name in Milvus; another one after each rebuild", nullable=False),
        column("index", pa.string(), "type and parameters of the index in Milvus, as JSON", nullable=False),
        column("n", pa.int64(), "the last commit that is in it", nullable=False),
        column("fingerprints", pa.string(), "of the looks it was made from, the newest last, as JSON", nullable=False),
        column("faces", pa.int64(), "faces in it", nullable=False),
        column("left_out", pa.int64(), "faces that the quality filter left out", nullable=False),
        column("recorded_at", TIMESTAMP, "when this was so", nullable=False),
    ],
    metadata={"description": "a change of a collection of faces"},
)

#: What was done with a face: the row of the highest load counts.
COLLECTION_FACES = pa.schema(
    [
        COLLECTION,
        column("milvus_name", pa.string(), "the collection's name in Milvus at that time", nullable=False),
        column("load", pa.int64(), "the load that did it", nullable=False),
        FACE_ID,
        column("uri", pa.string(), "where the item is", nullable=False),
        column("action", pa.string(), "indexed, left_out or removed", nullable=False),
        column(
            "reasons",
            pa.list_(pa.string()),
            "why it was left out: small, blurred, dark, bright, extreme_pose, low_confidence",
        ),
    ],
    metadata={"description": "what was done with a face for a collection"},
)

PEOPLE = pa.schema(
    [
        COLLECTION,
        column("person_id", pa.string(), "32 hex digits; stays with the person when people are grouped anew"),
        column("name", pa.string(), "the name that was given; null for a person without one"),
        FACE_ID,
        column(
            "how",
            pa.string(),
            "reference (a face that was named), matched (like a reference), grouped (like the others of the person)",
            nullable=False,
        ),
        NEARNESS,
        column(
            "vector", pa.list_(pa.float32()), "of a reference that is not in the archive (face_id is null); else null"
        ),
        column("recorded_at", TIMESTAMP, "when this was found", nullable=False),
    ],
    metadata={"description": "why a face is taken for a person's"},
)

#: A row for each match, and one without a match for a search that found nothing.
AUDIT = pa.schema(
    [
        column("search_id", pa.string(), "32 hex digits; the same for all matches of one face", nullable=False),
        column("searched_at", TIMESTAMP, "when", nullable=False),
        column("searched_by", pa.string(), "user and host", nullable=False),
        COLLECTION,
        column("query", pa.string(), "the photo, or the face id, that was asked for"),
        column("query_face_id", pa.string(), "id of the face that was looked for"),
        column("threshold", pa.float32(), "similarity that a match had at least", nullable=False),
        column("condition", pa.string(), "the filter"),
        column("rank", pa.int32(), "1 for the best match; null when there was none"),
        FACE_ID,
        SIMILARITY,
    ],
    metadata={"description": "a match of a search for a face, or a search without one"},
)

#: What must not come back: rows of faces of such content at such a place are dropped before they are committed.
SUPPRESSIONS = pa.schema(
    [
        CONTENT_ID,
        FRAME_MS,
        column(
            "box",
            pa.struct([pa.field(side, pa.float32(), nullable=False) for side in ("left", "top", "width", "height")]),
            "ratios of the upright picture; null: every face of that content",
        ),
        column("receipt_id", pa.string(), "the receipt of the forgetting", nullable=False),
        column("suppressed_at", TIMESTAMP, "when", nullable=False),
    ],
    metadata={"description": "a place whose faces must not come back"},
)

TABLES = {
    "collections": COLLECTIONS,
    "collection_faces": COLLECTION_FACES,
    "people": PEOPLE,
    "audit": AUDIT,
    "suppressions": SUPPRESSIONS,
}
