"""The command `pinakes`: a thin wrapper of the library. Heavy imports are inside the commands."""

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pinakes.jobs.cost_cli import cost_app
from pinakes.jobs.diff_cli import diff_app
from pinakes.jobs.faces_cli import faces_app
from pinakes.jobs.optimize_cli import optimize_app
from pinakes.jobs.options import AsJson, CatalogDir, Exit, catalog_at
from pinakes.jobs.printing import err, grid, out, print_plan, print_run
from pinakes.jobs.questions_cli import questions_app

if TYPE_CHECKING:
    from pinakes.jobs.summary import RunSummary


app = typer.Typer(
    name="pinakes",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
    help="Catalogue archives of images: what is in every picture, as Delta tables.\n\n"
    "Exit codes: 0 all well, or stopped at the job's budget, 1 could not run or go on, 2 unknown words, "
    "3 some items failed, 130 interrupted.",
)
models_app = typer.Typer(help="The models: what they are, and fetching them.", invoke_without_command=True)
app.add_typer(models_app, name="models")
app.add_typer(faces_app, name="faces")
app.add_typer(questions_app)
app.add_typer(optimize_app)
app.add_typer(diff_app)
app.add_typer(cost_app)

Source = Annotated[
    str, typer.Argument(help="folder, any fsspec URL, glob, manifest (.jsonl, .csv, .parquet) or JOB.yaml")
]
Operators = Annotated[
    str | None, typer.Option(help="names with commas between; every one that needs no settings when not given")
]
Workers = Annotated[int | None, typer.Option(help="processes that look; one per free core when not given", min=1)]
Device = Annotated[
    str | None,
    typer.Option(help="what models of one's own run on: cpu, cuda, or auto (a GPU if there is one), the default"),
]


@app.command()
def run(
    source: Source,
    catalog: CatalogDir = None,
    operators: Operators = None,
    workers: Workers = None,
    device: Device = None,
    as_json: AsJson = False,
) -> None:
    """Look at what is new or changed, and write what was seen.

    A job's budget is for one run: it stops there, with exit code 0, and the next run goes on.
    """
    from pinakes.jobs import running
    from pinakes.jobs.progress import Progress

    progress = Progress(err)
    summary = running.run(source, catalog, _names(operators), workers=workers, device=device, progress=progress)
    _end(summary, as_json)


@app.command()
def retry(
    source: Annotated[
        str | None, typer.Argument(help="as for run; that of the catalogue's last run when not given")
    ] = None,
    catalog: CatalogDir = None,
    operators: Operators = None,
    workers: Workers = None,
    device: Device = None,
    as_json: AsJson = False,
) -> None:
    """Look again at what failed, and at nothing else."""
    from pinakes.jobs import running
    from pinakes.jobs.progress import Progress

    progress = Progress(err)
    summary = running.retry(source, catalog, _names(operators), workers=workers, device=device, progress=progress)
    _end(summary, as_json)


