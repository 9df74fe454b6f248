"""What must not come back: faces that were forgotten are dropped from what a run commits, by content and place.

A suppression names a file by its content, a frame, and a box; a face there that overlaps it enough is the one that was
forgotten, whatever model found it. It keeps no vector, and so says nothing of the same face in another file.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError

from pinakes.catalog.storage import Storage

TABLE = "suppressions"
#: Intersection over union from which on two boxes are of one face: those of one face by two models, or by one in two
#: precisions, overlap by more, those of two people next to each other by less.
SAME_FACE = 0.5
#: A run that takes other frames of a film sees the face in between. Half of a second is as far as a frame can be from
#: the nearest of those that are looked at by default.
NEAR_MS = 500

SIDES = ("left", "top", "width", "height")
BOX = pa.struct([pa.field(side, pa.float32(), nullable=False) for side in SIDES])
#: Where a face is: the content's id (or, of a file that was not read to its end, the item's key), frame and box.
PLACES = pa.schema([("key", pa.string()), ("frame_ms", pa.int64()), ("box", BOX)])
#: In the place of the time of a still.
_STILL = -(2**50)


@dataclass(frozen=True)
class Suppressions:
    """Those of a catalogue, as they were read."""

    version: int | None = None  # of the table; None when there is none
    #: Contents of which every face is suppressed.
    whole: pa.Array = field(default_factory=lambda: pa.array([], pa.string()))
    places: pa.Table = field(default_factory=PLACES.empty_table)

    @classmethod
    def read(cls, storage: Storage, before: "Suppressions | None" = None) -> "Suppressions":
        """Those of now; `before` itself when nothing was added since. None are there where there is no table.

        Raises CorruptCatalogError, StorageError.
        """
        with storage.reporting(f"reading table {TABLE}"):
            try:
                table = DeltaTable(storage.table_uri(TABLE), storage_options=storage.delta_options)
            except TableNotFoundError:
                return cls()
            if before is not None and before.version == table.version():
                return before
            rows = table.to_pyarrow_table(columns=["content_id", "frame_ms", "box"])
        every = pc.is_null(rows["box"])
        whole = pc.unique(rows["content_id"].filter(every)).drop_null()
        return cls(table.version(), whole, rows.filter(pc.invert(every)).rename_columns(PLACES.names).cast(PLACES))

    def hits(self, rows: pa.Table, near_ms: int = 0) -> np.ndarray:
        """Which of those faces are suppressed, as bools; `rows` has the columns of PLACES.

        With `near_ms` a suppression in a frame so near counts as well.
        """
        found: np.ndarray = pc.is_in(rows["key"], self.whole).to_numpy().copy()
        found[overlapping(rows, self.places, near_ms)[0]] = True
        return found

    def without(self, tables: Mapping[str, pa.Table]) -> dict[str, pa.Table]:
        """The rows of some tables that may be committed together: not those of suppressed faces.

        They leave `faces`, `embeddings` and `tracks`; tables without the columns that it takes to tell pass unchanged.
        """
        kept = dict(tables)
        if not len(self.whole) and not len(self.places):
            return kept
        gone = pa.array([], pa.string())
        faces = _with(kept, "faces", ("face_id", "box"))
        if faces is not None:
            hit = self._hits(faces, keyed(faces), NEAR_MS)
            gone = pc.filter(faces["face_id"], hit).combine_chunks()
            kept["faces"] = faces.filter(pc.invert(hit)) if len(gone) else faces
        embeddings = _with(kept, "embeddings", ("subject", "subject_id"))
        if embeddings is not None:
            hit = pc.or_(pc.is_in(embeddings["subject_id"], gone), pc.is_in(_keys(embeddings), self.whole))
            hit = pc.and_(hit, pc.equal(embeddings["subject"], "face"))
            kept["embeddings"] = embeddings.filter(pc.invert(hit)) if pc.any(hit).as_py() else embeddings
        tracks = _with(kept, "tracks", ("kind", "boxes"))
        if tracks is not None:
            hit = self._tracks(tracks)
            kept["tracks"] = tracks.filter(pc.invert(hit)) if hit.to_numpy(False).any() else tracks
        return kept

    def _hits(self, table: pa.Table, places: pa.Table, near_ms: int) -> pa.Array:
        """As `hits`, and quick when no row is of a content that has suppressions, which is nearly always so."""
        known = pc.or_(pc.is_in(places["key"], self.whole), pc.is_in(places["key"], self.places["key"]))
        if not pc.any(known).as_py():
            return pa.array(np.zeros(len(table), bool))
        return pa.array(self.hits(places, near_ms))

    def _tracks(self, tracks: pa.Table) -> pa.Array:
        """Which rows of `tracks` are of suppressed faces: in one frame that is suppressed, or near one in most frames.

        Near a cut another's face may be in the same place half a second later: one such frame is not enough.
        """
        boxes = tracks["boxes"].combine_chunks()
        parent = pc.list_parent_indices(boxes).to_numpy()
        flat = boxes.flatten()
        of_face = pc.equal(tracks["kind"], "face").to_numpy()[parent]
        columns = [
            _keys(tracks).take(pa.array(parent)),
            flat.field("frame_ms"),
            pa.StructArray.from_arrays([flat.field(side) for side in SIDES], fields=list(BOX)),
        ]
        places = pa.table(columns, schema=PLACES)
        near = self._hits(places, places, NEAR_MS).to_numpy(False) & of_face
        hit = np.zeros(len(tracks), bool)
        if near.any():
            exact = self.hits(places) & of_face
            counts, hits, hits_near = (
                np.bincount(parent[chosen], minlength=len(tracks)) for chosen in (of_face, exact, near)
            )
            hit = (hits > 0) | ((hits_near > 0) & (hits_near * 2 >= counts))
        return pa.array(hit)


def keyed(rows: pa.Table) -> pa.Table:
    """Where each row of `faces` is, as PLACES says."""
    return pa.table([_keys(rows), rows["frame_ms"], rows["box"].cast(BOX)], schema=PLACES)


def overlapping(rows: pa.Table, places: pa.Table, near_ms: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of a face of `rows` and one of `places`, both as PLACES, that are one and the same, as two arrays of rows.

    Of the same content, and their boxes overlap, in the same frame or in two that are no more than `near_ms` apart.
    """
    keys = pc.unique(places["key"])
    code = pc.index_in(rows["key"], keys).fill_null(-1).to_numpy()
    chosen = np.flatnonzero(code >= 0)
    if not len(chosen):
        return chosen, chosen.copy()
    rows, code = rows.take(pa.array(chosen)), code[chosen]
    place_code = pc.index_in(places["key"], keys).to_numpy()
    frame, place_frame = _frames(rows), _frames(places)
    # Frames that are near enough lie in one bucket, or in two that are next to each other.
    bucket, place_bucket = frame // (near_ms + 1), place_frame // (near_ms + 1)
    pairs = [_equal(code, bucket + shift, place_code, place_bucket) for shift in ((-1, 0, 1) if near_ms else (0,))]
    one, other = (np.concatenate(side) for side in zip(*pairs, strict=True))
    near = np.abs(frame[one] - place_frame[other]) <= near_ms
    one, other = one[near], other[near]
    same = _overlap(_boxes(rows)[one], _boxes(places)[other]) >= SAME_FACE
    return chosen[one[same]], other[same]


