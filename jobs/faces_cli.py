"""The commands `pinakes faces ...`. Heavy imports are inside the commands."""

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pinakes.jobs.options import AsJson, CatalogDir, Exit, catalog_at
from pinakes.jobs.printing import err, grid, out

if TYPE_CHECKING:
    from pinakes.catalog.collection_definition import Definition
    from pinakes.catalog.face_loading import Loaded

faces_app = typer.Typer(
    help="Find people: collections of faces in Milvus, search, names, and forgetting.", no_args_is_help=True
)

Name = Annotated[str, typer.Argument(metavar="COLLECTION", help="name of the collection")]
Where = Annotated[str | None, typer.Option(help="SQL that a face must meet to be in it")]
Milvus = Annotated[
    str | None,
    typer.Option(help="URI of a Milvus server (its key: $PINAKES_MILVUS_TOKEN); Milvus Lite when not given"),
]
Model = Annotated[str | None, typer.Option(help="model of the vectors; needed only where there are several")]
JobFile = Annotated[Path | None, typer.Option("--job", help="a JOB.yaml, whose section `faces` says all of this")]
Threshold = Annotated[float | None, typer.Option(help="similarity of a match at least, 0 to 1", min=0, max=1)]


@faces_app.command()
def index(
    collection: Name,
    catalog: CatalogDir = None,
    where: Where = None,
    milvus: Milvus = None,
    model: Model = None,
    job: JobFile = None,
    as_json: AsJson = False,
) -> None:
    """Load what is new into a collection, and take out what counts no more; makes it if there is none."""
    from pinakes.catalog.face_loading import index

    _load(index, catalog, collection, _asked(where, milvus, model, job), as_json)


@faces_app.command()
def rebuild(
    collection: Name,
    catalog: CatalogDir = None,
    where: Where = None,
    milvus: Milvus = None,
    model: Model = None,
    job: JobFile = None,
    as_json: AsJson = False,
) -> None:
    """Make a collection anew: of another model, condition, server or index. The old one answers until then."""
    from pinakes.catalog.face_loading import rebuild

    _load(rebuild, catalog, collection, _asked(where, milvus, model, job), as_json)


@faces_app.command()
def collections(catalog: CatalogDir = None, as_json: AsJson = False) -> None:
    """The collections of a catalogue."""
    from pinakes.catalog.face_collections import Collections

    rows = [
        {
            "collection": one.collection,
            "faces": one.faces,
            "left out": one.left_out,
            "model": one.model,
            "where": one.condition,
            "milvus": one.milvus or f"Lite on {one.host}",
            "loaded": one.recorded_at,
        }
        for one in Collections(catalog_at(catalog)).all()
    ]
    if as_json:
        print(json.dumps(rows, default=str))
    elif rows:
        out.print(grid(None, rows))
    else:
        out.print("no collections: `pinakes faces index NAME` makes one", highlight=False)


@faces_app.command()
def describe(collection: Name, catalog: CatalogDir = None, as_json: AsJson = False) -> None:
    """All that is known of a collection."""
    from pinakes.jobs.collection_facts import facts

    found = facts(catalog_at(catalog), collection)
    if as_json:
        print(json.dumps(found, default=str))
    else:
        out.print(grid(None, [{"": name, collection: value} for name, value in found.items()]))


@faces_app.command()
def drop(collection: Name, catalog: CatalogDir = None) -> None:
    """Remove a collection from Milvus. The faces stay in the catalogue."""
    from pinakes.catalog.face_loading import drop

    for remark in drop(catalog_at(catalog), collection):
        _say(remark)
    _say(f"there is no collection {collection} any more; the catalogue still has its faces")


