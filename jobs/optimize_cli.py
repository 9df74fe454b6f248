"""The command that keeps a catalogue small and quick. Heavy imports are inside the command."""

import json
from typing import TYPE_CHECKING, Annotated

import typer

from pinakes.jobs.options import AsJson, CatalogDir, catalog_at
from pinakes.jobs.printing import err, grid, out

if TYPE_CHECKING:
    from pinakes.catalog.optimizing import Optimized

optimize_app = typer.Typer()

_WHY = {
    "attempt": "of an item and settings, before the last attempt",
    "version": "of an older version of a file",
    "settings": "with other settings or models than those that count now",
    "left": "of an optimizing that was killed",
}


@optimize_app.command()
def optimize(
    catalog: CatalogDir = None,
    drop_superseded: Annotated[
        bool,
        typer.Option(
            "--drop-superseded",
            help="drop answers with other settings or models than those that count as well: a run that asks for these "
            "again will look again, at the price of the first time",
        ),
    ] = False,
    keep_history: Annotated[
        float,
        typer.Option(
            help="remove files that were replaced so many days ago or earlier; who reads an older state needs them",
            metavar="DAYS",
            min=0,
            max=180,
        ),
    ] = 7,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="say what it would do, and change nothing")] = False,
    as_json: AsJson = False,
) -> None:
    """Drop superseded rows, put small parts together, remove replaced files; also beside a running job."""
    from dataclasses import asdict

    from pinakes.catalog.optimizing import optimize as optimize_catalog
    from pinakes.jobs.progress import Progress

    with Progress(err).moving() as moving:
        done = optimize_catalog(
            catalog_at(catalog),
            drop_superseded=drop_superseded,
            keep_days=keep_history,
            dry_run=dry_run,
            watching=moving,
        )
    if as_json:
        print(json.dumps(asdict(done)))
    else:
        _print(done)


def _print(done: "Optimized") -> None:
    rows = [
        {
            "table": one.table,
            "parts before": one.parts_before,
            "parts": one.parts,
            "rows dropped": one.rows_dropped,
            "MB before": one.bytes_before / 1e6,
            "MB": one.bytes / 1e6,
            "MB freed": one.freed_bytes / 1e6,
        }
        for one in done.tables
    ]
    columns = [name for name in rows[0] if not (done.dry_run and name == "MB")]
    out.print(grid("what it would do; nothing was changed" if done.dry_run else None, rows, columns))
    for why, count in done.looks.items():
        out.print(f"{count:,} looks {_WHY[why]}: {'would be dropped' if done.dry_run else 'dropped'}", highlight=False)
    if done.kept_looks:
        out.print(
            f"{done.kept_looks:,} looks {_WHY['settings']} stay, for a run that goes back to these: --drop-superseded "
            "drops them",
            highlight=False,
        )
    for remark in done.remarks:
        out.print(remark, highlight=False, markup=False)
