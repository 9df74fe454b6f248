"""Where vectors are searched: Milvus Lite in a folder of this machine, or a Milvus server.

A collection here is no more than an index of what Delta holds: face_loading.py fills it, and can make it anew.
"""

import logging
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from filelock import FileLock, Timeout
from platformdirs import user_cache_dir

from pinakes.catalog.errors import CollectionError
from pinakes.catalog.index_choice import Index

if TYPE_CHECKING:
    from pymilvus import MilvusClient

# Before anyone imports gRPC: else it starts threads of its own in every process that this one forks, as Ray's start
# does, and one of these was seen to hang before it became what it was to be.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

#: Names a server's key, so that it stands on no command line and in no table.
TOKEN_VARIABLE = "PINAKES_MILVUS_TOKEN"
VECTOR = "vector"
#: Milvus 2.3 knows no nulls: these stand for them. No time, number or text of a face is one of them.
NO_TIME = -9_000_000_000_000_000
NO_FLOAT = -1e30
NO_TEXT = ""
#: What is kept beside a vector: to be shown with a match, and for conditions on it. Times are in milliseconds.
FIELDS = pa.schema(
    [
        pa.field("face_id", pa.string()),
        pa.field("uri", pa.string()),
        pa.field("source", pa.string()),
        pa.field("captured_at", pa.int64()),
        pa.field("frame_ms", pa.int64()),
        pa.field("age", pa.float32()),
        pa.field("gender", pa.string()),
        pa.field("confidence", pa.float32()),
        pa.field("left", pa.float32()),
        pa.field("top", pa.float32()),
        pa.field("width", pa.float32()),
        pa.field("height", pa.float32()),
    ]
)
#: Characters, of up to four bytes; Milvus takes 65,535 bytes.
LONGEST_TEXT = 16_383
#: Rows of one request: 2.6 MB at 128 dimensions, 10 MB at 512; a server takes 64 MB.
BATCH = 5000
#: Queries of one request.
QUERIES = 100
#: The most matches that Milvus gives for one query.
MOST_MATCHES = 16_384
#: How long another command may hold a collection in Milvus Lite before this one gives up.
LITE_WAITS_S = 300


