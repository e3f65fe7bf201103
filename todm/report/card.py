"""The model card of a bundle: what it is, what was measured, how to run it, what to know."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from todm.files import write_text
from todm.report.gather import Run
from todm.report.manifest import manifest_entries

CARD = "README.md"


def write_cards(run: Run) -> list[Path]:
    """Write ``README.md`` into every bundle of the run."""
    paths = []
    for entry in manifest_entries(run):
        path = run.exp / "bundles" / entry["folder"] / CARD
        write_text(path, model_card(run, entry))
        paths.append(path)
    return paths


def model_card(run: Run, entry: dict[str, Any]) -> str:
    """Markdown about one entry of the manifest."""
    streaming = entry["mode"] == "streaming"
    widths = ", ".join(map(str, entry["spec"]["ffn_dims"]))
    facts = [
        (
            "mode",
            f"streaming, chunks of {entry['chunk_ms']} ms" if streaming else "offline, whole utterances",
        ),
        ("parameters", _count(entry["params"])),
        ("encoder layers", f"{len(entry['spec']['layers'])}, feed-forward widths {widths}"),
        ("multiplications per second of audio", _count(entry["macs_per_second"])),
    ]
    if streaming:
        facts.append(("state of a stream", f"{entry['state_bytes'] or 0:,} bytes"))
    for precision, files in entry["files"].items():
        names = ", ".join(files[part] for part in ("encoder", "decoder", "joiner"))
        facts.append((precision, f"{files['bytes'] / 1e6:.2f} MB: {names}"))
    if entry["chosen_for"]:
        facts.append(("chosen for", ", ".join(entry["chosen_for"])))
    lines = [
        f"# {entry['name']}",
        "",
        "A speech recogniser: a transducer (RNN-T) with a multi-head state-space encoder, one size of a "
        "supernet that todm trained.",
        "",
        *_table(("", ""), facts),
        "",
        "## Figures",
        "",
    ]
    if entry["wer"]:
        rows = [(part, f"{wer:.2f}") for part, wer in entry["wer"].items()]
        rows += [(f"{part}, int8", f"{wer:.2f}") for part, wer in entry["wer_int8"].items()]
        lines += ["Word error rate, greedy search:", "", *_table(("part", "WER %"), rows), ""]
    else:
        lines += ["Not decoded on any part of a corpus yet.", ""]
    speeds = [
        (item["runtime"], item["precision"], str(item["threads"]), f"{item['rtf']:.4f}", _ms(item))
        for item in entry["measured"]
    ]
    speeds += [
        (
            f"predicted for {item['device']}",
            item["precision"],
            str(item["threads"]),
            f"{item['rtf']:.4f}",
            _ms(item),
        )
        for item in entry["predicted"]
    ]
    if speeds:
        heads = ("speed", "precision", "threads", "RTF", "call ms, 95%")
        lines += [*_table(heads, speeds), ""]
    lines += [
        "## Use",
        "",
        "```sh",
        "pip install -r requirements.txt",
        "python transcribe.py recording.wav",
        "```",
        "",
        "Stock sherpa-onnx loads the same files: "
        + ("`OnlineRecognizer.from_transducer`." if streaming else "`OfflineRecognizer.from_transducer`."),
        "",
        "## What to know",
        "",
        "- Audio is 16 kHz, mono, in [-1, 1].",
    ]
    if streaming:
        lines.append("- The last words come out when silence follows them.")
    if run.config:
        data = run.config.data
        lines.append(
            f"- Trained on {', '.join(data.train_parts)}; other voices, rooms and words than those will fare "
            "worse than the figures above."
        )
        if run.config.model.subsampling_factor == 8:
            lines.append(
                "- An encoder frame is 80 ms; sherpa-onnx takes it for 40: its timestamps and endpoints are "
                "halved."
            )
    return "\n".join(lines) + "\n"


def _table(heads: tuple[str, ...], rows: list[Any]) -> list[str]:
    return [
        "| " + " | ".join(cells) + " |" for cells in (heads, ("---",) * len(heads), *(tuple(r) for r in rows))
    ]


def _count(value: int | None) -> str:
    return "not known" if value is None else f"{value:,}"


def _ms(item: dict[str, Any]) -> str:
    return "" if item["latency_p95_ms"] is None else f"{item['latency_p95_ms']:.1f}"
