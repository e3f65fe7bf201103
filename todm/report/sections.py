"""Sections of the HTML report; an empty string where a run has nothing to show."""

from __future__ import annotations

import re
import statistics
from collections.abc import Callable, Iterable, Mapping
from html import escape
from typing import Any, NamedTuple, TypeVar

from todm.config import config_to_yaml
from todm.report.contents import PartScore, RunContents, Size
from todm.report.ladder import ladder_table
from todm.report.plots import COSTS, plot_losses, plot_pareto, plot_rates, plot_validation, plot_widths
from todm.runtime.benchmark_result import BenchmarkResult
from todm.search.latency import FIGURES, Fit
from todm.tables import Column, Table, format_cell

Row = TypeVar("Row")

STAGE_NAMES = (
    "corpus", "manifests", "features", "tokenizer", "train", "average", "search", "extract", "fine-tune",
    "decode", "export", "bench", "report",
)  # fmt: skip

_PARETO_CAPTION = (
    "Named sizes are evaluated on a whole part, after extraction. The line is the front of the search, small "
    "marks are its other specs, both on the utterances of the search. Hollow marks are quantized files."
)
_WIDTHS_CAPTION = "Each bar is a running layer, its height the feed-forward width; a gap is a layer left out."
_LOSS_CAPTION = "Mean over the batches since the previous point, for each net of a step."
_VALIDATION_CAPTION = "The first epochs may lie above the plot."


def show_missing(run: RunContents) -> str:
    """List what was not found."""
    if not run.missing:
        return ""
    items = "\n".join(f"<li>{escape(text)}</li>" for text in run.missing)
    return f'<div class="missing"><p>Not in this report:</p>\n<ul>\n{items}\n</ul></div>'


def show_ladder(run: RunContents) -> str:
    """Show the size ladder."""
    if not run.sizes:
        return "<h2>Size ladder</h2>\n<p>No subnets were extracted.</p>"
    text = (
        "All sizes are slices of one supernet. WER with greedy search; MB: the three ONNX models; RTF: "
        "seconds of work per second of audio."
    )
    return _section("Size ladder", text, _scroll(ladder_table(run), run.sizes))


def show_fine_tuned(run: RunContents) -> str:
    """Compare subnets before and after fine-tuning."""

    class Tuned(NamedTuple):
        before: Size
        after: Size
        part: str

    sizes = {size.name: size for size in run.sizes}
    rows = [
        Tuned(before, after, part)
        for name, after in sizes.items()
        if (before := sizes.get(name.removesuffix("-tuned"))) is not None and before is not after
        for part in run.parts
        if part in before.wer and part in after.wer
    ]
    table = Table[Tuned](
        Column("size", lambda row: row.before.name, left=True),
        Column("part", lambda row: row.part, left=True),
        Column("WER % before", lambda row: row.before.wer[row.part], "{:.2f}"),
        Column("after", lambda row: row.after.wer[row.part], "{:.2f}"),
        Column("change", lambda row: row.after.wer[row.part] - row.before.wer[row.part], "{:+.2f}"),
    )
    return _section("Fine-tuned subnets", "", _scroll(table, rows)) if rows else ""


def show_compared(run: RunContents) -> str:
    """Compare nets trained alone with the size of the same mode and the most similar number of parameters."""

    class Compared(NamedTuple):
        name: str
        part: str
        alone: Size
        ours: Size | None

    rows = []
    for other in run.compared:
        for size in other.sizes:
            for part in run.parts:
                if part in size.wer:
                    near = [
                        s for s in run.sizes if s.spec.mode == size.spec.mode and part in s.wer and s.params
                    ]
                    ours = min(near, key=lambda s: abs((s.params or 0) - (size.params or 0)), default=None)
                    rows.append(Compared(f"{other.name}/{size.name}", part, size, ours))
    table = Table[Compared](
        Column("trained alone", lambda row: row.name, left=True),
        Column("part", lambda row: row.part, left=True),
        Column("params", lambda row: row.alone.millions, "{:.2f} M"),
        Column("WER %", lambda row: row.alone.wer[row.part], "{:.2f}"),
        Column("nearest size", lambda row: row.ours and row.ours.name),
        Column("params", lambda row: row.ours and row.ours.millions, "{:.2f} M"),
        Column("WER %", lambda row: row.ours and row.ours.wer[row.part], "{:.2f}"),
    )
    return _section("Comparison with nets trained alone", "", _scroll(table, rows)) if rows else ""


def show_pareto(run: RunContents) -> str:
    """Plot WER against each cost."""
    plots = [svg for cost in COSTS if (svg := plot_pareto(run, cost)) is not None]
    if not plots:
        return "<h2>Pareto plots</h2>\n<p>No size was decoded and no search was run.</p>"
    return _section("Pareto plots", _PARETO_CAPTION, "\n".join(f"<figure>{svg}</figure>" for svg in plots))


