"""Report of a grid: tables in Markdown and JSON, and plots."""

from __future__ import annotations

import math
import statistics
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from todm.ablation.grid import Curve, Grid, Table
from todm.ablation.layout import GridFolder
from todm.ablation.results import Finish, Results, Row
from todm.files import write_json, write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HEADS = ("variant", "size", "WER % [95%]", "seeds", "difference [95%]", "parameters", "non-zero", "minutes")
NOTE = (
    "Mean over seeds with a 95% bootstrap interval over seeds and utterances; the difference is paired (the "
    "same seeds and utterances) and from the first row of the size, * where its interval leaves out 0. "
    "Non-zero: share of the feed-forward weights. Minutes: training time without validation."
)


def write_grid_report(grid: Grid, exp_dir: Path) -> Path:
    """Write the report on the finished runs of a grid to ``EXP/report``; returns its page."""
    return write_report(Results(grid, exp_dir), exp_dir)


def write_report(results: Results, exp_dir: Path) -> Path:
    """Write ``report.md``, ``results.json`` and a PNG for every table and curve; returns the first."""
    files = GridFolder(exp_dir)
    files.report.mkdir(parents=True, exist_ok=True)
    parts, data = ["# " + results.grid.path.stem, NOTE], []
    for index, table in enumerate(results.grid.tables):
        rows = results.table(table)
        image = files.report / f"table-{index + 1}.png"
        _save(plot_table(rows, table), image)
        parts += [f"## {table.title}", format_table(rows), f"![{table.title}]({image.name})"]
        data.append({"title": table.title, "rows": [asdict(row) for row in rows]})
    for index, curve in enumerate(results.grid.curves):
        lines = {
            size: [row for name in curve.variants if (row := results.row(name, size)) is not None]
            for size in curve.sizes
        }
        image = files.report / f"curve-{index + 1}.png"
        _save(plot_curve(lines, curve), image)
        rows = [row for line in lines.values() for row in line]
        parts += [f"## {curve.title}", format_table(rows), f"![{curve.title}]({image.name})"]
        data.append({"title": curve.title, "rows": [asdict(row) for row in rows]})
    for race in results.grid.races:
        finishes = results.race(race)
        parts += [f"## {race.title}", format_race(finishes)]
        rows_of_race = [
            {**asdict(one), "ratios": {s: None if math.isinf(r) else r for s, r in one.ratios.items()}}
            for one in finishes
        ]  # JSON has no infinity
        data.append({"title": race.title, "rows": rows_of_race})
    if results.missing:
        absent = ", ".join(f"{name} (seed {seed})" for name, seed in results.missing)
        parts.append(f"Not finished: {absent}.")
    page = files.report_page
    write_text(page, "\n\n".join(parts) + "\n")
    write_json(files.results, data)
    return page


def format_table(rows: list[Row]) -> str:
    """Format a table in Markdown, one line per row."""
    lines = [" | ".join(HEADS), " | ".join("---" for _ in HEADS)]
    lines += [" | ".join(format_cells(row)) for row in rows]
    return "\n".join(f"| {line} |" for line in lines)


def format_race(finishes: list[Finish]) -> str:
    """Format a race in Markdown: minutes by seed, and their ratio to those of the first variant."""
    lines = ["| variant | minutes, seed by seed | of the first, seed by seed | median |", "|---|---|---|---|"]
    for finish in finishes:
        minutes = ["never" if taken is None else f"{taken / 60:.1f}" for taken in finish.seconds.values()]
        shown = ", ".join(_ratio(finish.ratios.get(seed)) for seed in finish.seconds)
        middle = _ratio(statistics.median(finish.ratios.values()) if finish.ratios else None)
        lines.append(f"| {finish.variant} | {', '.join(minutes)} | {shown} | {middle} |")
    return "\n".join(lines)


def _ratio(ratio: float | None) -> str:
    if ratio is None:  # nothing to compare with
        return "–"
    return "never" if math.isinf(ratio) else f"{ratio:.2f}"


def format_cells(row: Row) -> tuple[str, ...]:
    """Format the figures of a row in the order of `HEADS`."""
    versus = "–"
    if row.versus is not None:
        clear = row.versus.low > 0.0 or row.versus.high < 0.0
        mean, low, high = (f"{value:+.2f}" for value in (row.versus.mean, row.versus.low, row.versus.high))
        versus = f"{mean} [{low}, {high}]" + (" *" if clear else "")
    return (
        row.variant,
        row.size,
        str(row.wer),
        ", ".join(f"{wer:.1f}" for wer in row.by_seed.values()),
        versus,
        f"{row.params / 1e6:.2f} M",
        f"{row.nonzero:.1%}",
        f"{row.seconds / 60:.1f}",
    )


def plot_table(rows: list[Row], table: Table) -> Figure:
    """Plot a panel for each size: the interval of every variant, and its seeds as dots."""
    from matplotlib.figure import Figure

    count = 1 + len(table.variants)
    figure = Figure(figsize=(4.2 * len(table.sizes) + 1.5, 0.32 * count + 1.2), layout="constrained")
    panels = figure.subplots(1, len(table.sizes), squeeze=False)[0]
    for axes, size in zip(panels, table.sizes, strict=True):
        shown = [row for row in rows if row.size == size]
        for place, row in enumerate(shown):
            axes.plot((row.wer.low, row.wer.high), (place, place), color="tab:blue", linewidth=2)
            axes.plot(row.wer.mean, place, "o", color="tab:blue")
            axes.plot(list(row.by_seed.values()), [place] * len(row.by_seed), ".", color="0.5", markersize=4)
            if row.variant == table.reference:
                axes.axvline(row.wer.mean, color="0.7", linewidth=1, zorder=0)
        axes.set_yticks(range(len(shown)), [row.variant for row in shown])
        axes.set_xlabel(f"{size}: WER, %")
        axes.invert_yaxis()
    figure.suptitle(table.title, fontsize=10)
    return figure


def plot_curve(lines: dict[str, list[Row]], curve: Curve) -> Figure:
    """Plot a line for each size: WER with its interval over the share of non-zero weights."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.5, 3.5), layout="constrained")
    axes = figure.subplots()
    for size, rows in lines.items():
        rows = sorted(rows, key=lambda row: row.nonzero)
        wer = [row.wer.mean for row in rows]
        around = [
            [row.wer.mean - row.wer.low for row in rows],
            [row.wer.high - row.wer.mean for row in rows],
        ]
        axes.errorbar([100 * row.nonzero for row in rows], wer, yerr=around, fmt="o-", capsize=3, label=size)
    axes.set_xlabel("non-zero feed-forward weights, %")
    axes.set_ylabel("WER, %")
    axes.set_title(curve.title, fontsize=10)
    if any(lines.values()):
        axes.legend()
    return figure


def _save(figure: Figure, path: Path) -> None:
    figure.savefig(path, dpi=120)
