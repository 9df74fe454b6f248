"""A job's budget: what one run may look at, or cost, and when it has had that.

Stills are counted when the run is planned, and so exactly. Dollars and minutes of video are known only as they are
used, by what comes back from the workers. So a run stops when what it has used, and what the pieces in hand are likely
to take, by the mean of those that came, is its budget; these are waited for and kept. A piece is 64 stills at most, or
five minutes of a film: a budget for less than one of them for each worker is overdrawn by as much.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds

from pinakes.catalog import Catalog, metering
from pinakes.catalog.billing import bill
from pinakes.catalog.errors import TariffError
from pinakes.catalog.tariffs import Tariff, load
from pinakes.jobs.errors import SpecError
from pinakes.jobs.spec import BudgetSpec

OWN = "own"

#: Of a run's time what asking for the price may take, until the budget is nearly used.
SHARE = 0.05


def tariff_in_usd(name_or_path: str) -> Tariff:
    """The tariff of that name. Raises SpecError when there is none, or it is in another currency."""
    try:
        tariff = load(name_or_path)
    except TariffError as error:
        raise SpecError(str(error)) from None
    if tariff.currency != "USD":
        raise SpecError(f"the tariff {tariff.name} is in {tariff.currency}, not in USD: give one that is")
    return tariff


class Earlier:
    """What this month's runs have used before: by it one knows which tiers of a tariff are used up."""

    def __init__(self, tariff: Tariff, catalog: Catalog | None) -> None:
        """Raises CorruptCatalogError."""
        self.tariff = tariff
        self._used = metering.USAGE.empty_table()
        if catalog is not None and metering.TABLE in catalog.tables():
            month = datetime.now(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
            with catalog.storage.reporting(f"reading table {metering.TABLE}"):
                usage = catalog.table(metering.TABLE).to_pyarrow_dataset()
                rows = usage.to_table(filter=ds.field("recorded_at") >= month)
            self._used = metering.usage(metering.total([rows.select(metering.MEASURES.names)]), "", "")
        # All of a run is of the month in which it begins.
        self._at = datetime.now(UTC)
        self._usd = bill(tariff, self._used).total

    def usd_of(self, usage: pa.Table) -> Decimal:
        """What rows of USAGE cost after that, in US dollars."""
        at = usage.column_names.index("recorded_at")
        now = pa.repeat(pa.scalar(self._at, usage.schema.field(at).type), usage.num_rows)
        usage = usage.set_column(at, usage.schema.field(at), now)
        return bill(self.tariff, pa.concat_tables([self._used, usage])).total - self._usd


class Budget:
    """What a run may use. Of a job without a budget there is no end."""

    def __init__(self, spec: BudgetSpec | None) -> None:
        """Raises SpecError."""
        self._spec = spec
        self._tariff = tariff_in_usd(spec.tariff or OWN) if spec and spec.usd is not None else None
        self._earlier: Earlier | None = None
        #: Whether the run has come to its end.
        self.reached = False
        #: What was used of it: US dollars, or minutes of video.
        self.used = 0.0
        self._before = 0.0
        self._pieces = self._counted = 0
        self._last = 0.0  # what each of the last pieces took
        self._in_hand = 0
        self._ask_at = 0.0

    @property
    def most(self) -> dict[str, int]:
        """How many `images` and `videos` may be looked at, where there is a limit: none of what it does not name."""
        if self._spec is None or self._spec.usd is not None:
            return {}
        most = {"images": self._spec.images or 0}
        return most if self._spec.video_minutes is not None else {**most, "videos": 0}

    def open(self, catalog: Catalog) -> None:
        """Before any work. Raises CorruptCatalogError."""
        if self._tariff:
            self._earlier = Earlier(self._tariff, catalog)

    def begin(self) -> None:
        """Work of another kind begins, whose pieces are of another size."""
        self._before, self._pieces, self._counted = self.used, 0, 0

    def take(self, usage: Callable[[], pa.Table], video_s: float, in_hand: Callable[[], int]) -> bool:
        """A piece has come. Whether no more may be taken up.

        `usage` gives the rows of USAGE for the run so far, `in_hand` how many pieces were taken up and have not come.
        """
        self._pieces += 1
        limit = self._limit
        if limit is None or self.reached:
            return self.reached
        if time.monotonic() >= self._ask_at or self._expected() >= limit:
            self.measure(usage, video_s)
            self._in_hand = in_hand()
        self.reached = self._expected() >= limit
        return self.reached

    def _expected(self) -> float:
        """What will be used when all that was taken up is done, by the mean of the pieces that are counted in.

        Or by that of the last ones, if less: with the first ones comes what the start of the workers took.
        """
        mean = min(self._last, (self.used - self._before) / self._counted) if self._counted else 0.0
        return self.used + mean * (self._pieces - self._counted + self._in_hand)

    def measure(self, usage: Callable[[], pa.Table], video_s: float) -> None:
        """Bring `used` up to date."""
        began = time.monotonic()
        used = float(self._earlier.usd_of(usage())) if self._earlier else video_s / 60
        more = self._pieces - self._counted
        self._last = (used - self.used) / more if self._counted and more else 0.0
        self.used, self._counted = used, self._pieces
        now = time.monotonic()
        self._ask_at = now + (now - began) / SHARE

    @property
    def _limit(self) -> float | None:
        if self._spec is None:
            return None
        return self._spec.video_minutes if self._spec.usd is None else self._spec.usd

    def as_dict(self) -> dict[str, Any] | None:
        """For the summary: the budget, and what was used of what is measured as it goes."""
        if self._spec is None:
            return None
        spec = self._spec.model_dump(exclude_none=True)
        if self._tariff:
            return {**spec, "tariff": self._tariff.name, "used_usd": round(self.used, 6)}
        return {**spec, "used_video_minutes": round(self.used, 3)} if "video_minutes" in spec else spec


def said(budget: dict[str, Any]) -> str:
    """A budget in words: 1,000 images and 60 minutes of video."""
    if "usd" in budget:
        return f"{usd(budget['usd'])} by the tariff {budget.get('tariff') or OWN}"
    parts = [f"{budget['images']:,} images"] if "images" in budget else []
    parts += [f"{budget['video_minutes']:,g} minutes of video"] if "video_minutes" in budget else []
    return " and ".join(parts)


def usd(amount: float) -> str:
    """Dollars, to the cent; where that says little, to two digits."""
    return f"{amount:,.2f} USD" if amount >= 1 or not amount else f"{amount:.2g} USD"
