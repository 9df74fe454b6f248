"""Tables as notebooks show them: HTML, in which words from files and file names are only ever words."""

import sys
from collections.abc import Sequence
from decimal import Decimal
from html import escape
from typing import Any

import pyarrow as pa

from pinakes.jobs.lettering import clean
from pinakes.jobs.printing import plain

#: Rows of an answer that are shown, and letters of a cell.
MOST_ROWS, MOST_LETTERS = 20, 100


def arrow_html(answer: pa.Table) -> str:
    """The beginning of an answer, and how many rows it has."""
    shown = answer.slice(0, MOST_ROWS)
    rows = f"{answer.num_rows:,} {'row' if answer.num_rows == 1 else 'rows'}"
    below = f"the first {shown.num_rows:,} of {rows}" if shown.num_rows < answer.num_rows else rows
    return table_html(shown, below=below)


def table_html(rows: pa.Table, *, above: str | None = None, below: str | None = None) -> str:
    """All of those rows, with a line above and one below them; numbers stand to the right."""
    columns = [column.to_pylist() for column in rows.columns]  # of an answer two may have one name
    sides = ["right" if _are_numbers(column) else "left" for column in columns]
    head = "".join(_cell("th", side, name) for side, name in zip(sides, rows.column_names, strict=True))
    body = "".join(
        f"<tr>{''.join(_cell('td', side, plain(value)) for side, value in zip(sides, row, strict=True))}</tr>"
        for row in zip(*columns, strict=True)
    )
    around = [f"<div>{_words(line)}</div>" if line else "" for line in (above, below)]
    return f"{around[0]}<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{around[1]}"


def readable_answers() -> None:
    """Have the notebook, when this is one, show Arrow tables as tables; unless it shows them in a way already."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if shell is not None:
        formatter = shell.display_formatter.formatters["text/html"]
        if pa.Table not in formatter:
            formatter.for_type(pa.Table, arrow_html)


def _are_numbers(values: Sequence[Any]) -> bool:
    return bool(values) and all(isinstance(value, int | float | Decimal | None) for value in values)


def _cell(tag: str, side: str, text: str) -> str:
    return f'<{tag} style="padding: 2px 10px; vertical-align: top; text-align: {side}">{_words(text)}</{tag}>'


def _words(text: str) -> str:
    text = clean(text)
    return escape(text if len(text) <= MOST_LETTERS else f"{text[: MOST_LETTERS - 3]}...")