def _equal(code: np.ndarray, bucket: np.ndarray, codes: np.ndarray, buckets: np.ndarray) -> tuple[np.ndarray, ...]:
    """Pairs of positions at which both numbers are equal."""
    values, of_bucket = np.unique(np.concatenate([bucket, buckets]), return_inverse=True)
    one, other = np.split(np.concatenate([code, codes]) * len(values) + of_bucket, [len(bucket)])
    order = np.argsort(other, kind="stable")
    first, end = (np.searchsorted(other[order], one, side=side) for side in ("left", "right"))
    count = end - first
    start = np.repeat(first - (np.cumsum(count) - count), count)
    return np.repeat(np.arange(len(one)), count), order[start + np.arange(count.sum())]


def _overlap(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(n,): intersection over union of (n, 4) left, top, width, height, pair by pair."""
    start = np.maximum(one[:, :2], other[:, :2])
    end = np.minimum(one[:, :2] + one[:, 2:], other[:, :2] + other[:, 2:])
    shared = (end - start).clip(0).prod(axis=1)
    union = one[:, 2:].prod(axis=1) + other[:, 2:].prod(axis=1) - shared
    ratio: np.ndarray = shared / np.maximum(union, 1e-12)
    return ratio


def _boxes(rows: pa.Table) -> np.ndarray:
    return np.stack([pc.struct_field(rows["box"], side).to_numpy() for side in SIDES], axis=1).astype(np.float64)


def _frames(rows: pa.Table) -> np.ndarray:
    frames: np.ndarray = pc.fill_null(rows["frame_ms"], _STILL).to_numpy()
    return frames


def _keys(rows: pa.Table) -> pa.ChunkedArray:
    return pc.coalesce(rows["content_id"], rows["item_key"])


def _with(tables: Mapping[str, pa.Table], name: str, columns: Iterable[str]) -> pa.Table | None:
    """The table if it has rows and those columns, and those that say of what it is."""
    table = tables.get(name)
    wanted = {"content_id", "item_key", "frame_ms", *columns}
    return table if table is not None and table.num_rows and wanted <= set(table.column_names) else None
