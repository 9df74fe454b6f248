"""Options that several commands have and what they mean, and the codes that all commands end with."""

from enum import IntEnum
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from pinakes.catalog import Catalog


class Exit(IntEnum):
    """Exit codes; 2 is for words that the command line does not know."""

    OK = 0
    CANNOT_RUN = 1
    SOME_FAILED = 3
    INTERRUPTED = 130


CatalogDir = Annotated[
    str | None,
    typer.Option("--catalog", "-c", envvar="PINAKES_CATALOG", help="folder or bucket prefix of the catalogue"),
]
AsJson = Annotated[bool, typer.Option("--json", help="for a script to read")]


def catalog_at(url: str | None) -> "Catalog":
    """The catalogue that --catalog names. Raises SpecError, CatalogError."""
    from pinakes.catalog import Catalog
    from pinakes.jobs.errors import SpecError

    if url is None:
        raise SpecError("name the catalogue: --catalog DIR, or the variable PINAKES_CATALOG")
    return Catalog(url)
