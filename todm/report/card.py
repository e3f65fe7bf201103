"""Model card of a bundle: description, results, usage and limitations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from todm.files import write_text
from todm.layout import RunFolder
from todm.report.contents import RunContents
from todm.report.manifest import manifest_entries
from todm.runtime.layout import MODEL_NAMES, BundleFiles
from todm.space.spec import SubnetSpec
from todm.tables import Column, Table

_FACTS = Table[tuple[str, str]](
    Column("", lambda fact: fact[0], left=True), Column("", lambda fact: fact[1], left=True)
)
_WERS = Table[tuple[str, float]](
    Column("part", lambda row: row[0], left=True), Column("WER %", lambda row: row[1], "{:.2f}")
)
_SPEEDS = Table[dict[str, Any]](
    Column("speed", lambda item: item.get("runtime") or f"predicted for {item['device']}", left=True),
    Column("precision", lambda item: item["precision"], left=True),
    Column("threads", lambda item: item["threads"]),
    Column("RTF", lambda item: item["rtf"], "{:.4f}"),
    Column("call ms, 95%", lambda item: item["latency_p95_ms"], "{:.1f}"),
)


def write_cards(run: RunContents) -> list[Path]:
    """Write ``README.md`` into every bundle of the run; returns their paths."""
    paths = []
    for entry in manifest_entries(run):
        path = BundleFiles(RunFolder(run.exp).bundle(entry["folder"])).card
        write_text(path, model_card(run, entry))
        paths.append(path)
    return paths


def model_card(run: RunContents, entry: dict[str, Any]) -> str:
    """Format one entry of the manifest as Markdown."""
    sections = [
        f"# {entry['name']}",
        "Speech recogniser: an RNN transducer with a multi-head state-space encoder, one size of a supernet "
        "trained with todm.",
        _FACTS.to_markdown(_list_facts(entry)),
        "## Results",
        *_format_results(entry),
        "## Use",
        "```sh\npip install -r requirements.txt\npython transcribe.py recording.wav\n```",
        f"sherpa-onnx loads the same files with `{_sherpa_class(entry)}.from_transducer`.",
        "## Limitations",
        "\n".join(f"- {text}" for text in _list_limitations(run, entry)),
    ]
    return "\n\n".join(sections) + "\n"


def _list_facts(entry: dict[str, Any]) -> list[tuple[str, str]]:
    spec = SubnetSpec.from_dict(entry["spec"])
    widths = "; ".join(f"{name} {', '.join(map(str, values))}" for name, values in spec.widths.items())
    streaming = entry["mode"] == "streaming"
    chunks = f", chunks of {entry['chunk_ms']} ms" if entry["chunk_ms"] else ""
    facts = [
        (
            "mode",
            f"streaming{chunks}" if streaming else "offline, whole utterances",
        ),
        ("parameters", _format_count(entry["params"])),
        ("encoder layers", f"{spec.depth}, widths {widths}"),
        ("multiplications per second of audio", _format_count(entry["macs_per_second"])),
    ]
    if streaming:
        facts.append(("state of a stream", f"{entry['state_bytes'] or 0:,} bytes"))
    for precision, files in entry["files"].items():
        names = ", ".join(files[name] for name in MODEL_NAMES)
        facts.append((precision, f"{files['bytes'] / 1e6:.2f} MB: {names}"))
    if entry["chosen_for"]:
        facts.append(("chosen for", ", ".join(entry["chosen_for"])))
    return facts


def _format_results(entry: dict[str, Any]) -> list[str]:
    sections = []
    if entry["wer"]:
        rows = list(entry["wer"].items())
        if verified := entry["verified"]:
            name = f"{verified['part']}, {verified['utterances']} utterances"
            rows += [(f"{name}, {precision}", wer) for precision, wer in verified["wer"].items()]
        sections += ["Word error rate, greedy search:", _WERS.to_markdown(rows)]
    else:
        sections.append("No corpus part was decoded.")
    if speeds := [*entry["measured"], *entry["predicted"]]:
        sections.append(_SPEEDS.to_markdown(speeds))
    return sections


def _list_limitations(run: RunContents, entry: dict[str, Any]) -> list[str]:
    texts = ["Audio is 16 kHz, mono, in [-1, 1]."]
    if entry["mode"] == "streaming":
        tail = f"{entry['tail_ms']:.0f} ms of silence" if entry.get("tail_ms") else "silence"
        texts.append(
            f"The last words need {tail} after them. The runtime appends it; with sherpa-onnx the caller "
            "does (metadata `tail_frames` of the encoder)."
        )
    if run.config:
        parts = ", ".join(run.config.data.train_parts)
        texts.append(
            f"Trained on {parts}; expect more errors than above for other voices, rooms and vocabularies."
        )
        if run.config.model.subsampling_factor == 8:
            texts.append(
                "An encoder frame is 80 ms, but sherpa-onnx assumes 40 ms: its timestamps and endpoint "
                "durations are half of the true ones."
            )
    return texts


def _sherpa_class(entry: dict[str, Any]) -> str:
    return "OnlineRecognizer" if entry["mode"] == "streaming" else "OfflineRecognizer"


def _format_count(value: int | None) -> str:
    return "not known" if value is None else f"{value:,}"