class Vectors:
    """The vectors of one collection. Made by `opened`. Raises CollectionError."""

    def __init__(self, client: "MilvusClient", name: str, place: str) -> None:
        self._client = client
        self.name = name
        self._place = place
        self._is_lite = "://" not in place

    @property
    def exists(self) -> bool:
        with self._reporting():
            return bool(self._client.has_collection(self.name))

    @property
    def finds_anywhere(self) -> bool:
        """Whether a condition may look for a text in the middle of another: servers can from 2.4 on."""
        with self._reporting():
            version = re.match(r"v?(\d+)\.(\d+)", self._client.get_server_version())
        return self._is_lite or version is None or (int(version[1]), int(version[2])) >= (2, 4)

    def create(self, dimensions: int, index: Index) -> None:
        """An empty collection; its index is built as it is filled."""
        from pymilvus import DataType, MilvusClient

        kinds = {pa.string(): DataType.VARCHAR, pa.int64(): DataType.INT64, pa.float32(): DataType.FLOAT}
        schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
        for field in FIELDS:
            size = {"max_length": 4 * LONGEST_TEXT} if field.type == pa.string() else {}
            schema.add_field(field.name, kinds[field.type], is_primary=field.name == "face_id", **size)
        schema.add_field(VECTOR, DataType.FLOAT_VECTOR, dim=dimensions)
        parameters = MilvusClient.prepare_index_params()
        parameters.add_index(VECTOR, index_type=index.type, metric_type="COSINE", params=dict(index.build))
        try:
            with self._reporting():
                self._client.create_collection(self.name, schema=schema, index_params=parameters)
        except CollectionError as error:
            raise CollectionError(
                f"{error} (it was asked for an index {index.type}; the job's section `faces` may name another)"
            ) from error

    def drop(self) -> None:
        with self._reporting():
            self._client.drop_collection(self.name)

    def add(self, rows: pa.Table, *, may_be_there: bool) -> None:
        """Add faces: the columns of FIELDS, and `vector`. Those that are there already are replaced if they may be."""
        with self._reporting():
            for start in range(0, rows.num_rows, BATCH):
                entities = _entities(rows.slice(start, BATCH))
                (self._client.upsert if may_be_there else self._client.insert)(self.name, entities)

    def remove(self, face_ids: Sequence[str]) -> None:
        with self._reporting():
            for start in range(0, len(face_ids), BATCH):
                self._client.delete(self.name, ids=list(face_ids[start : start + BATCH]))

    def count(self) -> int:
        """Faces in it, all that was written before counted. A later search by anyone sees these too."""
        with self._reporting():
            answer = self._client.query(self.name, output_fields=["count(*)"], consistency_level="Strong")
            return int(answer[0]["count(*)"])

    def get(self, face_ids: Sequence[str]) -> dict[str, np.ndarray]:
        """The vectors of those that are there."""
        with self._reporting():
            rows = self._client.get(self.name, ids=list(face_ids), output_fields=["face_id", VECTOR])
        return {row["face_id"]: np.asarray(row[VECTOR], np.float32) for row in rows}

    def search(
        self, queries: np.ndarray, limit: int, *, parameters: Mapping[str, Any], condition: str = ""
    ) -> list[list[dict[str, Any]]]:
        """For each of (n, d) vectors the nearest faces for which a Milvus `condition` holds, the best first.

        A match has `similarity` (cosine, 0 to 1; below 0 is said as 0), and the columns of FIELDS.
        """
        found: list[list[dict[str, Any]]] = []
        with self._reporting():
            for start in range(0, len(queries), QUERIES):
                answers = self._client.search(
                    self.name,
                    list(queries[start : start + QUERIES]),
                    filter=condition,
                    limit=min(limit, MOST_MATCHES),
                    output_fields=FIELDS.names,
                    # An HNSW index must look at no fewer than it is to give.
                    search_params={
                        "params": {
                            name: max(value, limit) if name == "ef" else value for name, value in parameters.items()
                        }
                    },
                )
                found += [[_match(hit) for hit in answer] for answer in answers]
        return found

    def settle(self, waiting: Callable[[int], None] = lambda rows: None, limit_s: float = 86_400) -> bool:
        """Write out what was added, and wait until all of it is indexed; `waiting` is told how many rows are not.

        An index is ready when no rows are pending, not when its state says so. False when the time was not enough:
        what is not indexed is found all the same, only slower.
        """
        end = time.monotonic() + limit_s
        with self._reporting():
            self._client.flush(self.name)
            while time.monotonic() < end:
                pending = int(self._client.describe_index(self.name, VECTOR).get("pending_index_rows", 0))
                if not pending:
                    return True
                waiting(pending)
                time.sleep(1)
        return False

    def compact(self, limit_s: float = 120) -> str:
        """Ask the server to write segments anew without what was deleted. Returns in a word how that went."""
        with self._reporting():
            self._client.flush(self.name)
            job = self._client.compact(self.name)
            end = time.monotonic() + limit_s
            while time.monotonic() < end:
                state = str(self._client.get_compaction_state(job))
                if state == "Completed":
                    return state
                time.sleep(0.5)
        return "still running"

    @contextmanager
    def _reporting(self) -> Iterator[None]:
        with _reporting(self._place):
            yield

    def load(self) -> None:
        """Make it ready to be asked."""
        with self._reporting():
            if "Loaded" not in str(self._client.get_load_state(self.name).get("state")):
                self._client.load_collection(self.name)


@contextmanager
def opened(name: str, uri: str | None, waiting: Callable[[str], None] = lambda line: None) -> Iterator[Vectors]:
    """The collection `name` of the server at `uri`, or of Milvus Lite when that is None; it need not be there yet.

    Only one process at a time can have a collection open in Milvus Lite: this waits its turn. Raises CollectionError.
    """
    from pymilvus import MilvusClient

    for logger in ("pymilvus", "milvus_lite", "grpc"):
        # What they log with a traceback comes as an exception too.
        logging.getLogger(logger).setLevel(logging.CRITICAL)
    if uri is not None:
        with _reporting(uri):
            client = MilvusClient(uri, token=os.environ.get(TOKEN_VARIABLE, ""), timeout=30)
        try:
            yield _loaded(Vectors(client, name, uri))
        finally:
            client.close()
        return
    from milvus_lite.server_manager import server_manager_instance

    folder = lite_folder(name)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _turn(folder, waiting):
        with _reporting(str(folder)):
            client = MilvusClient(str(folder))
        try:
            yield _loaded(Vectors(client, name, str(folder)))
        finally:
            client.close()
            server_manager_instance.release_server(str(folder))


