"""One HTML file without a network: tables, plots and commands of a run."""

from __future__ import annotations

import re
import statistics
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from html import escape
from typing import Any

from todm.config_io import config_to_yaml
from todm.report.gather import Run
from todm.report.ladder import format_millions, ladder_table
from todm.report.plots import COSTS, plot_losses, plot_pareto, plot_rates, plot_validation, plot_widths
from todm.search.latency import FIGURES

STAGE_NAMES = (
    "corpus", "manifests", "features", "bpe", "train", "average", "search", "extract", "fine-tune", "decode",
    "export", "bench", "report",
)  # fmt: skip

_STYLE = """
:root { color-scheme: light dark; --ground: #fdfdfb; --ink: #1b1f24; --faint: #a9afb6; --line: #dfe2e6;
  --soft: #f1f3f4; --note: #8a4b00;
  --series-0: #1f62b4; --series-1: #c2571a; --series-2: #2b8a4b; --series-3: #8a3fa0; --series-4: #a08a00;
  --series-5: #b3324a; }
@media (prefers-color-scheme: dark) { :root { --ground: #15181c; --ink: #e4e7ea; --faint: #6b737c;
  --line: #2c3238; --soft: #1e2328; --note: #f0b060;
  --series-0: #6cabf7; --series-1: #f29a5e; --series-2: #64c98a; --series-3: #c78be0; --series-4: #d9c54a;
  --series-5: #f07a90; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 62rem; padding: 1rem 1rem 4rem; background: var(--ground);
  color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: 1rem 0 0; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2.2rem 0 .5rem; }
p { margin: .4rem 0; max-width: 45rem; }
.when { color: var(--faint); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .7rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: var(--ground); }
td.text, th.text { text-align: left; }
figure { margin: .5rem 0 1.5rem; max-width: 40rem; }
svg { width: 100%; height: auto; display: block; }
figcaption { font-size: .85rem; }
pre { background: var(--soft); padding: .8rem; overflow-x: auto; font-size: .8rem; border-radius: .3rem; }
.missing { border-left: .25rem solid var(--note); padding: .1rem 0 .1rem .8rem; }
.missing li { margin: .2rem 0; overflow-wrap: anywhere; }
summary { cursor: pointer; padding: .3rem 0; }
h3 { font-size: 1rem; margin: 1rem 0 .3rem; }
dl { margin: .3rem 0 1rem; font-size: .9rem; }
dt { margin-top: .5rem; overflow-wrap: anywhere; }
dd { margin: 0 0 0 1rem; overflow-wrap: anywhere; }
small { color: var(--faint); }
mark { background: var(--soft); color: var(--note); padding: 0 .2rem; border-radius: .2rem; }
ins { text-decoration: none; font-weight: 600; }
"""


def render_page(run: Run, environment: Mapping[str, Any], *, now: datetime | None = None) -> str:
    """The whole page.

    Args:
        run: what was gathered.
        environment: versions and machine, by name.
        now: time of the report, the present when None.
    """
    name = run.exp.resolve().name
    when = (now or datetime.now(timezone.utc)).strftime("%Y-%m-%d %H:%M UTC")
    sections = [
        f'<h1>todm run {escape(name)}</h1>\n<p class="when">{when}</p>',
        _missing(run),
        _ladder(run),
        _tuned(run),
        _beside(run),
        _pareto(run),
        _figure("Layers and widths", plot_widths(run), _WIDTHS_CAPTION, "No subnets were extracted."),
        _comparison(run),
        _figure("Training", plot_losses(run), _LOSS_CAPTION, "No training curves were found."),
        _figure("", plot_validation(run), _VALIDATION_CAPTION, ""),
        _figure("", plot_rates(run), "Learning rate of the main parameter group.", ""),
        _parity(run),
        _decodes(run),
        _worst(run),
        _speeds(run),
        _devices(run),
        _stages(run),
        _commands(run),
        _settings(run),
        _environment(environment),
    ]
    body = "\n".join(section for section in sections if section)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>todm: {escape(name)}</title>\n<style>{_STYLE}</style>\n</head>\n"
        f"<body>\n{body}\n</body>\n</html>\n"
    )


LATENCIES = {
    "call p50 ms": ("latency_ms", "p50"),
    "call p95 ms": ("latency_ms", "p95"),
    "first token ms": ("first_token_ms", "p50"),
    "end of speech ms": ("end_of_speech_ms", "p50"),
}
"""Columns of the speed table: where they are found in a result of ``todm bench``."""

_PARETO_CAPTION = (
    "Named sizes are judged on a whole part, after extraction. The line is the front that the search found, "
    "small marks are the other specs it tried, both on the search's own utterances. Hollow marks are "
    "quantised files."
)
_WIDTHS_CAPTION = (
    "A bar for each layer that runs, as high as its feed-forward is wide; a gap is a layer left out."
)
_LOSS_CAPTION = "Mean over the batches since the line before, of each net that training runs."
_VALIDATION_CAPTION = (
    "With the weights of that moment, before averaging; the first epochs may lie above the plot."
)


