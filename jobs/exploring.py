"""A catalogue for who explores it: answers for pandas and Polars, tables as attributes, pictures; shown by notebooks.

>>> from pinakes.jobs import Catalog
>>> cat = Catalog("catalog/")  # doctest: +SKIP
>>> cat.sheet("SELECT uri FROM latest_objects WHERE name = 'dog'")  # doctest: +SKIP
"""

from base64 import b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from html import escape
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
from PIL import Image

from pinakes import catalog
from pinakes.catalog.sql import connect
from pinakes.jobs.choosing import Chosen, by_uris
from pinakes.jobs.display import arrow_html, readable_answers, table_html
from pinakes.jobs.errors import SpecError
from pinakes.jobs.listing import source_url
from pinakes.jobs.sheet import Cell, Sheet, caption_of, pictures, query_sheet
from pinakes.jobs.show import annotate, as_jpeg

#: Pictures that are shown at once in their full size, some 0.4 MB each; a sheet has more.
MOST_PICTURES = 24
#: Rows of a table that a notebook shows.
HEAD = 10

Frames = Literal["arrow", "pandas", "polars"]


class Catalog(catalog.Catalog):
    """A catalogue, with its tables as attributes: `cat.labels` are the current rows of labels.

    In a notebook it shows its tables, an answer its first rows, and sheets and pictures themselves. Raises what
    `pinakes.catalog.Catalog` raises.
    """

    def __init__(self, url: str | Path, create: bool = False) -> None:
        super().__init__(str(url), create)
        readable_answers()

    def sql(self, query: str, at: int | str | datetime | None = None, as_: Frames = "arrow") -> Any:
        """The answer to a DuckDB query over the tables and views: a pyarrow.Table, or a pandas or Polars DataFrame.

        With `at` of the tables as they were after that commit, or at that time. Raises QueryError; and
        ModuleNotFoundError where pandas or polars is asked for and is not installed.
        """
        return _framed(super().sql(query, at), as_)

    def show(self, uris: str | Path | Iterable[Any]) -> "Pictures":
        """The pictures of those items, a frame of a video, with what the tables say was found drawn on them.

        No model looks at anything: `pinakes.jobs.show.show` does that. One that is gone, cannot be read, or is not
        the one that was looked at, says so. Raises SpecError for more than MOST_PICTURES, QueryError for an item that
        is not in the catalogue.
        """
        wanted = [uris] if isinstance(uris, str | Path) else list(uris)
        if len(wanted) > MOST_PICTURES:
            raise SpecError(f"{len(wanted):,} pictures are too many to show at once: up to {MOST_PICTURES}, or a sheet")
        return Pictures(tuple(map(_large, by_uris(self, [source_url(str(one)) for one in wanted]))))

    def sheet(self, query: str, count: int = 60) -> Sheet:
        """A contact sheet of the first `count` (up to 400) items that a query returns in its column `uri`.

        With a column `frame_ms`, frames of videos are pictures of their own. Raises QueryError.
        """
        return query_sheet(self, query, count)

    def __getattr__(self, name: str) -> "Rows":
        # Programs ask for many names that begin so, to see what they have before them.
        if not name.startswith("_"):
            there = self._views()
            for view in (f"latest_{name}", name):
                if view in there:
                    return Rows(self, view)
            said = f"there is no table {name!r} in {self.url}; there are: {', '.join(self.tables())}"
            raise AttributeError(said, name=name, obj=self)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self.tables()})

    def __repr__(self) -> str:
        return f"Catalog({self.url!r})"

    def _repr_html_(self) -> str:
        rows = [{"table": one.name, "rows": one.rows, "MB": one.bytes / 1e6} for one in self.table_status()]
        return table_html(
            pa.Table.from_pylist(rows),
            above=f"the catalogue {self.url}",
            below="with superseded rows; cat.NAME has the current ones of a table",
        )

    def _views(self) -> set[str]:
        with connect(self) as connection:
            return {name for (name,) in connection.execute("SELECT view_name FROM duckdb_views()").fetchall()}


class Rows:
    """The current rows of a table, or all of one of the catalogue's own: none is read before it is asked for.

    A notebook shows the first ones and how many there are. `view` is the name in SQL.
    """

    def __init__(self, catalog: Catalog, view: str) -> None:
        self.view = view
        self._catalog = catalog
        self._from = 'FROM "' + view.replace('"', '""') + '"'

    def head(self, rows: int = HEAD) -> pa.Table:
        """That many of them."""
        return self._catalog.sql(f"{self._from} LIMIT {int(rows)}")

    def count(self) -> int:
        """How many there are."""
        return int(self._catalog.sql(f"SELECT count(*) AS rows {self._from}")["rows"][0].as_py())

    def to_arrow(self) -> pa.Table:
        """All of them, in memory."""
        return self._catalog.sql(self._from)

    def to_pandas(self) -> Any:
        """All of them as a pandas.DataFrame. Raises ModuleNotFoundError."""
        return self._catalog.sql(self._from, as_="pandas")

    def to_polars(self) -> Any:
        """All of them as a polars.DataFrame. Raises ModuleNotFoundError."""
        return self._catalog.sql(self._from, as_="polars")

    def __repr__(self) -> str:
        return f"<the rows of {self.view}: .head(), .count(), .to_arrow(), .to_pandas(), .to_polars()>"

    def _repr_html_(self) -> str:
        head, count = self.head(), self.count()
        if head.num_rows == count:
            return arrow_html(head)
        below = f"some of the {count:,} rows of {self.view}; to_arrow(), to_pandas() and to_polars() have them all"
        return table_html(head, below=below)


@dataclass(frozen=True, repr=False)
class Pictures:
    """Pictures with what was found drawn on them, which a notebook shows one below the other."""

    cells: tuple[Cell, ...]

    def __repr__(self) -> str:
        return f"<pictures of {', '.join(one.uri for one in self.cells)}>"

    def _repr_html_(self) -> str:
        return "".join(map(_figure, self.cells))


def _framed(answer: pa.Table, as_: Frames) -> Any:
    if as_ == "arrow":
        return answer
    if as_ not in ("pandas", "polars"):
        raise SpecError(f"an answer comes as arrow, pandas or polars, not as {as_!r}")
    try:
        package = import_module(as_)
    except ModuleNotFoundError as error:
        if error.name != as_:
            raise
        raise ModuleNotFoundError(f"as_={as_!r} takes the package {as_}: pip install {as_}", name=as_) from None
    return answer.to_pandas() if as_ == "pandas" else package.from_arrow(answer)


def _large(one: Chosen) -> Cell:
    ((pixels, why),) = pictures(one.uri, one.content_id, [one.frame_ms])
    picture = None if pixels is None else annotate(Image.fromarray(pixels), one.found)
    return Cell(one.uri, caption_of(one), picture, why, one.found, one.frame_ms)


def _figure(cell: Cell) -> str:
    title, caption = escape(cell.uri, quote=True), escape(cell.caption)
    if cell.picture is None:
        return f'<p title="{title}">{caption}: {escape(cell.why or "")}</p>'
    data = b64encode(as_jpeg(cell.picture)).decode()
    return (
        f'<figure style="margin: 0 0 1em" title="{title}"><img style="max-width: 100%" alt="" '
        f'src="data:image/jpeg;base64,{data}"><figcaption>{caption}</figcaption></figure>'
    )