@faces_app.command()
def search(
    collection: Name,
    query: Annotated[str, typer.Argument(metavar="PHOTO|FACE_ID", help="a photo (path or URL), or the id of a face")],
    catalog: CatalogDir = None,
    threshold: Threshold = None,
    limit: Annotated[int, typer.Option(help="matches of each face at most", min=1, max=16383)] = 10,
    where: Annotated[str | None, typer.Option(help="SQL that a match must meet; Milvus sees to it")] = None,
    at: Annotated[str | None, typer.Option(help="of a video the frame of that time: 62.5 or 1:02.5")] = None,
    largest: Annotated[bool, typer.Option("--largest", help="the largest face of the photo only")] = False,
    sheet: Annotated[Path | None, typer.Option(help="draw the face beside its matches: a .png, .jpg or .webp")] = None,
    as_json: AsJson = False,
) -> None:
    """Find the people of a photo in a collection. Every search goes into the table audit."""
    from pinakes.jobs import face_search
    from pinakes.jobs.stills import moment

    there = catalog_at(catalog)
    found = face_search.search(
        there,
        collection,
        query,
        threshold=threshold,
        limit=limit,
        where=where,
        largest=largest,
        at_ms=None if at is None else moment(at),
        report=_say,
    )
    path = face_search.draw(there, found, sheet) if sheet else None
    if as_json:
        print(json.dumps({**found.as_dict(), "sheet": path and str(path)}, default=str))
    else:
        face_search.print_found(found, path)


@faces_app.command()
def compare(
    first: Annotated[str, typer.Argument(metavar="PHOTO", help="its largest face is compared")],
    second: Annotated[str, typer.Argument(metavar="PHOTO", help="with every face of this one")],
    threshold: Threshold = None,
    model: Model = None,
    sheet: Annotated[Path | None, typer.Option(help="draw both beside each other: a .png, .jpg or .webp")] = None,
    as_json: AsJson = False,
) -> None:
    """Say how like the faces of two photos are."""
    from pinakes.jobs import face_search

    found = face_search.compare(first, second, threshold=threshold, model=model, report=_say)
    path = face_search.draw_comparison(found, sheet) if sheet else None
    if as_json:
        print(json.dumps({**found.as_dict(), "sheet": path and str(path)}))
    else:
        face_search.print_comparison(found, path)


@faces_app.command()
def people(
    collection: Name,
    catalog: CatalogDir = None,
    threshold: Threshold = None,
    limit: Annotated[int, typer.Option(help="people that are listed, those with most faces", min=1)] = 20,
    sheet: Annotated[Path | None, typer.Option(help="draw some faces of each: a .png, .jpg or .webp")] = None,
    as_json: AsJson = False,
) -> None:
    """Group the faces of a collection into people, into the table people."""
    from pinakes.jobs import face_people

    there = catalog_at(catalog)
    result, rows = face_people.group(there, collection, threshold, _say)
    path = face_people.draw_people(there, collection, rows, sheet) if sheet else None
    if as_json:
        print(json.dumps({**asdict(result), "rows": rows[:limit], "sheet": path and str(path)}, default=str))
        return
    if rows:
        out.print(grid(None, rows[:limit]))
    words = f"{result.faces:,} faces: {result.people:,} people with two faces or more, {result.alone:,} faces alone"
    out.print(f"{words}, {result.named:,} faces with a name", highlight=False)
    if path:
        out.print(str(path), highlight=False, markup=False)


@faces_app.command()
def name(
    person: Annotated[str, typer.Argument(help="the person's name")],
    faces: Annotated[list[str], typer.Argument(metavar="PHOTO|FACE_ID...", help="photos and ids of faces of theirs")],
    catalog: CatalogDir = None,
    collection: Annotated[str | None, typer.Option(help="needed only where there are several")] = None,
    threshold: Threshold = None,
    as_json: AsJson = False,
) -> None:
    """Name a person by photos of theirs: search and SQL answer with the name from then on."""
    from pinakes.jobs import face_people

    where, found = face_people.name(catalog_at(catalog), person, faces, collection, threshold, _say)
    if as_json:
        print(json.dumps({"collection": where, "name": person, **asdict(found)}))
    else:
        words = f"{found.faces:,} faces of {where} are {person}'s, by {found.references:,} of theirs that were shown"
        out.print(words, highlight=False, markup=False)