def show_widths(run: RunContents) -> str:
    """Plot layers and widths of the sizes."""
    return _figure("Layers and widths", plot_widths(run), _WIDTHS_CAPTION, "No subnets were extracted.")


def show_training(run: RunContents) -> str:
    """Plot losses, validation and learning rate of the training."""
    figures = (
        _figure("Training", plot_losses(run), _LOSS_CAPTION, "No training curves were found."),
        _figure("", plot_validation(run), _VALIDATION_CAPTION, ""),
        _figure("", plot_rates(run), "Learning rate of the main parameter group.", ""),
    )
    return "\n".join(figure for figure in figures if figure)


def show_search_comparison(run: RunContents) -> str:
    """Compare the hypervolumes of search methods."""

    class Method(NamedTuple):
        mode: str
        name: str
        result: Mapping[str, Any]

    rows = [
        Method(mode, name, result)
        for mode, methods in run.comparison.get("modes", {}).items()
        for name, result in methods.items()
    ]
    table = Table[Method](
        Column("mode", lambda row: row.mode, left=True),
        Column("method", lambda row: row.name, left=True),
        Column("mean", lambda row: row.result["mean"], "{:.4f}"),
        Column("deviation", lambda row: row.result["std"], "{:.4f}"),
        Column("seeds", lambda row: len(row.result["hypervolumes"])),
    )
    text = (
        f"Hypervolume after {run.comparison.get('evaluations')} evaluations, as a share of the box between "
        "the best and the worst values of all methods."
    )
    return _section("Comparison of search methods", text, _scroll(table, rows)) if rows else ""


def show_parity(run: RunContents) -> str:
    """Show the results of the parity checks."""
    verified = [size for size in run.sizes if size.parity]
    if not verified:
        return "<h2>Torch against ONNX</h2>\n<p>No ONNX folder was compared with torch.</p>"

    def column(key: str) -> Column[Size]:
        return Column(key, lambda size: size.parity.get(key))

    keys = dict.fromkeys(key for size in verified for key in size.parity)
    table = Table[Size](Column("size", lambda size: size.name, left=True), *map(column, keys))
    return _section("Torch against ONNX", "", _scroll(table, verified))


def show_decodes(run: RunContents) -> str:
    """Show word error rates with intervals and kinds of errors."""

    def interval(item: PartScore) -> str | None:
        return None if item.interval is None else f"{item.interval[0]:.2f} to {item.interval[1]:.2f}"

    table = Table[PartScore](
        Column("model", lambda item: item.model, left=True),
        Column("part", lambda item: item.part, left=True),
        Column("WER %", lambda item: item.wer, "{:.2f}"),
        Column("95% interval", interval),
        Column("words", lambda item: item.counts.get("words")),
        Column("inserted", lambda item: item.counts.get("ins")),
        Column("deleted", lambda item: item.counts.get("del")),
        Column("substituted", lambda item: item.counts.get("sub")),
    )
    return _section("Word errors", "", _scroll(table, run.decodes)) if run.decodes else ""


def show_worst(run: RunContents) -> str:
    """List the utterances with the most errors of each decoded part, collapsed."""
    blocks = []
    for item in run.worst:
        rows = "\n".join(
            f"<dt>{escape(name)} <small>{escape(count)}</small></dt><dd>{_mark_errors(alignment)}</dd>"
            for name, count, alignment in item.utterances
        )
        shown = f"{len(item.utterances)} of " if item.total > len(item.utterances) else ""
        blocks.append(
            f"<details><summary>{escape(item.model)}, {escape(item.part)}: {shown}{item.total} utterances "
            f"with errors</summary><dl>{rows}</dl></details>"
        )
    text = "Transcript, then the recognised text in its place; a star is no word."
    return _section("Worst utterances", text, "\n".join(blocks)) if blocks else ""


def show_speeds(run: RunContents) -> str:
    """Show the results of the benchmarks."""

    def latency(head: str, field: str, percentile: str) -> Column[BenchmarkResult]:
        def value(result: BenchmarkResult) -> float | None:
            percentiles = getattr(result, field)
            return percentiles and percentiles.to_dict().get(percentile)

        return Column(head, value)

    table = Table[BenchmarkResult](
        Column("size", lambda result: result.name, left=True),
        Column("runtime", lambda result: result.runtime),
        Column("precision", lambda result: result.precision),
        Column("threads", lambda result: result.num_threads),
        Column("RTF", lambda result: result.rtf),
        Column("chunk ms", lambda result: result.chunk_ms),
        Column("load s", lambda result: result.load_seconds),
        Column("first s", lambda result: result.cold_seconds),
        Column("RAM MB", lambda result: result.peak_rss_mb),
        latency("call p50 ms", "latency_ms", "p50"),
        latency("call p95 ms", "latency_ms", "p95"),
        latency("first token ms", "first_token_ms", "p50"),
        latency("end of speech ms", "end_of_speech_ms", "p50"),
    )
    return _section("Speed", "", _scroll(table, run.benchmarks)) if run.benchmarks else ""


