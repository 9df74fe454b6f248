"""One S3 server for all tests."""

from tests.s3 import s3, s3_server

__all__ = ["s3", "s3_server"]
