"""What is kept: the commit log, the ledger, the tables, and SQL over them."""

from pinakes.catalog.catalog import Catalog
from pinakes.catalog.errors import CatalogError

__all__ = ["Catalog", "CatalogError"]
