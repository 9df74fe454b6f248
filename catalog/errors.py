"""What can be wrong with a catalogue.

CatalogError
├── NoCatalogError        there is none at that place, or something else is
├── NewerCatalogError     a later Pinakes wrote it
├── CorruptCatalogError   it is there and cannot be read
├── StorageError          the place cannot be written: full, forbidden, unreachable
└── QueryError            a statement that DuckDB refuses
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


class QueryError(CatalogError):
    """A statement cannot be run."""