def _missing(run: Run) -> str:
    if not run.missing:
        return ""
    items = "\n".join(f"<li>{escape(text)}</li>" for text in run.missing)
    return f'<div class="missing"><p>Not in this report:</p>\n<ul>\n{items}\n</ul></div>'


def _ladder(run: Run) -> str:
    heads, rows = ladder_table(run)
    if not rows:
        return "<h2>Size ladder</h2>\n<p>No subnets were extracted.</p>"
    return (
        "<h2>Size ladder</h2>\n<p>All of these are slices of one supernet. WER with greedy search; MB is the "
        "ONNX folder's three models; RTF is seconds of work per second of audio.</p>\n" + _table(heads, rows)
    )


def _tuned(run: Run) -> str:
    """Sizes that were trained on, before and after."""
    sizes = {size.name: size for size in run.sizes}
    rows = []
    for name, after in sizes.items():
        before = sizes.get(name.removesuffix("-tuned"))
        if before is None or before is after:
            continue
        for part in run.parts:
            if part in before.wer and part in after.wer:
                change = after.wer[part] - before.wer[part]
                rows.append(
                    [before.name, part, f"{before.wer[part]:.2f}", f"{after.wer[part]:.2f}", f"{change:+.2f}"]
                )
    if not rows:
        return ""
    heads = ["size", "part", "WER % before", "after", "change"]
    return "<h2>Trained on alone</h2>\n" + _table(heads, rows, text=2)


def _beside(run: Run) -> str:
    """Nets that were trained alone, each with the supernet's size of its mode that is nearest in size."""
    rows = []
    for other in run.beside:
        for size in other.sizes:
            for part in run.parts:
                if part not in size.wer:
                    continue
                near = [s for s in run.sizes if s.spec.mode == size.spec.mode and part in s.wer and s.params]
                mine = min(near, key=lambda s: abs((s.params or 0) - (size.params or 0)), default=None)
                ours = (
                    [mine.name, format_millions(mine.params), f"{mine.wer[part]:.2f}"] if mine else ["–"] * 3
                )
                name = f"{other.exp.resolve().name}/{size.name}"
                rows.append([name, part, format_millions(size.params), f"{size.wer[part]:.2f}", *ours])
    if not rows:
        return ""
    heads = ["trained alone", "part", "params", "WER %", "nearest size", "params", "WER %"]
    return "<h2>Beside nets that were trained alone</h2>\n" + _table(heads, rows, text=2)


def _pareto(run: Run) -> str:
    plots = [svg for cost in COSTS if (svg := plot_pareto(run, cost)) is not None]
    if not plots:
        return "<h2>Pareto plots</h2>\n<p>No size was decoded and no search was run.</p>"
    figures = [f"<figure>{svg}</figure>" for svg in plots]
    return f"<h2>Pareto plots</h2>\n<p>{escape(_PARETO_CAPTION)}</p>\n" + "\n".join(figures)


def _comparison(run: Run) -> str:
    rows = [
        [mode, method, f"{found['mean']:.4f}", f"{found['std']:.4f}", str(len(found["hypervolumes"]))]
        for mode, methods in run.comparison.get("modes", {}).items()
        for method, found in methods.items()
    ]
    if not rows:
        return ""
    text = (
        f"Hypervolume after {run.comparison.get('evaluations')} evaluations, as a share of the box between "
        "the best and the worst that any of them saw."
    )
    heads = ["mode", "method", "mean", "deviation", "seeds"]
    return f"<h2>The search beside its baselines</h2>\n<p>{escape(text)}</p>\n" + _table(heads, rows, text=2)


def _worst(run: Run) -> str:
    """The utterances with the most errors of each decoded part, folded up."""
    blocks = []
    for item in run.worst:
        rows = "\n".join(
            f"<dt>{escape(name)} <small>{escape(count)}</small></dt><dd>{_marked(alignment)}</dd>"
            for name, count, alignment in item.utterances
        )
        shown = f"{len(item.utterances)} of " if item.total > len(item.utterances) else ""
        blocks.append(
            f"<details><summary>{escape(item.model)}, {escape(item.part)}: {shown}{item.total} utterances "
            f"with errors</summary><dl>{rows}</dl></details>"
        )
    if not blocks:
        return ""
    text = "Said, then in its place what was recognised; a star is no word."
    return f"<h2>Worst utterances</h2>\n<p>{text}</p>\n" + "\n".join(blocks)


def _marked(alignment: str) -> str:
    """Errors ``(said->recognised)`` as marks."""
    return re.sub(
        r"\((.*?)-&gt;(.*?)\)", r"<mark><del>\1</del> <ins>\2</ins></mark>", escape(alignment, quote=False)
    )