@faces_app.command()
def unname(
    person: Annotated[str, typer.Argument(help="the person's name")],
    catalog: CatalogDir = None,
    collection: Annotated[str | None, typer.Option(help="needed only where there are several")] = None,
) -> None:
    """Take a name back. The faces stay."""
    from pinakes.jobs import face_people

    where = face_people.unname(catalog_at(catalog), person, collection, _say)
    _say(f"nobody in {where} is called {person} any more")


@faces_app.command()
def forget(
    catalog: CatalogDir = None,
    person: Annotated[str | None, typer.Option(help="a person, by name or id")] = None,
    collection: Annotated[str | None, typer.Option(help="in which the person is called so")] = None,
    face: Annotated[list[str] | None, typer.Option(help="a face, by id; may be said several times")] = None,
    uri: Annotated[str | None, typer.Option(help="all faces of a picture or video")] = None,
    like: Annotated[str | None, typer.Option(help="all faces like those of a photo", metavar="PHOTO")] = None,
    threshold: Threshold = None,
    yes: Annotated[bool, typer.Option("--yes", help="do not ask")] = False,
    as_json: AsJson = False,
) -> None:
    """Forget faces for good: in all tables, their history, and Milvus. They do not come back with a later run.

    Photos by which the person was named go too if they show the same face, and the name with the last of these. A new
    photo of the same person can not be recognised as theirs: for that a template would have to be kept. Ends with 3
    when a copy in Milvus could not be reached: it says which, and the next forgetting tries again.
    """
    from pinakes.jobs import face_forgetting

    there = catalog_at(catalog)
    wanted = face_forgetting.wanted(
        there,
        person=person,
        collection=collection,
        face_ids=face or (),
        uri=uri,
        photo=like,
        threshold=threshold,
        report=_say,
    )
    if not yes:
        _say(face_forgetting.described(there, wanted))
        typer.confirm("It cannot be undone. Forget?", abort=True, err=True)
    receipt = face_forgetting.forget_faces(there, wanted, _say)
    if as_json:
        print(json.dumps(asdict(receipt)))
    else:
        face_forgetting.print_receipt(receipt, there.url)
    if receipt.not_done:
        raise typer.Exit(Exit.SOME_FAILED)


def _asked(where: str | None, milvus: str | None, model: str | None, job: Path | None) -> "Definition":
    from pinakes.catalog.collection_definition import Definition
    from pinakes.jobs.collection_loader import definition
    from pinakes.jobs.errors import SpecError
    from pinakes.jobs.spec import read_spec

    asked = Definition()
    if job is not None:
        spec = read_spec(job)
        if spec.faces is None:
            raise SpecError(f"{job} has no section `faces`")
        asked = definition(spec.faces)
    return replace(
        asked,
        condition=asked.condition if where is None else where,
        milvus=asked.milvus if milvus is None else milvus,
        model=model,
    )


def _load(
    load: "Callable[..., Loaded]", catalog: str | None, collection: str, asked: "Definition", as_json: bool
) -> None:
    """Index or rebuild, and say how it went."""
    from pinakes.jobs.progress import Progress

    progress = Progress(err)
    with progress.adding("faces") as advance:
        loaded = load(catalog_at(catalog), collection, asked, report=progress.say, advance=advance)
    there = loaded.collection
    if as_json:
        counts = {"faces": there.faces, "added": loaded.added, "removed": loaded.removed, "left_out": loaded.left_out}
        about = {"collection": there.collection, "seconds": loaded.seconds, "remarks": loaded.remarks}
        print(json.dumps({**about, **counts}))
        return
    words = f"{there.faces:,} faces in {there.collection}: {loaded.added:,} added, {loaded.removed:,} removed"
    out.print(f"{words}, in {loaded.seconds:.1f} s", highlight=False, markup=False)
    if loaded.left_out:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in loaded.left_out.items())
        out.print(f"left out by the quality filter: {reasons}", highlight=False, markup=False)
    for remark in loaded.remarks:
        _say(remark)


def _say(message: str) -> None:
    err.print(message, style="dim", highlight=False, markup=False)
