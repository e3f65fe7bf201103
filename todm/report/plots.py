"""Plots as SVG text with CSS variables as colours, which adapt to the dark mode of the page."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from todm.report.contents import RunContents, Size
from todm.search.front import Point

# Placeholder colours, which are replaced by the variables of the page.
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


@dataclass(frozen=True, kw_only=True)
class CostAxis:
    """Horizontal axis of a Pareto plot.

    Args:
        label: label of the axis.
        sizes: function from a size to its costs by precision.
        figure: objective of the search that is the same cost, or None.
        scale: unit of the axis in units of that objective.
    """

    label: str
    sizes: Callable[[Size], Mapping[str, float]]
    figure: str | None = None
    scale: float = 1.0


COSTS = (
    CostAxis(
        label="parameters, millions",
        sizes=lambda size: {} if size.millions is None else {"fp32": size.millions},
        figure="params",
        scale=1e6,
    ),
    CostAxis(label="ONNX files, MB", sizes=lambda size: size.megabytes, figure="size", scale=1e6),
    CostAxis(label="RTF, one thread or the fewest measured", sizes=lambda size: size.rtf),
)


def plot_pareto(run: RunContents, cost: CostAxis) -> str | None:
    """Plot WER against a cost: sizes on the first decoded part, evaluated specs, other nets.

    Quantized files are hollow marks at the word error rate of ``todm verify``.
    """
    part = run.parts[0] if run.parts else None
    figure = cost.figure or ""
    evaluated = [point for point in run.search.points if figure in point.figures]
    front = [point for point in run.search.front if figure in point.figures]
    marks = list(_marks(run, cost, part))
    if not marks and not front:
        return None

    def draw(axes: Axes) -> None:
        for mode, color in _MODE_COLOR.items():
            marker = _MODE_MARKER[mode]
            seen = [point for point in evaluated if point.spec.mode == mode]
            if seen:
                axes.scatter(*_xy(seen, cost), s=8, color=_FAINT, marker=marker, linewidths=0)
            best = sorted((p for p in front if p.spec.mode == mode), key=lambda p: p.figures[figure])
            if best:
                axes.plot(*_xy(best, cost), color=color, alpha=0.7, label=f"search front, {mode}")
            for kind, label, fill, edge in (
                ("fp32", f"{mode}, {part}", color, color),
                ("int8", f"{mode}, int8", "none", color),
                ("alone", f"{mode}, trained alone", _SERIES[2], _SERIES[2]),
            ):
                mine = [m for m in marks if m.size.spec.mode == mode and m.kind == kind]
                if mine:
                    x, y = [m.x for m in mine], [m.wer for m in mine]
                    axes.scatter(x, y, s=34, marker=marker, facecolors=fill, edgecolors=edge, label=label)
        for m in marks:
            # Names of specs are too long for a plot.
            if m.kind != "int8" and not m.size.name.startswith("L"):
                place = (m.x, m.wer)
                axes.annotate(m.size.name, place, xytext=(4, 4), textcoords="offset points", fontsize=8)
        axes.set_xlabel(cost.label)
        axes.set_ylabel("WER, %")
        axes.margins(x=0.12)
        axes.set_ylim(0, 1.3 * axes.get_ylim()[1])  # room for the legend
        axes.legend(fontsize=8, loc="upper right", ncols=2)

    return _svg(draw, f"WER against {cost.label}")


@dataclass(frozen=True, kw_only=True)
class _Mark:
    """Mark of one net in a Pareto plot; `kind` is ``fp32``, ``int8`` or ``alone``."""

    size: Size
    kind: str
    x: float
    wer: float


def _marks(run: RunContents, cost: CostAxis, part: str | None) -> Iterable[_Mark]:
    for size in run.sizes:
        costs = cost.sizes(size)
        if part in size.wer and "fp32" in costs:
            yield _Mark(size=size, kind="fp32", x=costs["fp32"], wer=size.wer[part or ""])
        # The files are verified on some of the utterances, so only their difference can be shown here.
        if part in size.wer and "int8" in costs and size.int8_loss is not None:
            yield _Mark(size=size, kind="int8", x=costs["int8"], wer=size.wer[part or ""] + size.int8_loss)
    for size in (size for other in run.compared for size in other.sizes):
        costs = cost.sizes(size)
        if part in size.wer and "fp32" in costs:
            yield _Mark(size=size, kind="alone", x=costs["fp32"], wer=size.wer[part or ""])


def plot_widths(run: RunContents) -> str | None:
    """Plot the running layers of the sizes and their widths, a row of bars per size."""
    sizes = list(run.sizes)
    if not sizes:
        return None
    widest = {name: max(max(size.spec.width(name)) for size in sizes) for name in sizes[0].spec.widths}
    num_layers = max(size.spec.layers[-1] for size in sizes) + 1

    def draw(axes: Axes) -> None:
        for row, size in enumerate(reversed(sizes)):
            color = _MODE_COLOR[size.spec.mode]
            layers = size.spec.layer_specs()
            shares = [[width / widest[name] for name, width in layer.widths] for layer in layers]
            heights = [0.85 * sum(layer) / len(layer) for layer in shares]
            axes.bar(size.spec.layers, heights, bottom=row, width=0.9, color=color, alpha=0.45)
            for index, layer in zip(size.spec.layers, layers, strict=True):
                place, text = (index, row), "/".join(str(width) for _, width in layer.widths)
                axes.annotate(text, place, xytext=(0, 2), textcoords="offset points", ha="center", fontsize=7)
        axes.set_yticks([row + 0.4 for row in range(len(sizes))], [size.name for size in reversed(sizes)])
        axes.set_xticks(range(num_layers), [str(layer) for layer in range(num_layers)])
        axes.set_xlim(-0.6, num_layers - 0.4)
        axes.set_ylim(0, len(sizes))
        axes.set_xlabel("layer of the supernet")
        axes.tick_params(length=0)
        axes.grid(False)

    return _svg(draw, "widths per layer", height=0.6 + 0.42 * len(sizes))


def plot_losses(run: RunContents) -> str | None:
    """Plot the training losses over steps."""
    losses = collect_series(run.metrics, "train", ("subnets", "losses"))
    if max((len(series) for series in losses.values()), default=0) < 2:
        return None

    def draw(axes: Axes) -> None:
        _draw_series(axes, losses)
        if all(value > 0 for series in losses.values() for _, value in series):
            axes.set_yscale("log")
        axes.set_ylabel("loss per frame")

    return _svg(draw, "training losses")


def plot_validation(run: RunContents) -> str | None:
    """Plot the WER of a few sizes on the dev parts over steps."""
    errors = collect_series(run.metrics, "valid", ("wer", "losses"))
    if not errors:
        return None

    def draw(axes: Axes) -> None:
        _draw_series(axes, errors, marker=".")
        # Errors near 100% in the first epochs would hide the later ones.
        last = max(series[-1][1] for series in errors.values())
        axes.set_ylim(0, min(axes.get_ylim()[1], max(5 * last, 5.0)))
        axes.set_ylabel("dev WER, %")

    return _svg(draw, "dev WER during training", height=2.8)


def plot_rates(run: RunContents) -> str | None:
    """Plot the learning rate over steps."""
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
    """Collect figures by name as pairs of step and value.

    Args:
        metrics: lines of ``metrics.jsonl``.
        kind: kind of the lines used, ``train`` or ``valid``.
        groups: keys of a line that hold figures by name.
        limit: maximum number of names; the most frequent ones are kept.
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


def _xy(points: Sequence[Point], cost: CostAxis) -> tuple[list[float], list[float]]:
    figure = cost.figure or ""
    return [point.figures[figure] / cost.scale for point in points], [point.wer for point in points]


def _svg(draw: Any, title: str, *, width: float = 5.4, height: float = 3.4) -> str:
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
    text = text[text.index("<svg") :]  # without the XML prologue, which HTML does not allow
    for color, variable in _VARIABLES.items():
        text = text.replace(color, variable)
    return text.replace("<svg", f'<svg role="img" aria-label="{title}"', 1)
