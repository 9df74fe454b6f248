"""What can be wrong with a catalogue.

CatalogError
├── NoCatalogError        there is none at that place, or something else is
├── NewerCatalogError     a later Pinakes wrote it
├── CorruptCatalogError   it is there and cannot be read
├── StorageError          the place cannot be written: full, forbidden, unreachable
├── BusyCatalogError      another process is at work in it, which must end first
├── UnknownError          no such face, item, person, run or model is in it
├── AmbiguousError        several persons have that name
├── RemnantError          after a forgetting something was found that should be gone
├── CollectionError       a collection of faces cannot be made, loaded or asked
├── TariffError           a price list is not there, or says what cannot be
├── UsageError            nothing was metered that could be billed
└── QueryError            a statement that DuckDB refuses, or a time that cannot be looked back to
    └── NoTableError      it names a table that is not there
"""


class CatalogError(Exception):
    """Root of what `pinakes.catalog` raises. The message says what failed, where, and what is safe."""


class NoCatalogError(CatalogError):
    """No catalogue at that place."""


class NewerCatalogError(CatalogError):
    """The catalogue's format is of a later version."""


class CorruptCatalogError(CatalogError):
    """A file of the catalogue cannot be read."""


class StorageError(CatalogError):
    """The catalogue cannot be written."""


class CollectionError(CatalogError):
    """A collection of faces is not there, does not fit what was asked, or Milvus refuses it."""


class TariffError(CatalogError):
    """There is no such tariff, or its file cannot be understood."""


class UsageError(CatalogError):
    """No run has recorded what it used."""


class BusyCatalogError(CatalogError):
    """A run and a forgetting cannot be at work in one catalogue at the same time."""


class UnknownError(CatalogError):
    """There is no such face, item, person, run, model or table in the catalogue."""


class AmbiguousError(CatalogError):
    """Several persons of the catalogue have that name: it must be said which is meant."""


class RemnantError(CatalogError):
    """What was forgotten was found in a file of the catalogue."""


class QueryError(CatalogError):
    """A statement cannot be run."""


class NoTableError(QueryError):
    """A statement names a table or view that is not in the catalogue; `tables` are those that it lacks for that."""

    def __init__(self, message: str, tables: tuple[str, ...]) -> None:
        super().__init__(message)
        self.tables = tables
