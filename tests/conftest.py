"""Fixtures that tests of several folders share: one of each in a session."""

from tests.milvus_server import milvus

__all__ = ["milvus"]
