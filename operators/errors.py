"""What can be wrong with an item or a model.

OperatorError
├── MediaError          one item cannot be looked at; becomes a ledger row with `code`
├── DownloadError       a file cannot be fetched, or is not the one on record
├── ModelError          a model file is missing, unreachable or not the one on record
└── ConfigError         an operator's name or one of its settings is unknown or out of range
"""

from enum import StrEnum


class ErrorCode(StrEnum):
    """Why an item has no result: the `error_code` of the ledger."""

    NOT_MEDIA = "not_media"  # neither its name nor its content claims to be a picture (status: skipped)
    UNSUPPORTED_FORMAT = "unsupported_format"  # media that is not read, or a file that is not what its name says
    EMPTY = "empty"  # zero bytes
    TRUNCATED = "truncated"  # the file ends before the picture does
    CORRUPT = "corrupt"  # the decoder refuses it
    TOO_MANY_PIXELS = "too_many_pixels"
    TOO_LARGE = "too_large"  # in bytes
    NOT_FOUND = "not_found"
    PERMISSION_DENIED = "permission_denied"
    UNREACHABLE = "unreachable"  # time-out, throttling, connection: worth trying again
    BAD_NAME = "bad_name"  # a file name that is not text
    BAD_MANIFEST_LINE = "bad_manifest_line"
    TIME_LIMIT = "time_limit"  # looking at it took longer than the job allows
    CRASHED = "crashed"  # the process died on it, alone, a second time
    OUT_OF_MEMORY = "out_of_memory"
    OPERATOR_FAILED = "operator_failed"  # the operator raised on this picture

    @property
    def transient(self) -> bool:
        """Whether the next `run` should try again unasked."""
        return self is ErrorCode.UNREACHABLE


class OperatorError(Exception):
    """Root of what `pinakes.operators` raises."""


class MediaError(OperatorError):
    """One item cannot be looked at. `code` goes to the ledger with the message."""

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.code = code


class ModelError(OperatorError):
    """A model cannot be had, or is not the one on record."""


class DownloadError(OperatorError):
    """A file cannot be fetched, or what came is not the one on record."""


class ConfigError(OperatorError):
    """An unknown operator, or a setting it does not have or cannot take."""
