"""The size ladder, as JSON for programs and as a table for people."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from todm.files import write_json
from todm.report.gather import Run, Size


def ladder_entries(run: Run) -> list[dict[str, Any]]:
    """One dict per size.

    Keys: ``name``, ``mode``, ``params``, ``spec``, ``wer`` (percent by part) and ``bundle`` (ONNX folder
    relative to the run folder, or null); where known ``mb`` and ``mb_int8`` (10^6 bytes), ``rtf`` and
    ``rtf_int8`` (seconds of work per second of audio).
    """
    return [_entry(size) for size in run.sizes]


def _entry(size: Size) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "name": size.name,
        "mode": size.spec.mode,
        "params": size.params,
        "spec": size.spec.to_dict(),
        "wer": dict(size.wer),
        "bundle": size.bundle,
    }
    for key, values in (("mb", size.megabytes), ("rtf", size.rtf)):
        for precision, suffix in (("fp32", ""), ("int8", "_int8")):
            if precision in values:
                entry[key + suffix] = round(values[precision], 4)
    return entry


def ladder_table(run: Run) -> tuple[list[str], list[list[str]]]:
    """Heads and cells, what matters most first; an unknown figure is an en dash."""
    heads = ["size", "params", *(f"WER {part}" for part in run.parts)]
    heads += ["MB", "MB int8", "RTF", "RTF int8", "layers", "mode"]
    rows = []
    for size in run.sizes:
        cells = [size.name, format_millions(size.params)]
        cells += [_number(size.wer.get(part), "{:.2f}%") for part in run.parts]
        cells += [_number(size.megabytes.get(precision), "{:.1f}") for precision in ("fp32", "int8")]
        cells += [_number(size.rtf.get(precision), "{:.4f}") for precision in ("fp32", "int8")]
        rows.append([*cells, str(size.spec.depth), size.spec.mode])
    return heads, rows


def format_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns side by side, the first to the left, figures to the right.

    Example:
        >>> print(format_table(["size", "WER"], [["max-streaming", "1.20%"]]))
        size             WER
        max-streaming  1.20%
    """
    widths = [max(len(row[i]) for row in (heads, *rows)) for i in range(len(heads))]
    lines = []
    for row in (heads, *rows):
        cells = [
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def write_ladder(run: Run, path: Path) -> None:
    """Write ``ladder.json``."""
    write_json(path, ladder_entries(run))


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else form.format(value)


def format_millions(params: int | None) -> str:
    """``1.53 M``, or an en dash."""
    return "–" if params is None else f"{params / 1e6:.2f} M"
