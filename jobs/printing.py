"""Answers for people: summaries and tables on the console."""

import json
import sys
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from pathlib import Path

    from pinakes.jobs.estimating import Estimate
    from pinakes.jobs.findings import Finding
    from pinakes.jobs.planning import PlanSummary
    from pinakes.jobs.summary import RunSummary

#: Wide enough for a table when there is no terminal to ask.
PIPED_WIDTH = 160

#: Rows of one table that are printed of what was found in a picture.
MOST_SHOWN = 12
#: A longer list of numbers is printed in part.
MOST_NUMBERS = 8

out = Console(width=None if sys.stdout.isatty() else PIPED_WIDTH)
err = Console(stderr=True, soft_wrap=True)


def print_plan(found: "PlanSummary") -> None:
    rows = [
        {"items": name, "count": getattr(found, name), "": meaning}
        for name, meaning in {
            "new": "not looked at yet",
            "changed": "known by their place, with another version",
            "again": "known, but an operator has another model or setting now",
            "failed": "failed before: `pinakes retry` looks again",
            "done": "nothing to do",
            "gone": "looked at before, not in the source any more",
            "due": "a run would look at these now",
        }.items()
    ]
    out.print(grid(f"plan for {found.source}", rows))
    if found.videos:
        out.print(f"  {found.videos:,} of these are videos", highlight=False)
    for name, looks in found.looks.items():
        out.print(f"  {name}: {looks:,} to look at", highlight=False)
    for remark in found.remarks:
        out.print(f"  {remark}", highlight=False, markup=False)
    if found.passed_over:
        out.print(f"  {found.passed_over:,} other files passed over", highlight=False)
    if found.beyond:
        out.print(f"  {_left(found.beyond)} are left for later runs by the job's budget", highlight=False)
    if found.outside:
        out.print(f"  {_left(found.outside)} are not looked at: the job's budget names none", highlight=False)
    if found.estimate:
        print_estimate(found.estimate)


def _left(beyond: dict[str, int]) -> str:
    return " and ".join(f"{count:,} {kind}" for kind, count in beyond.items())


def print_estimate(found: "Estimate") -> None:
    from pinakes.jobs.budget import usd

    rows = [
        {
            "operator": one.operator,
            "units": "" if one.amount is None else f"{plain(one.amount.likely)} {(one.unit or '').replace('_', ' ')}",
            "CPU seconds": one.cpu_s and one.cpu_s.likely,
            "at least": one.cpu_s and one.cpu_s.low,
            "at most": one.cpu_s and one.cpu_s.high,
            "known from": one.source,
        }
        for one in found.operators
    ]
    if rows:
        out.print(grid("estimate", rows))
    if found.seconds and found.usd:
        low, likely, high = (duration(one) for one in (found.seconds.low, found.seconds.likely, found.seconds.high))
        workers = f"{found.workers} worker{'s' if found.workers != 1 else ''}"
        out.print(f"  time: {likely}, between {low} and {high}, with {workers}", highlight=False)
        low, likely, high = (usd(one) for one in (found.usd.low, found.usd.likely, found.usd.high))
        out.print(f"  cost: {likely}, between {low} and {high}, by the tariff {found.tariff}", highlight=False)
    for line in found.basis:
        out.print(f"  {line}", highlight=False, markup=False)


def duration(seconds: float) -> str:
    """A time: 40 s, 5 min, 12.3 h."""
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min" if seconds < 6000 else hours(seconds)


def print_run(summary: "RunSummary") -> None:
    found = summary.plan
    if not found.due and found.beyond:
        out.print("nothing to look at within the budget", highlight=False)
        print_budget(summary)
        return
    if not found.due and found.outside:
        print_budget(summary)
    if not found.due:
        failed = f"; {found.failed:,} failed before (`pinakes retry` looks again)" if found.failed else ""
        out.print(f"nothing to look at: {found.done:,} of {found.items:,} items are done{failed}", highlight=False)
        return
    rows = [
        {
            "operator": name,
            "ok": counts.get("ok", 0),
            "failed": counts.get("failed", 0),
            "skipped": counts.get("skipped", 0),
            "rows": summary.results[name],
            "CPU s": round(summary.cpu_s.get(name, 0.0), 1),
        }
        for name, counts in sorted(summary.looks.items())
    ]
    out.print(grid(None, rows))
    speed = f", {summary.per_s:.1f}/s after {summary.start_s:.1f} s of start-up" if summary.per_s else ""
    out.print(
        f"{summary.items:,} items in {summary.seconds:.1f} s{speed}, committed to {summary.catalog}",
        highlight=False,
        markup=False,
    )
    decode, rest = (summary.cpu_s.get(name, 0.0) for name in ("decode", "run"))
    out.print(f"{decode:.1f} s of CPU for fetching and decoding, {rest:.1f} s for the run itself", highlight=False)
    if summary.video_s:
        # Beside many stills, or a start-up as long, the speed of little video says nothing.
        speed = f", {summary.video_s / summary.seconds:.1f} times its speed" if summary.video_s >= 180 else ""
        out.print(f"{hours(summary.video_s)} of video{speed}", highlight=False)
    if summary.collection:
        print_collection(**summary.collection)
    if summary.done_by_others:
        out.print(f"{summary.done_by_others:,} looks were committed by another run first", highlight=False)
    print_budget(summary)
    for code, items in sorted(summary.errors.items()):
        out.print(f"  {code}: {items:,} items", style="red", highlight=False)


