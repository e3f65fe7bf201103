"""Chart of `todm bench`: real-time factor by bundle, precision and runtime."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from todm.runtime.benchmark_result import BenchmarkResult

COLORS = ("#3b6ea5", "#d98c3a", "#5a9c6b", "#b2576b", "#7f6bb0", "#8a8a8a")


def chart_values(results: Sequence[BenchmarkResult]) -> dict[str, dict[str, float]]:
    """RTF by ``runtime precision`` and by bundle, each at the smallest number of threads measured."""
    values: dict[str, dict[str, float]] = {}
    for result in sorted(results, key=lambda item: -item.num_threads):
        values.setdefault(f"{result.runtime} {result.precision}", {})[result.name] = result.rtf
    # As they were measured, not as they were sorted.
    order = dict.fromkeys(f"{result.runtime} {result.precision}" for result in results)
    return {series: values[series] for series in order}


def draw_chart(results: Sequence[BenchmarkResult], path: Path) -> None:
    """Write a PNG with one group of bars per bundle; shorter is faster."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    values = chart_values(results)
    names = list(dict.fromkeys(result.name for result in results))
    height = 0.8 / len(values)
    figure = Figure(figsize=(7.0, 1.2 + 0.25 * len(names) * (len(values) + 1)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for index, (series, by_name) in enumerate(values.items()):
        places = [names.index(name) + (index - (len(values) - 1) / 2) * height for name in by_name]
        color = COLORS[index % len(COLORS)]
        bars = axes.barh(places, list(by_name.values()), height=0.9 * height, color=color, label=series)
        axes.bar_label(bars, fmt="%.3g", padding=2, fontsize=7)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.spines[["top", "right"]].set_visible(False)
    threads = min(result.num_threads for result in results)
    axes.set_xlabel(f"seconds of work per second of audio, {threads} thread{'s' if threads > 1 else ''}")
    axes.legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    figure.savefig(path, dpi=150)
