"""Tables as plain text, Markdown and HTML, from typed rows.

Example:
    >>> from typing import NamedTuple
    >>> class Size(NamedTuple):
    ...     name: str
    ...     wer: float | None
    >>> table = Table[Size](
    ...     Column("size", lambda size: size.name, left=True),
    ...     Column("WER", lambda size: size.wer, "{:.2f}%"),
    ... )
    >>> rows = [Size("max-streaming", 1.2), Size("min", None)]
    >>> print(table.to_text(rows))
    size             WER
    max-streaming  1.20%
    min                –
    >>> print(table.to_markdown(rows))
    | size | WER |
    |---|--:|
    | max-streaming | 1.20% |
    | min | – |
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Generic, TypeVar

Row = TypeVar("Row")

UNKNOWN = "–"
"""Cell of an unknown value."""


@dataclass(frozen=True)
class Column(Generic[Row]):
    """One column of a table.

    Args:
        head: title.
        value: value of a row: text, number, bool or None (unknown).
        form: format of a known value, for example ``{:.2f}%``; by default see `format_cell`.
        left: align to the left, as for text; figures are aligned to the right.
        width: minimum width in plain text, for tables that are printed line by line.
    """

    head: str
    value: Callable[[Row], Any]
    form: str = ""
    left: bool = False
    width: int = 0


class Table(Generic[Row]):
    """Layout of a table; its rows are given to the methods.

    Args:
        columns: from left to right.
    """

    def __init__(self, *columns: Column[Row]) -> None:
        self.columns = columns

    @property
    def heads(self) -> list[str]:
        """Titles of the columns."""
        return [column.head for column in self.columns]

    def cells(self, row: Row) -> list[str]:
        """Format the cells of a row."""
        return [format_cell(column.value(row), column.form) for column in self.columns]

    def to_text(self, rows: Iterable[Row]) -> str:
        """Format as plain text with aligned columns."""
        lines = [self.heads, *map(self.cells, rows)]
        widths = [
            max(column.width, *(len(line[index]) for line in lines))
            for index, column in enumerate(self.columns)
        ]
        return "\n".join(self._align(line, widths) for line in lines)

    def to_markdown(self, rows: Iterable[Row]) -> str:
        """Format as a Markdown table."""
        rule = "|".join("---" if column.left else "--:" for column in self.columns)
        lines = [self.heads, *map(self.cells, rows)]
        head, *body = (f"| {' | '.join(line)} |" for line in lines)
        return "\n".join([head, f"|{rule}|", *body])

    def to_html(self, rows: Iterable[Row]) -> str:
        """Format as an HTML table; cells of left-aligned columns have the class ``text``."""

        def line(tag: str, cells: Sequence[str]) -> str:
            inner = "".join(
                f"<{tag}{' class=text' if column.left else ''}>{escape(cell)}</{tag}>"
                for column, cell in zip(self.columns, cells, strict=True)
            )
            return f"<tr>{inner}</tr>"

        body = "\n".join(line("td", self.cells(row)) for row in rows)
        return f"<table>\n<thead>{line('th', self.heads)}</thead>\n<tbody>{body}</tbody>\n</table>"

    def head_line(self) -> str:
        """Format the titles as one line, in the minimum widths of the columns."""
        return self.cells_line(self.heads)

    def row_line(self, row: Row) -> str:
        """Format a row as one line, in the minimum widths of the columns."""
        return self.cells_line(self.cells(row))

    def cells_line(self, cells: Sequence[str]) -> str:
        """Align formatted cells in the minimum widths; cells at the end may be missing."""
        return self._align(cells, [column.width for column in self.columns])

    def _align(self, cells: Sequence[str], widths: Sequence[int]) -> str:
        aligned = [
            cell.ljust(width) if column.left else cell.rjust(width)
            for column, cell, width in zip(self.columns, cells, widths, strict=False)
        ]
        return "  ".join(aligned).rstrip()


def format_cell(value: Any, form: str = "") -> str:
    """Format a value for a cell.

    Args:
        value: text, number, bool or None.
        form: format of a known value; by default numbers have 4 significant digits.

    Example:
        >>> format_cell(None), format_cell(True), format_cell(0.123456), format_cell(7)
        ('–', 'yes', '0.1235', '7')
        >>> format_cell(1.2, "{:.2f}%")
        '1.20%'
    """
    if value is None:
        return UNKNOWN
    if form:
        return form.format(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)


def format_pairs(pairs: Mapping[str, Any]) -> str:
    """Format names and values as two aligned columns of plain text.

    Example:
        >>> print(format_pairs({"python": "3.11", "torch": None}))
        python  3.11
        torch   –
    """
    width = max((len(name) for name in pairs), default=0)
    return "\n".join(f"{name:<{width}}  {format_cell(value)}".rstrip() for name, value in pairs.items())