def print_budget(summary: "RunSummary") -> None:
    from pinakes.jobs.budget import said, usd

    if not summary.budget:
        return
    used = f", {usd(summary.budget['used_usd'])} were used" if "used_usd" in summary.budget else ""
    if "used_video_minutes" in summary.budget:
        used = f", {summary.budget['used_video_minutes']:,.1f} minutes of video were used"
    stopped = summary.status == "budget"
    words = f"{'stopped at its' if stopped else 'within its'} budget of {said(summary.budget)}{used}"
    left = f"; {summary.left:,} items are left: the same command goes on with them" if stopped else ""
    out.print(words + left, highlight=False, markup=False)
    if summary.plan.outside:
        out.print(f"  {_left(summary.plan.outside)} were not looked at: the budget names none", highlight=False)


def print_collection(name: str, faces: int, added: int, left_out: int, error: str | None) -> None:
    words = f"collection {name}: {faces:,} faces, {added:,} of them added now; {left_out:,} are too poor to be in it"
    out.print(words, highlight=False, markup=False)
    if error:
        words = f"  not all of it was loaded, `pinakes faces index {name}` goes on: {error}"
        out.print(words, style="red", highlight=False, markup=False)


def print_shown(found: "list[Finding]", path: "Path") -> None:
    from pinakes.jobs.lettering import clean

    by_table: dict[str, list[Finding]] = {}
    for one in found:
        by_table.setdefault(one.table, []).append(one)
    rows: list[dict[str, Any]] = []
    for table, findings in by_table.items():
        for one in findings[:MOST_SHOWN]:
            said = (one.title if one.titled else "", one.details, ", ".join(name for _, name in one.swatches))
            (left, top), (right, bottom) = one.bounds or ((0, 0), (0, 0))
            rows.append(
                {
                    "table": table,
                    "found": clean(" | ".join(part for part in said if part)),
                    "confidence": one.confidence,
                    "left top, right bottom": f"{left:.2f} {top:.2f}, {right:.2f} {bottom:.2f}" if one.placed else "",
                }
            )
        if len(findings) > MOST_SHOWN:
            more = f"+{len(findings) - MOST_SHOWN} more; --json has all"
            rows.append({**dict.fromkeys(rows[-1], ""), "table": table, "found": more})
    if rows:
        out.print(grid(None, rows))
    out.print(str(path), highlight=False, markup=False)


def hours(seconds: float) -> str:
    """A length of video: 40 s, 0.15 h, 12.3 h."""
    if seconds < 180:
        return f"{seconds:.0f} s"
    return f"{seconds / 3600:.{2 if seconds < 36000 else 1}f} h"


def grid(title: str | None, rows: list[dict[str, Any]], columns: list[str] | None = None) -> Table:
    columns = columns or list(rows[0])
    table = Table(title=title, title_justify="left")
    for column in columns:
        values = [row[column] for row in rows if row[column] is not None]
        number = bool(values) and all(isinstance(value, (int, float, Decimal)) for value in values)
        table.add_column(column, justify="right" if number else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_text(row[column]) for column in columns))
    return table


def _text(value: Any) -> str:
    return escape(plain(value))


def plain(value: Any) -> str:
    """For the eye: numbers to four digits, structs and lists without quotes, of a vector its beginning."""
    match value:
        case None:
            return ""
        case datetime():
            return f"{value:%Y-%m-%d %H:%M:%S}"
        case float():
            return f"{value:.4g}"
        case int() if not isinstance(value, bool):
            return f"{value:,}"
        case Decimal():
            return f"{value:,f}"
        case list() if len(value) > MOST_NUMBERS and isinstance(value[0], float):
            return f"{', '.join(map(plain, value[:4]))}, ... ({len(value)} numbers)"
        case list():
            return ", ".join(f"({plain(part)})" if isinstance(part, dict) else plain(part) for part in value)
        case dict():
            return ", ".join(
                f"{name} ({plain(part)})" if isinstance(part, dict) else f"{name} {plain(part)}"
                for name, part in value.items()
            )
    return cell(value)


def cell(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False).strip('"')