def show_devices(run: RunContents) -> str:
    """Show the latency models of devices and their errors."""

    class Model(NamedTuple):
        fit: Fit
        figure: Any

        def error(self, summarize: Callable[[Iterable[float]], float]) -> float | None:
            errors = self.fit.errors(self.figure)
            return summarize(errors) if errors else None

    table = Table[Model](
        Column("run as", lambda row: row.fit.run_mode, left=True),
        Column("figure", lambda row: row.figure, left=True),
        Column("base", lambda row: row.fit.models[row.figure].base, "{:.3g}"),
        Column("per layer", lambda row: row.fit.models[row.figure].per_layer, "{:.3g}"),
        Column(
            "per unit",
            lambda row: ", ".join(f"{unit:.3g}" for unit in row.fit.models[row.figure].per_unit.values()),
        ),
        Column("fitted on", lambda row: len(row.fit.fitted)),
        Column("held out", lambda row: len(row.fit.held_out)),
        Column("median error", lambda row: row.error(statistics.median), "{:.1%}"),
        Column("largest", lambda row: row.error(max), "{:.1%}"),
    )
    blocks = []
    for device in run.devices:
        cpu = device.machine.get("cpu")
        name = escape(device.device + (f" ({cpu})" if cpu else ""))
        rows = [Model(fit, figure) for fit in device.fits for figure in FIGURES]
        blocks.append(f"<h3>{name}</h3>\n" + _scroll(table, rows))
    text = (
        "Prediction: base + layers x per layer + hidden units x per unit. Errors are relative, on subnets "
        "that were held out of the fit, or in leave-one-out cross-validation without any."
    )
    return _section("Devices", text, "\n".join(blocks)) if blocks else ""


def show_stages(run: RunContents) -> str:
    """Show the duration of each stage."""

    def name(mark: str) -> str:
        number, _, detail = mark.partition("-")
        stage = STAGE_NAMES[int(number)] if int(number) < len(STAGE_NAMES) else ""
        return f"{number} {stage} {detail}".strip()

    rows = [*((name(mark), seconds) for mark, seconds in run.stages.items())]
    rows.append(("total", sum(run.stages.values())))
    table = Table[tuple[str, int]](
        Column("stage", lambda row: row[0], left=True),
        Column("minutes", lambda row: f"{row[1] // 60}:{row[1] % 60:02d}"),
    )
    return _section("Stages", "", _scroll(table, rows)) if run.stages else ""


def show_commands(run: RunContents) -> str:
    """Show the commands that created the run."""
    if not run.commands.strip():
        return "<h2>Commands</h2>\n<p>The commands of this run were not recorded.</p>"
    return f"<h2>Commands</h2>\n<pre>{escape(run.commands.strip())}</pre>"


def show_settings(run: RunContents) -> str:
    """Show the config, collapsed."""
    if run.config is None:
        return ""
    text = escape(config_to_yaml(run.config).strip())
    return f"<h2>Settings</h2>\n<details><summary>config.yaml</summary><pre>{text}</pre></details>"


def show_environment(environment: Mapping[str, Any]) -> str:
    """Show versions and machine of the report."""
    if not environment:
        return ""
    lines = "\n".join(f"{key}: {format_cell(value)}" for key, value in environment.items())
    return f"<h2>Environment of the report</h2>\n<pre>{escape(lines)}</pre>"


def _section(title: str, text: str, body: str) -> str:
    paragraph = f"<p>{escape(text)}</p>\n" if text else ""
    return f"<h2>{escape(title)}</h2>\n{paragraph}{body}"


def _figure(title: str, svg: str | None, caption: str, absent: str) -> str:
    head = f"<h2>{title}</h2>\n" if title else ""
    if svg is None:
        return f"{head}<p>{absent}</p>" if absent else head
    return f"{head}<figure>{svg}<figcaption>{escape(caption)}</figcaption></figure>"


def _scroll(table: Table[Row], rows: Iterable[Row]) -> str:
    return f'<div class="scroll">{table.to_html(rows)}</div>'


def _mark_errors(alignment: str) -> str:
    """Format errors ``(transcript->recognised)`` as marks."""
    return re.sub(
        r"\((.*?)-&gt;(.*?)\)", r"<mark><del>\1</del> <ins>\2</ins></mark>", escape(alignment, quote=False)
    )
