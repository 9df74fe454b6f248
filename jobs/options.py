"""Options that several commands have, and what they mean."""

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from pinakes.catalog import Catalog

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
