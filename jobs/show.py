"""One picture shown: fetched, looked at in this process, and drawn on. Videos are shown by show_video.py."""

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
from PIL import Image

from pinakes.jobs.drawing import draw_findings
from pinakes.jobs.errors import SpecError
from pinakes.jobs.fetch import fetch
from pinakes.jobs.findings import Finding, findings, without_vectors
from pinakes.jobs.lettering import Letters
from pinakes.jobs.listing import source_url
from pinakes.jobs.look import Limits
from pinakes.jobs.panel import with_panel
from pinakes.jobs.spec import JobSpec, read_spec
from pinakes.jobs.stills import clock
from pinakes.operators.decode import decode, single_thread
from pinakes.operators.errors import ErrorCode, MediaError
from pinakes.operators.operator import Operator, Picture, by_default, create

#: Those of a run that is not told otherwise.
LIMITS = Limits(
    max_pixels=int(JobSpec.model_fields["max_megapixels"].default * 1e6),
    max_bytes=int(JobSpec.model_fields["max_megabytes"].default * 1e6),
)

#: The formats that pictures are written in, by the ending of the file's name.
FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}

#: A picture whose long side is less is shown enlarged to it: titles would hide a smaller one.
SMALLEST = 640


@dataclass(repr=False)
class Shown:
    """A picture, or a frame, with what was found in it; its long side is under 1920 pixels, the panel not counted.

    A notebook shows it.
    """

    uri: str
    image: Image.Image
    tables: dict[str, pa.Table]  # the operators' own columns
    errors: dict[str, str] = field(default_factory=dict)  # why an operator could not look, by its name
    frame_ms: int | None = None  # of a frame of a video

    @property
    def findings(self) -> list[Finding]:
        return findings(self.tables)

    def __repr__(self) -> str:
        return f"<{self.uri}, shown>"

    def _repr_jpeg_(self) -> bytes:
        return as_jpeg(self.image)

    def as_dict(self) -> dict[str, Any]:
        """All of it for a script, vectors and pixels left out."""
        frame = {} if self.frame_ms is None else {"frame_ms": self.frame_ms, "time": clock(self.frame_ms)}
        return {"uri": self.uri, **frame, "tables": as_lists(self.tables), "errors": self.errors}


def show(
    uri: str | Path,
    operators: Sequence[str | Operator] | None = None,
    *,
    report: Callable[[str], None] = lambda message: None,
) -> Shown:
    """Look at one picture, anywhere fsspec reaches, and draw what was seen.

    `operators` are names, or operators as they are; every one that needs no settings when not given. Those that look
    only at videos are left out. Models that lack are fetched, and `report` is told. An operator that raises is in
    `errors`, and costs the others nothing.

    Raises MediaError: the picture cannot be fetched or decoded; ConfigError, ModelError, SourceError, SpecError.
    """
    made = created(operators, "image", report)
    url = source_url(str(uri))
    picture = _picture(url)
    load(made, report)
    tables, errors = look(made, picture)
    return Shown(url, annotate(Image.fromarray(picture.pixels), findings(tables)), tables, errors)


def operators_of(job: Path, names: Sequence[str] | None = None) -> list[Operator]:
    """The operators of a job file with its settings: all of them, or those named. Raises SpecError, ConfigError."""
    settings = read_spec(job).operators or {name: {} for name in by_default()}
    return [create(name, settings.get(name)) for name in (settings if names is None else names)]


def created(
    operators: Sequence[str | Operator] | None, media_type: str, report: Callable[[str], None]
) -> list[Operator]:
    """Of those operators the ones that can look at a single picture of that type, not loaded yet.

    `report` is told of those that were asked for and are left out. Raises ConfigError, and SpecError if all are.
    """
    wanted = by_default() if operators is None else operators
    made = [one if isinstance(one, Operator) else create(one) for one in dict.fromkeys(wanted)]
    # What is only for videos is about more than one frame.
    able = [
        one for one in made if {"image", media_type} <= set(one.media_types) and one.sees in ("pictures", "container")
    ]
    others = ", ".join(one.name for one in made if one not in able)
    if made and not able:
        raise SpecError(f"on a single picture there is nothing to see for the operators {others}")
    if others and operators is not None:
        report(f"left out, for a single picture is not enough for them: {others}")
    return able


