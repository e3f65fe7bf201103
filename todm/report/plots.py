"""Plots as SVG text whose colours are CSS variables, so that they follow the page into dark mode."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from todm.report.gather import Run
from todm.search.front import Point

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Colours that nothing else in a file can have, and the variables of the page that stand in for them.
_INK, _FAINT = "#010203", "#040506"
_SERIES = ("#0a0b01", "#0a0b02", "#0a0b03", "#0a0b04", "#0a0b05", "#0a0b06")
_VARIABLES = {
    _INK: "var(--ink)",
    _FAINT: "var(--faint)",
    **{color: f"var(--series-{index})" for index, color in enumerate(_SERIES)},
}
_STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "todm",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": _FAINT,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": _FAINT,
    "grid.alpha": 0.4,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
}
_MODE_COLOR = {"offline": _SERIES[0], "streaming": _SERIES[1]}
_MODE_MARKER = {"offline": "o", "streaming": "s"}


def plot_pareto(run: Run) -> str | None:
    """WER against parameters: the named sizes on the first decoded part, and what the search saw."""
    part = run.parts[0] if run.parts else None
    sizes = [size for size in run.sizes if size.params is not None and part in size.wer]
    evaluated = run.evaluated
    if not sizes and not evaluated.front:
        return None

    def draw(axes: Axes) -> None:
        for mode, color in _MODE_COLOR.items():
            marker = _MODE_MARKER[mode]
            seen = [point for point in evaluated.points if point.spec.mode == mode]
            if seen:
                axes.scatter(*_xy(seen), s=8, color=_FAINT, marker=marker, linewidths=0)
            front = sorted((p for p in evaluated.front if p.spec.mode == mode), key=lambda p: p.params)
            if front:
                axes.plot(*_xy(front), color=color, alpha=0.7, label=f"search front, {mode}")
            named = [size for size in sizes if size.spec.mode == mode]
            if named:
                x = [(size.params or 0) / 1e6 for size in named]
                y = [size.wer[part] for size in named if part]
                axes.scatter(x, y, s=34, color=color, marker=marker, label=f"{mode}, {part}", zorder=3)
            for size in named:
                if not size.name.startswith("L"):  # names made from a spec are too long for a plot
                    place = ((size.params or 0) / 1e6, size.wer[part or ""])
                    axes.annotate(size.name, place, xytext=(4, 4), textcoords="offset points", fontsize=8)
        axes.set_xlabel("parameters, millions")
        axes.set_ylabel("WER, %")
        axes.set_ylim(bottom=0)
        axes.margins(x=0.12)
        axes.legend(fontsize=8)

    return _svg(draw, "WER against parameters")


def plot_losses(run: Run) -> str | None:
    """Training losses over steps."""
    losses = collect_series(run.metrics, "train", ("subnets", "losses"))
    if max((len(series) for series in losses.values()), default=0) < 2:
        return None

    def draw(axes: Axes) -> None:
        _draw_series(axes, losses)
        if all(value > 0 for series in losses.values() for _, value in series):
            axes.set_yscale("log")
        axes.set_ylabel("loss per frame")

    return _svg(draw, "training losses")


def plot_validation(run: Run) -> str | None:
    """WER of a few sizes on the dev parts, over steps."""
    errors = collect_series(run.metrics, "valid", ("wer", "losses"))
    if not errors:
        return None

    def draw(axes: Axes) -> None:
        _draw_series(axes, errors, marker=".")
        # The first epochs' errors near 100% would hide all that comes after.
        last = max(series[-1][1] for series in errors.values())
        axes.set_ylim(0, min(axes.get_ylim()[1], max(5 * last, 5.0)))
        axes.set_ylabel("dev WER, %")

    return _svg(draw, "dev WER during training", height=2.8)


def plot_rates(run: Run) -> str | None:
    """Learning rate over steps."""
    rates = [(int(m["step"]), float(m["lr"])) for m in run.metrics if _is_number(m.get("lr"))]
    if len(rates) < 2:
        return None

    def draw(axes: Axes) -> None:
        axes.plot([step for step, _ in rates], [rate for _, rate in rates], color=_SERIES[0])
        axes.set_xlabel("batches")
        axes.set_ylabel("learning rate")
        axes.set_ylim(bottom=0)

    return _svg(draw, "learning rate", height=2.0)


def collect_series(
    metrics: Iterable[Mapping[str, Any]], kind: str, groups: Sequence[str], limit: int = 6
) -> dict[str, list[tuple[int, float]]]:
    """Figures by name over steps, from the lines of ``metrics.jsonl`` of one kind.

    Args:
        metrics: the lines.
        kind: ``train`` or ``valid``.
        groups: keys of a line that hold figures by name.
        limit: names at most, those that occur most.
    """
    series: dict[str, list[tuple[int, float]]] = {}
    for line in metrics:
        if line.get("kind", "train") != kind:
            continue
        for group in groups:
            values = line.get(group)
            for name, value in values.items() if isinstance(values, Mapping) else ():
                if _is_number(value):
                    series.setdefault(name, []).append((int(line["step"]), float(value)))
    kept = sorted(series, key=lambda name: -len(series[name]))[:limit]
    return {name: values for name, values in series.items() if name in kept}


def _draw_series(axes: Axes, series: Mapping[str, Sequence[tuple[int, float]]], marker: str = "") -> None:
    for (name, pairs), color in zip(series.items(), _SERIES, strict=False):
        steps, values = [step for step, _ in pairs], [value for _, value in pairs]
        axes.plot(steps, values, color=color, marker=marker, linewidth=1.2, label=name)
    axes.set_xlabel("batches")
    axes.legend(fontsize=8, ncols=2)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and abs(value) < float("inf") and value == value


def _xy(points: Sequence[Point]) -> tuple[list[float], list[float]]:
    return [point.params / 1e6 for point in points], [point.wer for point in points]


def _svg(draw: Any, title: str, *, width: float = 5.4, height: float = 3.4) -> str:
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):  # type: ignore[arg-type]  # wants the keys as literals
        figure: Figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasSVG(figure)
        figure.patch.set_visible(False)
        axes = figure.add_subplot()
        axes.patch.set_visible(False)
        draw(axes)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Title": title})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]  # without the XML prologue, which HTML has no place for
    for color, variable in _VARIABLES.items():
        text = text.replace(color, variable)
    return text.replace("<svg", f'<svg role="img" aria-label="{title}"', 1)
