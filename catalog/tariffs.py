"""Tariffs: what a service charges for its calls, or a machine of one's own for its hours, as TOML files.

Those in the folder `prices` come with Pinakes; a user copies one and edits it. A file is a `Tariff`. Its figures are
decimal numbers exactly as they are written, and each says where it is from and how sure it is.
"""

import re
import tomllib
from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from pinakes.catalog.errors import TariffError

FOLDER = Path(__file__).parent / "prices"

#: A tariff is a page or two; a larger file is something else.
MOST_BYTES = 1_000_000

#: In place of an operator's name in `calls`: searches for a face, rows of the table `audit`.
SEARCHES = "searches"


def _number(value: Any) -> Decimal:
    """Only what TOML takes for a number: binary fractions would not be exact."""
    if isinstance(value, bool) or not isinstance(value, (int, Decimal)):
        raise ValueError("must be a number without quotes, such as 0.0425")
    return Decimal(value)


Text = Annotated[str, StringConstraints(pattern=r"^\P{C}+$", max_length=400)]
Money = Annotated[Decimal, BeforeValidator(_number), Field(ge=0, le=1_000_000, decimal_places=12)]
#: Read in the service's own API model or on a bill, in its documentation, in a secondary public source; unconfirmed.
Confidence = Literal["M", "D", "S", "U"]
Market = Literal["on_demand", "spot"]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Figure(_Record):
    """A number, where it is from and how sure it is."""

    confidence: Confidence
    source: Text


class Price(Figure):
    """Money for `per` units."""

    price: Money
    per: Literal[1, 1000] = 1


class Tier(Figure):
    """The price of the units of a month up to that many, above those of the tier before; of all others without it."""

    price: Money
    up_to: Annotated[int, Field(gt=0, le=10**15)] | None = None


class Free(Figure):
    """Units of a month that are free, in front of the tiers."""

    units: Annotated[int, Field(gt=0, le=10**15)]


class Group(_Record):
    """What calls of one price list cost."""

    unit: Literal["images", "video_minutes"]
    per: Literal[1, 1000] = 1
    tiers: Annotated[tuple[Tier, ...], Field(min_length=1)]
    free: Free | None = None

    @model_validator(mode="after")
    def _in_order(self) -> "Group":
        ends = [tier.up_to for tier in self.tiers]
        known = [end for end in ends[:-1] if end is not None]
        if ends[-1] is not None or len(known) < len(ends) - 1 or known != sorted(set(known)):
            raise ValueError("`tiers` must rise by `up_to`, which every one but the last must have, and the last not")
        return self


class Call(_Record):
    """A call of a service, and which of our operators it does the work of."""

    group: Text
    operators: Annotated[tuple[Text, ...], Field(min_length=1)]
    free_with: Text | None = None  # another call: as many units of a month are free as that one has


class CpuHour(Price):
    """An hour of one CPU on that market."""

    market: Market


class GpuHour(Price):
    """An hour of a GPU whose name has the word `device` in it, on that market."""

    device: Text
    market: Market


class Tariff(_Record):
    """A price list. What it has no price for costs nothing by it, and a bill says so."""

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,60}$")]
    version: date
    currency: Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")]
    region: Text
    about: Text = "-"
    remarks: tuple[Text, ...] = ()
    pooled: bool = False
    free_allowance: bool = False
    rounding: Literal["exact", "up"] = "exact"
    market: Market = "on_demand"
    groups: dict[Text, Group] = {}
    calls: dict[Text, Call] = {}
    vector_month: Price | None = None
    cpu_hour: tuple[CpuHour, ...] = ()
    gpu_hour: tuple[GpuHour, ...] = ()
    gb_month: Price | None = None
    request: Price | None = None

    @model_validator(mode="after")
    def _fits(self) -> "Tariff":
        for name, call in self.calls.items():
            if call.group not in self.groups:
                raise ValueError(
                    f"`calls.{name}.group` {call.group!r} is none of the groups: {_list(map(repr, self.groups))}"
                )
            if call.free_with is None:
                continue
            other = self.calls.get(call.free_with)
            if other is None or other is call or self.groups[other.group].unit != self.groups[call.group].unit:
                raise ValueError(f"`calls.{name}.free_with` must be another call of the same unit")
            if self.pooled:
                raise ValueError(f"`calls.{name}.free_with` goes with `pooled = false` only")
        if self.cpu_hour and self.market not in {one.market for one in self.cpu_hour}:
            raise ValueError(f"`cpu_hour` must have a price for `market = {self.market!r}`")
        if not (self.calls or self.cpu_hour):
            raise ValueError("it must have `calls` (with `groups`), or `cpu_hour`: without them nothing has a price")
        return self

    def gpu(self, device: str) -> GpuHour | None:
        """The price of a GPU by its name; None when there is none."""
        on_market = (one for one in self.gpu_hour if one.market == self.market)
        return next((one for one in on_market if _is_word_of(one.device, device)), None)

    def cpu(self) -> CpuHour | None:
        return next((one for one in self.cpu_hour if one.market == self.market), None)