def load(operators: Sequence[Operator], report: Callable[[str], None]) -> None:
    """Ready to look in this process. Raises ConfigError, ModelError."""
    for operator in operators:
        operator.resolve("cpu", report)
        operator.fetch("cpu", report)
        operator.load()


def look(operators: Sequence[Operator], picture: Picture) -> tuple[dict[str, pa.Table], dict[str, str]]:
    """By table the operators' own columns of what they found; and by operator why one could not look."""
    tables: dict[str, list[pa.Table]] = {}
    errors = {}
    for operator in operators:
        try:
            rows = operator.look([picture])
            found = {table: rows[table].select(own.names).cast(own) for table, own in operator.tables.items()}
        except Exception as error:  # an operator may be anyone's code
            errors[operator.name] = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            continue
        for table, more in found.items():
            tables.setdefault(table, []).append(more)
    return {table: pa.concat_tables(rows) for table, rows in tables.items()}, errors


def as_lists(tables: Mapping[str, pa.Table]) -> dict[str, list[dict[str, Any]]]:
    """The rows for a script, without vectors."""
    return {table: without_vectors(rows).to_pylist() for table, rows in tables.items()}


def annotate(picture: Image.Image, found: Sequence[Finding]) -> Image.Image:
    """The picture, RGB and upright, with all that was found drawn on it or written in a panel to its right.

    It keeps its size, but for a small one (see SMALLEST).
    """
    scale = max(1.0, SMALLEST / max(picture.size))
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    picture = picture.resize(size, Image.Resampling.BICUBIC) if scale > 1 else picture.copy()
    letters = Letters(max(14, round(max(picture.size) / 75)))
    numbered = draw_findings(picture, found, letters, numbers=True)
    return with_panel(picture, found, numbered, letters)


def output_path(output: str | Path | None, default: str) -> Path:
    """Where to write, checked before any work is done.

    Raises SpecError for an ending that names no format that is written, and for a folder that is not there.
    """
    path = Path(default if output is None else output)
    if path.suffix.lower() not in FORMATS:
        raise SpecError(f"{path}: pictures are written as {', '.join(FORMATS)}; let the name end so")
    if not path.parent.is_dir():
        raise SpecError(f"{path}: there is no folder {path.parent}")
    return path


def default_name(uri: str, at_ms: int | None = None) -> str:
    """The name, in the current folder, of a shown picture that was given none; of a frame with its time."""
    stem = PurePosixPath(uri.split("?", 1)[0].rstrip("/")).stem if "://" in uri else Path(uri).stem
    when = "" if at_ms is None else f"-at-{at_ms / 1000:.15g}"
    return f"{stem or 'picture'}{when}-shown.png"


def refuse_to_overwrite(path: Path, uri: str) -> None:
    """Raises SpecError when what is to be written would take the place of what is at `uri`, a local file."""
    source = Path(source_url(uri).removeprefix("file://"))
    if path.exists() and source.exists() and path.samefile(source):
        raise SpecError(f"{path} is the picture itself: give --output another name; nothing was written")


def save(image: Image.Image, path: Path) -> None:
    """Write it as the name's ending says. Raises OSError."""
    out = io.BytesIO()
    image.save(out, FORMATS[path.suffix.lower()], quality=90)
    path.write_bytes(out.getvalue())


def as_jpeg(image: Image.Image) -> bytes:
    """For a notebook: photos are a fifth as large so as PNG."""
    out = io.BytesIO()
    image.save(out, "JPEG", quality=88)
    return out.getvalue()


def _picture(url: str) -> Picture:
    single_thread()
    data = fetched(url)
    pixels, facts = decode(data, name=url, max_pixels=LIMITS.max_pixels)
    return Picture(pixels, facts)


def fetched(url: str) -> bytes:
    """The file there; what is wrong with it is said with its name. Raises MediaError."""
    try:
        return fetch(url, LIMITS.max_bytes)
    except MediaError as error:
        said = "there is no such file" if error.code is ErrorCode.NOT_FOUND else str(error)
        raise MediaError(error.code, f"{url}: {said}") from None
