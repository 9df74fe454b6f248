"""The command `pinakes cost`: what looking has cost, and what others would have charged. Heavy imports are inside."""

import json
from dataclasses import asdict
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from pinakes.jobs.errors import SpecError
from pinakes.jobs.options import AsJson, CatalogDir, catalog_at
from pinakes.jobs.printing import err, grid, out

if TYPE_CHECKING:
    from pinakes.catalog.billing import Bill, By
    from pinakes.catalog.costs import Compared, Consumption

cost_app = typer.Typer()

#: More lines than that are for a script: then the sums alone are printed.
MOST_LINES = 60
MARKS = {
    "M": "by the service's API or a bill",
    "D": "by its documentation",
    "S": "by secondary sources",
    "U": "UNCONFIRMED",
}


@cost_app.command()
def cost(
    catalog: CatalogDir = None,
    by: Annotated[
        Literal["operator", "job", "day", "month"] | None,
        typer.Option(help="whose share it is; by month when not given"),
    ] = None,
    tariff: Annotated[
        str, typer.Option(help="a tariff by its name, or a file of your own: PATH.toml", metavar="NAME")
    ] = "own",
    compare: Annotated[
        bool, typer.Option("--compare", help="put what each service would have charged beside it; by operator")
    ] = False,
    month: Annotated[
        str | None, typer.Option(help="of that month alone (UTC); of all when not given", metavar="YYYY-MM")
    ] = None,
    tariffs: Annotated[
        bool, typer.Option("--tariffs", help="list the tariffs, and the files to copy and edit")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """What was looked at has cost so far, tier by tier, and what others would have charged."""
    from pinakes.catalog import costs
    from pinakes.catalog.tariffs import load, names

    if tariffs:
        _print_tariffs(as_json)
        return
    chosen = load(tariff)
    used = costs.consumption(catalog_at(catalog), _month(month))
    if compare:
        others = [load(name) for name in names() if name not in ("own", tariff)]
        rows, bills = costs.compare(used, [chosen, *others], by or "operator")
        if as_json:
            by_tariff = {bill.tariff.name: _as_dict(bill) for bill in bills}
            answer = {"by": by or "operator", "rows": [_row(one) for one in rows], "tariffs": by_tariff}
            print(json.dumps(answer, default=str))
        else:
            print_compared(rows, bills, by or "operator")
        return
    found = used.bill(chosen, by or "month")
    if as_json:
        print(json.dumps({"by": by or "month", **_as_dict(found)}, default=str))
    elif not found.lines:
        out.print(_nothing(used, month), highlight=False, markup=False)
        _print_remarks(found)
    else:
        _print_bill(found, by)


def _month(text: str | None) -> date | None:
    """The first day of a month."""
    if text is None:
        return None
    try:
        first = datetime.strptime(text, "%Y-%m").date()
        # Of the last year of all there is no end.
        first.replace(year=first.year + 1)
        return first
    except ValueError:
        raise SpecError(f"--month {text}: a month is spelled YYYY-MM, as {datetime.now(UTC):%Y-%m}") from None


def _print_tariffs(as_json: bool) -> None:
    from pinakes.catalog.tariffs import load, names, path_of

    every = [(load(name), path_of(name)) for name in names()]
    rows = [
        {"tariff": one.name, "version": str(one.version), "region": one.region, "about": one.about, "path": str(path)}
        for one, path in every
    ]
    if as_json:
        print(json.dumps(rows))
        return
    out.print(grid(None, rows, ["tariff", "version", "region", "about"]))
    # Not in the table, which would break them: they are to be copied.
    for one, path in every:
        out.print(f"cp {path} my-{one.name}.toml", highlight=False, markup=False, soft_wrap=True)


def _nothing(used: "Consumption", month: str | None) -> str:
    what = f"nothing of {month or 'what was used'} is billed by this tariff"
    return f"{what}; {used.usage.num_rows:,} rows of usage were read"


def _as_dict(bill: "Bill") -> dict[str, Any]:
    """For a script: money and units as text, since they are exact."""
    return {
        "tariff": bill.tariff.name,
        "version": bill.tariff.version,
        "region": bill.tariff.region,
        "currency": bill.tariff.currency,
        "total": _plain(bill.total),
        "unconfirmed": _plain(bill.unconfirmed),
        "amounts": {key: _plain(amount) for key, amount in bill.amounts().items()},
        "lines": [_exact(asdict(line)) for line in bill.lines],
        "no_call": [_exact(asdict(one)) for one in bill.no_call],
        "unpriced": bill.unpriced,
        "remarks": list(bill.tariff.remarks),
    }


def _exact(row: dict[str, Any]) -> dict[str, Any]:
    return {name: _plain(value) if isinstance(value, Decimal) else value for name, value in row.items()}


def _plain(value: Decimal) -> str:
    return f"{value.normalize():f}"


def _print_bill(bill: "Bill", by: "By | None") -> None:
    tariff, total = bill.tariff, bill.total
    rows = [
        {
            **({} if by == "day" else {"month": line.month}),
            **({} if by in (None, "month") else {by: line.key}),
            "for": line.call,
            "tier": line.tier,
            "units": _rounded(line.units, 4 if line.units >= 1 else 6),
            "": line.unit.replace("_", " "),
            "price": f"{line.price:f} per {line.per:,}" if line.per > 1 else f"{line.price:f}",
            tariff.currency: _rounded(line.amount, places(total), keep=True),
            "mark": line.confidence,
        }
        for line in bill.lines
    ]
    columns = [name for name in rows[0] if name != "tier" or any(row["tier"] for row in rows)]
    out.print(f"{tariff.name} of {tariff.version}, {tariff.region}", highlight=False, markup=False)
    if len(rows) <= MOST_LINES:
        out.print(grid(None, rows, columns))
    if len(rows) > MOST_LINES or 1 < len(bill.amounts()) < len(rows):
        sums = [
            {str(by or "month"): key, tariff.currency: _rounded(amount, places(total), keep=True)}
            for key, amount in bill.amounts().items()
        ]
        out.print(grid(None, sums))
    if len(rows) > MOST_LINES:
        out.print(f"{len(rows):,} lines, tier by tier, are with --json", highlight=False)
    out.print(f"total: {_money(total, bill)}", highlight=False, markup=False)
    _print_remarks(bill)


def _print_remarks(bill: "Bill") -> None:
    """What one must know to believe a bill."""
    marks = sorted({line.confidence for line in bill.lines}, key="MDSU".index)
    if marks:
        said = "; ".join(f"{mark}: prices {MARKS[mark]}" for mark in marks)
        share = f", {_money(bill.unconfirmed, bill)} of the total" if "U" in marks else ""
        out.print(f"  {said}{share}", highlight=False, markup=False)
    if bill.no_call:
        words: dict[str, list[str]] = {}
        for one in bill.no_call:
            words.setdefault(one.operator, []).append(f"{_rounded(one.units, 1):,f} {one.unit.replace('_', ' ')}")
        listed = "; ".join(f"{operator} ({', '.join(units)})" for operator, units in words.items())
        out.print(f"  no such call, so not billed: {listed}", highlight=False, markup=False)
    now = f"{datetime.now(UTC):%Y-%m}"
    if any(line.month == now for line in bill.lines):
        out.print(f"  {now} is not over: what is kept is billed until now", highlight=False)
    for remark in bill.tariff.remarks:
        out.print(f"  {remark}", highlight=False, markup=False)
    for lack in bill.unpriced:
        err.print(lack, style="red", highlight=False, markup=False)


def print_compared(rows: list["Compared"], bills: list["Bill"], by: "By") -> None:
    # Each column as fine as its own total: ours may be a thousandth of another's.
    digits = {bill.tariff.name: places(bill.total) for bill in bills}

    def shown(key: str, units: Decimal | None, amounts: dict[str, Decimal | None]) -> dict[str, Any]:
        looked = {"units": None if units is None else _rounded(units, 1)} if by == "operator" else {}
        money = {
            name: None if amount is None else _rounded(amount, digits[name], keep=True)
            for name, amount in amounts.items()
        }
        return {by: key, **looked, **money}

    table = [shown(one.key, one.units, one.amounts) for one in rows]
    table.append(shown("total", None, {bill.tariff.name: bill.total for bill in bills}))
    out.print(f"{bills[0].tariff.currency}, by {by}", highlight=False)
    out.print(grid(None, table))
    if by == "operator":
        out.print("  empty: no such call, and not in that total", highlight=False)
        out.print("  0.00 may be free, or done by a call that another operator is billed for", highlight=False)
    for bill in bills:
        if bill.unconfirmed:
            words = f"of {bill.tariff.name}'s total {_money(bill.unconfirmed, bill)} is by UNCONFIRMED prices (U)"
            out.print(f"  {words}", highlight=False, markup=False)
        for lack in bill.unpriced:
            err.print(lack, style="red", highlight=False, markup=False)
    out.print("  each in full, and what was taken for granted: --tariff NAME", highlight=False, markup=False)


def _row(one: "Compared") -> dict[str, Any]:
    amounts = {name: None if amount is None else _plain(amount) for name, amount in one.amounts.items()}
    return {"key": one.key, "units": None if one.units is None else _plain(one.units), "amounts": amounts}


def places(total: Decimal) -> int:
    """Digits behind the point: cents, or what shows something of less than ten."""
    return 2 if not total or total >= 10 else 4 if total >= Decimal("0.1") else 6


def _rounded(value: Decimal, digits: int, keep: bool = False) -> Decimal:
    """Half up, as money is; without zeros at its end unless they are kept."""
    rounded = value.quantize(Decimal(1).scaleb(-digits), rounding="ROUND_HALF_UP")
    return rounded if keep else Decimal(_plain(rounded))


def _money(amount: Decimal, bill: "Bill") -> str:
    return f"{_rounded(amount, places(bill.total), keep=True):,f} {bill.tariff.currency}"
