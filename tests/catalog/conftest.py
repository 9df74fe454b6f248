"""One Milvus server for the tests of this folder."""

import pinakes.catalog.milvus  # noqa: F401  (before pymilvus: it tells gRPC to keep out of forks)
from tests.milvus_server import milvus

__all__ = ["milvus"]
