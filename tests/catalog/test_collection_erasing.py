"""What is taken out of Milvus is not found any more, and on this machine not on its disk either."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pinakes.catalog import Catalog
from pinakes.catalog.collection_definition import Definition
from pinakes.catalog.collection_erasing import erase_vectors
from pinakes.catalog.face_collections import Collections
from pinakes.catalog.face_loading import index
from pinakes.catalog.milvus import opened
from tests.drawn_faces import add_faces, identities


def every_byte(folder: Path) -> bytes:
    """All that files below a folder say, that of Parquet files as it reads."""
    found = []
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            found.append(path.read_bytes())
            if path.suffix == ".parquet":
                found.append(str(pq.ParquetFile(path).read().to_pydict()).encode())
    return b"".join(found)


@pytest.mark.parametrize("where", ["lite", "server"])
def test_faces_leave_a_collection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, request: pytest.FixtureRequest
) -> None:
    monkeypatch.setenv("PINAKES_CACHE", str(tmp_path / "cache"))
    place = request.getfixturevalue("milvus") if where == "server" else None
    catalog = Catalog(str(tmp_path / "catalog"), create=True)
    vectors = identities(4, 2)
    ids = add_faces(catalog, [f"file:///{number}.jpg" for number in range(4)], vectors.reshape(4, 2, 128))
    index(catalog, "erased", Definition(milvus=place))
    gone, kept = ids[1], [*ids[0], *ids[2], *ids[3]]
    if where == "lite":
        assert gone[0].encode() in every_byte(tmp_path / "cache")
        assert vectors[2].tobytes() in every_byte(tmp_path / "cache")
    (line,) = erase_vectors(catalog, gone)
    there = Collections(catalog).get("erased")
    with opened(there.milvus_name, there.milvus) as milvus:
        assert sorted(milvus.get([*gone, *kept])) == sorted(kept)
        assert there.faces == milvus.count() == 6
    if where == "lite":
        assert "made anew in Milvus Lite with 6 faces" in line
        left = every_byte(tmp_path / "cache")
        assert gone[0].encode() not in left
        assert vectors[2].tobytes() not in left
        assert kept[0].encode() in left
    else:
        assert "compaction: Completed" in line
