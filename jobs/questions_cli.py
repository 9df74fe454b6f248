"""Commands that ask a catalogue: what it holds, and any question in SQL. Heavy imports are inside the commands."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pinakes.jobs.options import AsJson, CatalogDir, catalog_at
from pinakes.jobs.printing import cell, err, grid, out

if TYPE_CHECKING:
    import pyarrow as pa

questions_app = typer.Typer()


@questions_app.command()
def status(catalog: CatalogDir = None, as_json: AsJson = False) -> None:
    """Runs, tables, rows, and failures by code."""
    from pinakes.catalog.status import status as catalog_status

    found = catalog_status(catalog_at(catalog))
    if as_json:
        print(json.dumps(found, default=str))
        return
    out.print(f"catalogue {found['catalog']}\n", highlight=False, markup=False)
    for title in ("tables", "runs", "failures"):
        if found[title]:
            out.print(grid(title, found[title]))
    if not found["failures"]:
        out.print("no failures")


@questions_app.command()
def sql(
    query: Annotated[str, typer.Argument(help="a DuckDB query over the tables and views that `pinakes tables` lists")],
    catalog: CatalogDir = None,
    at: Annotated[
        str | None,
        typer.Option(help="as it was after that commit, or at that time (2026-05-01T12:30, UTC)", metavar="N|TIME"),
    ] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="comma-separated values")] = False,
    as_json: AsJson = False,
    output: Annotated[Path | None, typer.Option(help="write the answer to a .parquet file")] = None,
) -> None:
    """Ask a question of the tables."""
    import pyarrow.csv
    import pyarrow.parquet

    from pinakes.catalog.errors import NoTableError, QueryError
    from pinakes.jobs.tables import filled_by

    try:
        answer = catalog_at(catalog).sql(query, at=at)
    except NoTableError as error:
        filling = [f"{table} is filled by {by}" for table in error.tables if (by := filled_by(table))]
        raise QueryError(
            f"{error}: {'; '.join(filling) or '`pinakes tables --catalog ...` lists those there are'}"
        ) from None
    # Of two columns of one name a row would keep the last.
    answer = answer.rename_columns(_apart(answer.column_names))
    if output is not None:
        pyarrow.parquet.write_table(answer, output)
        err.print(f"{answer.num_rows:,} rows in {output}", highlight=False, markup=False)
    elif as_csv:
        flat = [
            column if _is_flat(column.type) else [cell(value) for value in column.to_pylist()]
            for column in answer.columns
        ]
        pyarrow.csv.write_csv(pyarrow.table(flat, names=answer.column_names), sys.stdout.buffer)
    elif as_json:
        for row in answer.to_pylist():
            print(json.dumps(row, default=str, ensure_ascii=False))
    else:
        out.print(grid(None, answer.to_pylist(), answer.column_names))


@questions_app.command()
def tables(
    name: Annotated[str | None, typer.Argument(help="a table or view; all, in short, when not given")] = None,
    catalog: CatalogDir = None,
    as_json: AsJson = False,
) -> None:
    """The tables and views: what a row is, the columns, their types, units and meaning.

    All that there can be, or with --catalog those of a catalogue, with their rows.
    """
    from dataclasses import asdict

    from pinakes.jobs.errors import SpecError
    from pinakes.jobs.tables import describe

    every = describe(None if catalog is None else catalog_at(catalog))
    found = [one for one in every if name in (None, one.name)]
    if not found:
        raise SpecError(f"there is no table or view {name}; there are: {', '.join(one.name for one in every)}")
    if as_json:
        print(json.dumps([asdict(one) for one in found], ensure_ascii=False))
    elif name is not None:
        (one,) = found
        rows = "" if one.rows is None else f"; {one.rows:,} rows"
        out.print(f"{one.name}: {one.a_row_is}{rows}", highlight=False, markup=False)
        out.print(grid(None, [asdict(column) for column in one.columns]))
    else:
        counted = [] if catalog is None else ["rows"]
        shown = [{"name": one.name, "a row is": one.a_row_is, "from": one.filled_by, "rows": one.rows} for one in found]
        out.print(grid(None, shown, ["name", *counted, "a row is", "from"]))


def _is_flat(kind: "pa.DataType") -> bool:
    import pyarrow as pa

    return not (pa.types.is_nested(kind) or pa.types.is_interval(kind))


def _apart(names: list[str]) -> list[str]:
    """The names, with a number behind those that have stood before."""
    seen: dict[str, int] = {}
    found = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        found.append(name if seen[name] == 1 else f"{name}_{seen[name] - 1}")
    return found
