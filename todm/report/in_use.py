"""Section of the report on the in-use checks of ``todm verify``."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any, NamedTuple

from todm.report.contents import RunContents, Size
from todm.tables import Column, Table, format_cell

_TEXT = (
    "Counts of todm verify in this project's runtime (onnxruntime) and in sherpa-onnx, the allowed ones in "
    "brackets."
)


class _Check(NamedTuple):
    check: str
    runtime: str
    unit: str


def show_in_use(run: RunContents) -> str:
    """Show the in-use checks, a row per check and runtime and a column per size."""
    sizes = [size for size in run.sizes if size.in_use]
    if not sizes:
        return ""
    checks = dict.fromkeys(_key(item) for size in sizes for item in size.in_use)
    table = Table[_Check](
        Column("check", lambda row: row.check, left=True),
        Column("runtime", lambda row: row.runtime, left=True),
        Column("counted", lambda row: row.unit, left=True),
        *(_column(size) for size in sizes),
    )
    return f'<h2>In use</h2>\n<p>{escape(_TEXT)}</p>\n<div class="scroll">{table.to_html(checks)}</div>'


def _key(item: Mapping[str, Any]) -> _Check:
    return _Check(str(item["check"]), str(item["runtime"]), str(item["unit"]))


def _column(size: Size) -> Column[_Check]:
    found = {_key(item): item for item in size.in_use}

    def value(row: _Check) -> str | None:
        item = found.get(row)
        if item is None:
            return None
        text = f"{format_cell(item['measured'])} ({item['allowed']:.4g})"
        return text if item["ok"] else f"{text} failed"

    return Column(size.name, value)
