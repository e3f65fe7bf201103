"""Size ladder of a run, as JSON and as a table."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from todm.files import write_json
from todm.report.contents import RunContents, Size
from todm.tables import Column, Table


def ladder_entries(run: RunContents) -> list[dict[str, Any]]:
    """Describe each size for JSON.

    Keys: ``name``, ``mode``, ``params``, ``spec``, ``wer`` (percent by part) and ``bundle`` (ONNX folder
    relative to the run folder, or null); if known ``mb`` and ``mb_int8`` (10^6 bytes), ``rtf`` and
    ``rtf_int8`` (seconds of work per second of audio).
    """
    return [_describe(size) for size in run.sizes]


def _describe(size: Size) -> dict[str, Any]:
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


def ladder_table(run: RunContents) -> Table[Size]:
    """Lay out the table of `run.sizes`, the most important columns first."""

    def column(head: str, values: str, key: str, form: str) -> Column[Size]:
        def value(size: Size) -> float | None:
            found: Mapping[str, float] = getattr(size, values)
            return found.get(key)

        return Column(head, value, form)

    return Table(
        Column("size", lambda size: size.name, left=True),
        Column("params", lambda size: size.millions, "{:.2f} M"),
        *(column(f"WER {part}", "wer", part, "{:.2f}%") for part in run.parts),
        column("MB", "megabytes", "fp32", "{:.1f}"),
        column("MB int8", "megabytes", "int8", "{:.1f}"),
        column("RTF", "rtf", "fp32", "{:.4f}"),
        column("RTF int8", "rtf", "int8", "{:.4f}"),
        Column("layers", lambda size: size.spec.depth),
        Column("mode", lambda size: size.spec.mode),
    )


def write_ladder(run: RunContents, path: Path) -> None:
    """Write `ladder_entries` to `path`."""
    write_json(path, ladder_entries(run))
