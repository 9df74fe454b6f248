"""The command that compares two runs, models or settings. Heavy imports are inside the command."""

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pinakes.jobs.options import AsJson, CatalogDir, catalog_at
from pinakes.jobs.printing import grid, out

if TYPE_CHECKING:
    from pinakes.catalog.differences import Differences, TableDifference

diff_app = typer.Typer()

_Two = tuple[str, str] | None


@diff_app.command()
def diff(
    runs: Annotated[_Two, typer.Option(help="two runs, by the beginning of their ids", metavar="A B")] = None,
    models: Annotated[_Two, typer.Option(help="two models, as the column model has them", metavar="A B")] = None,
    settings: Annotated[
        _Two, typer.Option(help="two fingerprints: the same model with other settings", metavar="A B")
    ] = None,
    table: Annotated[str | None, typer.Option(help="one table; all that both have filled when not given")] = None,
    moved: Annotated[float, typer.Option(help="a confidence that changes by more has moved", min=0, max=1)] = 0.1,
    limit: Annotated[int, typer.Option(help="so many names and examples of each table", min=1, max=10_000)] = 20,
    catalog: CatalogDir = None,
    as_json: AsJson = False,
) -> None:
    """What appeared, vanished and moved from A to B, over the items that both looked at."""
    from dataclasses import asdict

    from pinakes.catalog.differences import By, differences
    from pinakes.jobs.errors import SpecError

    asked: dict[By, tuple[str, str] | None] = {"runs": runs, "models": models, "settings": settings}
    given = [(by, two) for by, two in asked.items() if two is not None]
    if len(given) != 1:
        raise SpecError("name two runs, models or settings to compare: one of --runs A B, --models A B, --settings A B")
    [(by, (a, b))] = given
    found = differences(catalog_at(catalog), by, a, b, table=table, moved=moved, limit=limit)
    if as_json:
        print(json.dumps(asdict(found)))
    else:
        _print(found)


def _print(found: "Differences") -> None:
    out.print(f"from {found.a}\n  to {found.b}\n", highlight=False, markup=False)
    for one in found.tables:
        _print_table(one, found.moved)


def _print_table(one: "TableDifference", moved: float) -> None:
    rows = f"{one.rows_a:,} rows, then {one.rows_b:,}"
    out.print(f"{one.table}: {one.items:,} items compared, {one.equal:,} of them equal; {rows}", highlight=False)
    changed = [row for row in one.names if row["gained"] or row["lost"] or row["moved"] or row["more_or_fewer"]]
    if not changed:
        return
    has_names = any(row["name"] for row in changed)
    summary = [
        {
            **({"name": row["name"]} if has_names else {}),
            "items gained": row["gained"],
            "items lost": row["lost"],
            **({f"moved by over {moved:g}": row["moved"]} if has_names else {}),
            "more or fewer": row["more_or_fewer"],
            **({"mean change": _signed(row["mean_change"])} if has_names else {}),
            "rows, then": f"{row['rows_a']:,}, {row['rows_b']:,}",
        }
        for row in changed
    ]
    out.print(grid(None, summary))
    if one.names_in_all > len(one.names):
        out.print(f"  {one.names_in_all - len(one.names):,} more names: --limit shows more", highlight=False)
    examples = [
        {
            **({"name": row["name"]} if has_names else {}),
            "change": row["change"],
            "then": f"{_said(row, 'a')}, {_said(row, 'b')}",
            "uri": row["uri"],
        }
        for row in one.examples
    ]
    out.print(grid(None, examples))


def _said(row: dict[str, Any], side: str) -> str:
    """Score and number of rows of a side, for the eye."""
    if not row[f"rows_{side}"]:
        return "-"
    times = f" x {row[f'rows_{side}']}" if row[f"rows_{side}"] > 1 else ""
    return f"{row[f'rows_{side}']:,} rows" if row[side] is None else f"{row[side]:.2f}{times}"


def _signed(value: float | None) -> str:
    return "" if value is None else f"{value:+.3f}"
