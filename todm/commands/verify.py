"""Check a bundle: parity of torch, ONNX fp32, int8 and sherpa-onnx, and behaviour in use."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import todm.api as api
from todm.layout import RunFolder
from todm.runtime.layout import BundleFiles
from todm.tables import Column, Table

_EXACT = ("torch chunks", "onnx fp32", "sherpa-onnx")
"""Forms that must have torch's transcripts."""

_IN_USE = Table[Any](
    Column("  check", lambda result: f"  {result.check}", left=True),
    Column("runtime", lambda result: result.runtime, left=True),
    Column("measured", lambda result: result.measured),
    Column("allowed", lambda result: result.allowed, "{:.1f}"),
    Column("unit", lambda result: result.unit, left=True),
    Column("", lambda result: "" if result.ok else "FAILED", left=True),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``todm verify``."""
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="ONNX folder")
    parser.add_argument(
        "--corpus-dir", type=Path, required=True, metavar="DIR", help="folder in LibriSpeech's layout"
    )
    parser.add_argument("--part", required=True, help="part of the corpus, for example dev-clean-2")
    parser.add_argument(
        "--model", type=Path, metavar="SUBNET", help="subnet folder (default: the bundle's in the same run)"
    )
    parser.add_argument(
        "--num-utterances", type=int, default=0, metavar="N", help="utterances at most (default: 0, all)"
    )
    parser.add_argument(
        "--strict", action="store_true", help="end with an error if an in-use check fails, after all checks"
    )


def run(args: argparse.Namespace) -> None:
    """Print one line per form of the net and per in-use check; ``parity.json`` is written into the bundle.

    Raises:
        UserError: with ``--strict``, a failed in-use check.
    """
    bundle: Path = args.bundle
    folder = bundle.resolve()
    subnet = args.model or RunFolder(folder.parents[1]).subnet(folder.name)
    parity = api.verify_bundle(bundle, subnet, args.corpus_dir, args.part, limit=args.num_utterances)
    print(f"{bundle} on {parity.utterances} utterances of {parity.part}")
    print(f"features differ by at most {parity.feature_difference:.1e} (bins within 50 dB of the loudest)")
    for form in parity.forms:
        note = "" if form.name == "torch" else f"  {form.differing} transcripts differ from torch"
        print(f"  {form.name:<14} WER {form.wer:6.2f}%{note}")
    for name, reason in parity.missing.items():
        print(f"  {name:<14} left out: {reason}")
    print("in use (noise: words at all levels together):")
    print(_IN_USE.to_text(parity.in_use))
    differing = sum(form.differing for form in parity.forms if form.name in _EXACT)
    print(
        f"{differing} transcripts of exact forms differ, {len(parity.failed)} of {len(parity.in_use)} in-use "
        f"checks failed; written to {BundleFiles(bundle).parity_report}"
    )
    if args.strict:
        api.require_in_use(bundle, parity)