@app.command()
def plan(
    source: Source,
    catalog: CatalogDir = None,
    operators: Operators = None,
    workers: Workers = None,
    device: Device = None,
    tariff: Annotated[
        str, typer.Option(help="what the cost is by: a tariff's name, or the path of one of your own", metavar="NAME")
    ] = "own",
    no_sample: Annotated[
        bool, typer.Option("--no-sample", help="look at none of the items to tell the time and the cost")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Say what a run would do, how long it would take and what it would cost.

    Changes nothing; models that are not here are fetched, with --no-sample those of one's own alone.
    """
    from dataclasses import asdict

    from pinakes.jobs import running
    from pinakes.jobs.progress import Progress

    where = {"workers": workers, "device": device}
    progress = Progress(err)
    found = running.plan(
        source, catalog, _names(operators), progress=progress, sample=not no_sample, tariff=tariff, **where
    )
    if as_json:
        print(json.dumps(asdict(found)))
        return
    print_plan(found)


@app.command()
def show(
    uri: Annotated[
        str | None, typer.Argument(help="a picture or a video: a path or any fsspec URL; or else give --grid")
    ] = None,
    operators: Operators = None,
    job: Annotated[Path | None, typer.Option(help="a JOB.yaml, whose operators look, with their settings")] = None,
    output: Annotated[Path | None, typer.Option(help="the .png, .jpg or .webp to write")] = None,
    as_json: AsJson = False,
    at: Annotated[
        str | None, typer.Option(help="of a video the one frame on show at that time: 62.5 or 1:02.5", metavar="TIME")
    ] = None,
    count: Annotated[
        int | None,
        typer.Option(
            "--grid",
            help="a sheet of up to that many pictures of the catalogue; of a video, of so many frames, 20 of them when "
            "not given",
            min=1,
            max=400,
        ),
    ] = None,
    where: Annotated[str | None, typer.Option(help="for --grid: an SQL condition on the rows of --from")] = None,
    table: Annotated[str | None, typer.Option("--from", help="for --grid: a table; media when not given")] = None,
    catalog: CatalogDir = None,
) -> None:
    """Draw on a picture what is in it, or on frames of a video; or a contact sheet of a catalogue."""
    from pinakes.jobs import showing
    from pinakes.jobs.errors import SpecError

    if uri is None and count is None:
        raise SpecError("name one picture or video, or with --grid how many pictures of a catalogue")
    if uri is not None:
        if where is not None or table is not None:
            raise SpecError("--where and --from choose pictures of a catalogue: they go with --grid")
        if not showing.item(uri, at, count, _names(operators), job, output, as_json):
            raise typer.Exit(Exit.SOME_FAILED)
    elif count is not None:
        if operators is not None or job is not None or at is not None:
            raise SpecError(
                "a sheet shows what the catalogue's tables say: with --grid alone go no --operators, --job or --at"
            )
        showing.sheet(catalog_at(catalog), count, where, table or "media", output, as_json)


@models_app.callback()
def models(context: typer.Context, as_json: AsJson = False) -> None:
    """The models: task, size, licence, whether they are here."""
    if context.invoked_subcommand:
        return
    from pinakes.operators import models as registry

    rows = [
        {
            "model": entry.name,
            "task": entry.task,
            "MB": round(entry.bytes / 1e6, 1),
            "licence": entry.licence,
            "here": "yes" if registry.is_here(entry.name) else "no",
            "quality": entry.quality,
        }
        for entry in registry.entries()
    ]
    print(json.dumps(rows)) if as_json else out.print(grid("models", rows))


@models_app.command("pull")
def models_pull(
    names: Annotated[
        list[str] | None, typer.Argument(help="models on record (every one when not given), hub ids, folders or URLs")
    ] = None,
    to: Annotated[Path | None, typer.Option(help="the folder to copy a model into that is not on record")] = None,
    revision: Annotated[str | None, typer.Option(help="branch, tag or commit of a model on the hub")] = None,
) -> None:
    """Fetch models: those on record, checked against their hashes, and any of the Hugging Face hub."""
    from pinakes.jobs.errors import SpecError
    from pinakes.operators import hub
    from pinakes.operators import models as registry
    from pinakes.operators.errors import ModelError

    on_record = [entry.name for entry in registry.entries()]
    others = [name for name in names or () if name not in on_record]
    if (to or revision) and (len(names or ()) != 1 or not others):
        raise SpecError("--to and --revision go with one model that is not on record, by its id on the hub")
    folders = registry.pull_all([name for name in names or on_record if name not in others], report=_say)
    for name in others:
        try:
            folders.append(hub.pull(name, revision, to, report=_say))
        except ModelError as error:
            if "/" in name or Path(name).exists():
                raise
            raise ModelError(f"there is no model {name!r} on record; of the hub, {error}") from error  # a slip, mostly
    for folder in folders:
        out.print(str(folder), highlight=False, markup=False)


def main() -> None:
    """Run the command line."""
    sys.exit(guarded(lambda: app(standalone_mode=False)))


def guarded(command: Callable[[], int | None]) -> int:
    """The exit code of a command; one line and no traceback for what goes wrong."""
    # A scheduler's polite end is as good as Ctrl-C: what is finished is committed.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        # Outside its standalone mode typer returns the code of a typer.Exit.
        return command() or Exit.OK
    except KeyboardInterrupt:
        _say("interrupted: what was committed is safe; run again to go on")
        return Exit.INTERRUPTED
    except Exception as error:
        return _failed(error)


def _failed(error: Exception) -> int:
    if isinstance(error, typer.Abort):
        return Exit.INTERRUPTED
    if isinstance(error, BrokenPipeError):
        return Exit.OK
    if hasattr(error, "format_message") and hasattr(error, "ctx"):  # a usage error of typer's; its class is private
        said = error.format_message()
        # The help itself, for no words at all, is as long as it is.
        line = (
            said
            if "\n" in said
            else f"pinakes: {said} See `{error.ctx.command_path if error.ctx else 'pinakes'} --help`"
        )
        err.print(line, style=None if "\n" in said else "red", highlight=False, markup=False)
        return 2
    # Heavy modules are imported by now, if it was they that raised.
    from pinakes.catalog.errors import CatalogError
    from pinakes.cluster.errors import ClusterError
    from pinakes.jobs.errors import JobError, SpecError
    from pinakes.operators.errors import ConfigError, OperatorError

    if not isinstance(error, (CatalogError, ClusterError, JobError, OperatorError, OSError)):
        if os.environ.get("PINAKES_TRACEBACK"):
            raise error
        _say("this is a fault of pinakes itself; with PINAKES_TRACEBACK=1 it says where")
        error = RuntimeError(f"{type(error).__name__}: {error}")
    err.print(f"pinakes: {error}", style="red", highlight=False, markup=False)
    return 2 if isinstance(error, (SpecError, ConfigError)) else Exit.CANNOT_RUN


def _names(operators: str | None) -> list[str] | None:
    return None if operators is None else [name.strip() for name in operators.split(",") if name.strip()]


def _say(message: str) -> None:
    err.print(message, style="dim", highlight=False, markup=False)


def _end(summary: "RunSummary", as_json: bool) -> None:
    if as_json:
        print(json.dumps(summary.as_dict()))
    else:
        print_run(summary)
    if summary.status == "interrupted":
        raise typer.Exit(Exit.INTERRUPTED)
    if summary.total("failed") or (summary.collection and summary.collection["error"]):
        raise typer.Exit(Exit.SOME_FAILED)


if __name__ == "__main__":
    main()
