"""The command `pinakes show`: which of its three kinds of picture is wanted, where it goes, and what is said of it."""

import json
from pathlib import Path

from pinakes.catalog import Catalog
from pinakes.jobs.errors import SpecError
from pinakes.jobs.lettering import clean, lacking
from pinakes.jobs.printing import err, grid, out, print_shown
from pinakes.jobs.progress import Progress
from pinakes.jobs.sheet import contact_sheet
from pinakes.jobs.show import Shown, default_name, operators_of, output_path, refuse_to_overwrite, save, show
from pinakes.jobs.show_video import FRAMES, VideoShown, show_frame, show_video
from pinakes.jobs.stills import clock, is_video, moment


def item(
    uri: str,
    at: str | None,
    count: int | None,
    names: list[str] | None,
    job: Path | None,
    output: Path | None,
    as_json: bool,
) -> bool:
    """Show a picture or a video. Returns whether all operators could look."""
    if not is_video(uri) and (at is not None or count is not None):
        raise SpecError(f"{uri} is one picture: --at and --grid choose frames of a video")
    if at is not None and count is not None:
        raise SpecError("--at is for one frame of a video, and --grid for a sheet of them")
    at_ms = None if at is None else moment(at)
    path = output_path(output, default_name(uri, at_ms))
    refuse_to_overwrite(path, uri)
    operators = names if job is None else operators_of(job, names)
    progress = Progress(err)
    shown: Shown | VideoShown
    if not is_video(uri):
        shown = show(uri, operators, report=progress.say)
    elif at_ms is not None:
        shown = show_frame(uri, at_ms, operators, report=progress.say)
    else:
        frames = count or FRAMES
        with progress.counting(frames) as advance:
            shown = show_video(uri, operators, frames, report=progress.say, looked=lambda: advance(1, 0, 0))
    save(shown.image, path)
    if as_json:
        print(json.dumps({**shown.as_dict(), "output": str(path)}, default=str))
    else:
        if isinstance(shown, Shown):
            if shown.frame_ms is not None:
                out.print(f"the frame of {clock(shown.frame_ms)}", highlight=False)
            print_shown(shown.findings, path)
        else:
            _print_video(shown, path)
        if letters := lacking([one.caption for one in shown.findings]):
            progress.say(
                f"no font on this machine has {letters[:20]}: they are boxes on the picture (see jobs/lettering.py)"
            )
    for name, why in shown.errors.items():
        err.print(f"pinakes: the operator {name} could not look: {why}", style="red", highlight=False, markup=False)
    return not shown.errors


def sheet(catalog: Catalog, count: int, where: str | None, table: str, output: Path | None, as_json: bool) -> None:
    """A contact sheet of a catalogue."""
    path = output_path(output, "sheet.png")
    found = contact_sheet(catalog, count, where, table)
    if found is not None:
        for picture in found.cells:
            refuse_to_overwrite(path, picture.uri)
        save(found.image, path)
    if as_json:
        said = found.as_dict() if found else {"pictures": [], "matched": 0}
        print(json.dumps({**said, "output": str(path) if found else None}))
    elif found is None:
        out.print("no picture meets the condition: nothing was written", highlight=False)
    else:
        words = f"{len(found.cells):,} of {found.matched:,} pictures, by uri, in {path}"
        grey = sum(one.picture is None for one in found.cells)
        out.print(words + (f"; {grey:,} of them cannot be shown" if grey else ""), highlight=False, markup=False)


def _print_video(shown: VideoShown, path: Path) -> None:
    """What was found in which frame."""
    rows = [{"time": clock(one.frame_ms), "found": clean(one.summary)} for one in shown.frames]
    out.print(grid(None, rows))
    out.print(str(path), highlight=False, markup=False)