def remove(name: str, uri: str | None, folder: Path | None = None) -> None:
    """Remove a collection, and what Milvus Lite keeps of it in `folder`, if it is there.

    Raises CollectionError (a server does not answer, or another command has the folder open), OSError.
    """
    if uri is not None:
        with opened(name, uri) as vectors:
            if vectors.exists:
                vectors.drop()
        return
    folder = folder or lite_folder(name)
    if folder.exists():
        with _turn(folder, lambda line: None):
            shutil.rmtree(folder)
    folder.with_suffix(".lock").unlink(missing_ok=True)


def lite_folder(name: str) -> Path:
    """Where Milvus Lite keeps a collection on this machine: below $PINAKES_CACHE, or the user's cache folder."""
    return Path(os.environ.get("PINAKES_CACHE") or user_cache_dir("pinakes")) / "faces" / f"{name}.db"


def _loaded(vectors: Vectors) -> Vectors:
    if vectors.exists:
        vectors.load()
    return vectors


@contextmanager
def _turn(folder: Path, waiting: Callable[[str], None]) -> Iterator[None]:
    lock = FileLock(folder.with_suffix(".lock"))
    try:
        lock.acquire(timeout=1)
    except Timeout:
        waiting(f"another command has {folder.stem} open in Milvus Lite: waiting for it")
        try:
            lock.acquire(timeout=LITE_WAITS_S)
        except Timeout:
            raise CollectionError(
                f"another command has had {folder} open for {LITE_WAITS_S // 60} minutes: wait for it, or use a Milvus "
                "server, which many can ask at once. Nothing was touched"
            ) from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _reporting(place: str) -> Iterator[None]:
    from grpc import RpcError
    from pymilvus.exceptions import MilvusException

    try:
        yield
    except (MilvusException, RpcError) as error:
        said = " ".join(str(getattr(error, "message", None) or error).split())[:300]
        gone = re.search("connect|unavailable|timeout|timed out|deadline", said, re.IGNORECASE)
        advice = (
            "check that it runs there, and the URI" if gone else "what is broken, `pinakes faces rebuild` makes anew"
        )
        raise CollectionError(f"Milvus at {place}: {said}. The catalogue is safe; {advice}") from error


def _entities(rows: pa.Table) -> list[dict[str, Any]]:
    absent = {pa.string(): NO_TEXT, pa.int64(): NO_TIME, pa.float32(): NO_FLOAT}
    columns = [pc.fill_null(rows[field.name].cast(field.type), absent[field.type]) for field in FIELDS]
    columns = [
        # No text is longer than Milvus takes, in whatever letters.
        (pc.utf8_slice_codeunits(column, 0, LONGEST_TEXT) if field.type == pa.string() else column).to_pylist()
        for field, column in zip(FIELDS, columns, strict=True)
    ]
    # One number that is none would keep a server from taking any of them.
    vectors = np.nan_to_num(as_matrix(rows[VECTOR]), posinf=0, neginf=0)
    names = [*FIELDS.names, VECTOR]
    return [dict(zip(names, values, strict=True)) for values in zip(*columns, vectors, strict=True)]


def as_matrix(vectors: pa.ChunkedArray) -> np.ndarray:
    """(n, d) float32 of a column of lists, all of one length."""
    flat = pc.list_flatten(vectors).to_numpy().astype(np.float32, copy=False)
    return flat.reshape(len(vectors), -1) if len(vectors) else np.empty((0, 0), np.float32)


def _match(hit: Any) -> dict[str, Any]:
    found = dict(hit["entity"])
    absent: dict[str, Any] = {name: None for name, value in found.items() if value in (NO_TEXT, NO_TIME)}
    # As float32 the sentinel comes back a little off.
    absent |= {name: None for name, value in found.items() if isinstance(value, float) and value < NO_FLOAT / 2}
    return {**found, **absent, "similarity": min(1.0, max(0.0, float(hit["distance"])))}