def _devices(run: Run) -> str:
    """What the tables of ``todm latency`` say, and by how much they were wrong."""
    blocks = []
    for table in run.devices:
        rows = []
        for fit in table.fits:
            for figure in FIGURES:
                errors, model = fit.errors(figure), fit.models[figure]
                rows.append(
                    [
                        str(fit.way),
                        figure,
                        f"{model.base:.3g}",
                        f"{model.per_layer:.3g}",
                        f"{model.per_unit:.3g}",
                    ]
                    + [str(len(fit.fitted)), str(len(fit.held_out))]
                    + ([f"{statistics.median(errors):.1%}", f"{max(errors):.1%}"] if errors else ["–"] * 2)
                )
        heads = ["run as", "figure", "base", "per layer", "per unit", "fitted on", "held out"]
        heads += ["median error", "largest"]
        cpu = table.machine.get("cpu")
        name = escape(table.device + (f" ({cpu})" if cpu else ""))
        blocks.append(f"<h3>{name}</h3>\n" + _table(heads, rows, text=2))
    if not blocks:
        return ""
    text = (
        "A figure is predicted as base + layers x per layer + hidden units x per unit. Errors are relative, "
        "on subnets kept out of the fit, or leaving each one out where none were."
    )
    return f"<h2>Devices</h2>\n<p>{text}</p>\n" + "\n".join(blocks)


def _figure(title: str, svg: str | None, caption: str, absent: str) -> str:
    head = f"<h2>{title}</h2>\n" if title else ""
    if svg is None:
        return f"{head}<p>{absent}</p>" if absent else head
    return f"{head}<figure>{svg}<figcaption>{escape(caption)}</figcaption></figure>"


def _parity(run: Run) -> str:
    verified = [size for size in run.sizes if size.parity]
    if not verified:
        return "<h2>Torch against ONNX</h2>\n<p>No ONNX folder was compared with torch.</p>"
    keys = list(dict.fromkeys(key for size in verified for key in size.parity))
    rows = [[size.name, *(_show(size.parity.get(key)) for key in keys)] for size in verified]
    return "<h2>Torch against ONNX</h2>\n" + _table(["size", *keys], rows)


def _decodes(run: Run) -> str:
    if not run.decodes:
        return ""
    rows = []
    for item in run.decodes:
        interval = "–" if item.interval is None else f"{item.interval[0]:.2f} to {item.interval[1]:.2f}"
        counts = [_show(item.counts.get(key)) for key in ("words", "ins", "del", "sub")]
        rows.append([item.model, item.part, f"{item.wer:.2f}", interval, *counts])
    heads = ["model", "part", "WER %", "95% interval", "words", "inserted", "deleted", "substituted"]
    return "<h2>Word errors</h2>\n" + _table(heads, rows, text=2)


def _speeds(run: Run) -> str:
    if not run.benchmarks:
        return ""
    columns = {
        "runtime": "runtime", "precision": "precision", "num_threads": "threads", "rtf": "RTF",
        "chunk_ms": "chunk ms", "load_seconds": "load s", "cold_seconds": "first s", "peak_rss_mb": "RAM MB",
    }  # fmt: skip
    rows = []
    for item in run.benchmarks:
        figures = [_show(getattr(item, key)) for key in columns]
        for key, percentile in LATENCIES.values():
            latency = getattr(item, key)
            figures.append(_show(latency and latency.to_dict().get(percentile)))
        rows.append([item.name, *figures])
    return "<h2>Speed</h2>\n" + _table(["size", *columns.values(), *LATENCIES], rows)


def _stages(run: Run) -> str:
    if not run.stages:
        return ""
    rows = []
    for mark, seconds in run.stages.items():
        number, _, detail = mark.partition("-")
        name = STAGE_NAMES[int(number)] if int(number) < len(STAGE_NAMES) else ""
        rows.append([f"{number} {name} {detail}".strip(), f"{seconds // 60}:{seconds % 60:02d}"])
    total = sum(run.stages.values())
    rows.append(["together", f"{total // 60}:{total % 60:02d}"])
    return "<h2>Stages</h2>\n" + _table(["stage", "minutes"], rows)


def _commands(run: Run) -> str:
    if not run.commands.strip():
        return "<h2>Commands</h2>\n<p>The commands of this run were not noted.</p>"
    return f"<h2>Commands</h2>\n<pre>{escape(run.commands.strip())}</pre>"


def _settings(run: Run) -> str:
    if run.config is None:
        return ""
    text = escape(config_to_yaml(run.config).strip())
    return f"<h2>Settings</h2>\n<details><summary>config.yaml</summary><pre>{text}</pre></details>"


def _environment(environment: Mapping[str, Any]) -> str:
    if not environment:
        return ""
    lines = "\n".join(f"{key}: {_show(value)}" for key, value in environment.items())
    return f"<h2>Environment of the report</h2>\n<pre>{escape(lines)}</pre>"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]], *, text: int = 1) -> str:
    def row(tag: str, cells: Sequence[str]) -> str:
        inner = "".join(
            f"<{tag}{' class=text' if index < text else ''}>{escape(cell)}</{tag}>"
            for index, cell in enumerate(cells)
        )
        return f"<tr>{inner}</tr>"

    body = "\n".join(row("td", cells) for cells in rows)
    head = row("th", heads)
    return f'<div class="scroll"><table>\n<thead>{head}</thead>\n<tbody>{body}</tbody>\n</table></div>'


def _show(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)
