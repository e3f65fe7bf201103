"""Report of a grid: tables in Markdown and JSON, and plots."""

from __future__ import annotations

import math
import statistics
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from todm import tables
from todm.ablation.grid import Curve, Grid, Table
from todm.ablation.layout import GridFolder
from todm.ablation.results import Finish, Results, Row
from todm.files import write_json, write_text
from todm.tables import UNKNOWN, Column

if TYPE_CHECKING:
    from matplotlib.figure import Figure

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
        parts += [f"## {table.title}", ROWS.to_markdown(rows), f"![{table.title}]({image.name})"]
        data.append({"title": table.title, "rows": [asdict(row) for row in rows]})
    for index, curve in enumerate(results.grid.curves):
        lines = {
            size: [row for name in curve.variants if (row := results.row(name, size)) is not None]
            for size in curve.sizes
        }
        image = files.report / f"curve-{index + 1}.png"
        _save(plot_curve(lines, curve), image)
        rows = [row for line in lines.values() for row in line]
        parts += [f"## {curve.title}", ROWS.to_markdown(rows), f"![{curve.title}]({image.name})"]
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


def format_race(finishes: list[Finish]) -> str:
    """Format a race in Markdown: minutes by seed, and their ratio to those of the first variant."""
    return RACE.to_markdown(finishes)


def _format_minutes(finish: Finish) -> str:
    return ", ".join("never" if taken is None else f"{taken / 60:.1f}" for taken in finish.seconds.values())


def _format_ratios(finish: Finish) -> str:
    return ", ".join(_format_ratio(finish.ratios.get(seed)) for seed in finish.seconds)


def _format_median(finish: Finish) -> str:
    return _format_ratio(statistics.median(finish.ratios.values()) if finish.ratios else None)


def _format_ratio(ratio: float | None) -> str:
    if ratio is None:  # nothing to compare with
        return UNKNOWN
    return "never" if math.isinf(ratio) else f"{ratio:.2f}"


def _format_difference(row: Row) -> str | None:
    if row.versus is None:
        return None
    clear = row.versus.low > 0.0 or row.versus.high < 0.0
    mean, low, high = (f"{value:+.2f}" for value in (row.versus.mean, row.versus.low, row.versus.high))
    return f"{mean} [{low}, {high}]" + (" *" if clear else "")


ROWS = tables.Table[Row](
    Column("variant", lambda row: row.variant, left=True),
    Column("size", lambda row: row.size, left=True),
    Column("WER % [95%]", lambda row: row.wer, left=True),
    Column("seeds", lambda row: ", ".join(f"{wer:.1f}" for wer in row.by_seed.values()), left=True),
    Column("difference [95%]", _format_difference, left=True),
    Column("parameters", lambda row: row.params / 1e6, "{:.2f} M"),
    Column("non-zero", lambda row: row.nonzero, "{:.1%}"),
    Column("minutes", lambda row: row.seconds / 60, "{:.1f}"),
)
RACE = tables.Table[Finish](
    Column("variant", lambda finish: finish.variant, left=True),
    Column("minutes, seed by seed", _format_minutes, left=True),
    Column("of the first, seed by seed", _format_ratios, left=True),
    Column("median", _format_median, left=True),
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