#: What an entry below that name is made of.
_PARTS: Mapping[str, type[BaseModel]] = {
    "groups": Group,
    "tiers": Tier,
    "free": Free,
    "calls": Call,
    "vector_month": Price,
    "cpu_hour": CpuHour,
    "gpu_hour": GpuHour,
    "gb_month": Price,
    "request": Price,
}


def _is_word_of(word: str, text: str) -> bool:
    """Whether it stands in the text by itself: L4 is no part of L40."""
    return re.search(rf"(?<![0-9a-z]){re.escape(word.lower())}(?![0-9a-z])", text.lower()) is not None


def names() -> list[str]:
    """The tariffs that come with Pinakes: our own first, then the services."""
    return sorted((path.stem for path in FOLDER.glob("*.toml")), key=lambda name: (name != "own", name))


def path_of(name: str) -> Path:
    """The file of a tariff that comes with Pinakes, to be copied and edited."""
    return FOLDER / f"{name}.toml"


def load(name_or_path: str) -> Tariff:
    """A tariff that comes with Pinakes by its name, or one of the user's by the path of its file.

    Raises TariffError: there is no such tariff, or a field of the file is wrong; it says which and what is right.
    """
    try:
        path = path_of(name_or_path) if name_or_path in names() else Path(name_or_path).expanduser()
    except RuntimeError as error:  # there is no such user
        raise TariffError(f"{name_or_path}: {error}") from None
    if path.suffix != ".toml":
        raise TariffError(
            f"there is no tariff {name_or_path!r}: there are {_list(names())}, or give the path of a file of your own, "
            "PATH.toml (`pinakes cost --tariffs` says where to copy one from)"
        )
    try:
        if not path.is_file():
            raise TariffError(f"{path}: there is no such file; `pinakes cost --tariffs` says where to copy one from")
        if path.stat().st_size > MOST_BYTES:
            raise TariffError(f"{path} has more than {MOST_BYTES:,} bytes: that is no tariff")
        fields = tomllib.loads(path.read_text("utf-8"), parse_float=Decimal)
    # ArithmeticError: an exponent that no decimal number takes.
    except (OSError, ValueError, ArithmeticError, RecursionError) as error:
        raise TariffError(f"{path} cannot be read as TOML: {' '.join(str(error).split())[:300]}") from None
    try:
        return Tariff.model_validate(fields)
    except ValidationError as error:
        raise TariffError(f"{path}: {_first(error)}") from None


def _first(error: ValidationError) -> str:
    """The first field that is wrong, and what is right."""
    found = error.errors(include_url=False, include_input=False)
    # A word that is misspelled is missing as well: what was written says more.
    first = next((one for one in found if one["type"] == "extra_forbidden"), found[0])
    # A name in a file of others' may hold what drives a terminal.
    where = ".".join(part if (part := str(one)).isprintable() else repr(part) for one in first["loc"])
    said = first["msg"].removeprefix("Value error, ").replace("Tuple", "List").replace("a valid tuple", "a list [...]")
    if first["type"] not in ("missing", "extra_forbidden"):
        return f"{where}: {said}" if where else said
    above: Any = next((_PARTS[str(part)] for part in reversed(first["loc"][:-1]) if part in _PARTS), Tariff)
    fields = [f"{name}{'' if field.is_required() else ' (optional)'}" for name, field in above.model_fields.items()]
    what = "must be given" if first["type"] == "missing" else "is not known"
    return f"{where}: {what}; in its place go: {_list(fields)}"


def _list(words: Any) -> str:
    return ", ".join(words) or "none"
