"""Run the parity ladder of a bundle: torch, ONNX fp32, int8, and sherpa-onnx on the same utterances."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "compare an ONNX folder with the torch net it came from"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """``BUNDLE --corpus-dir D --part P``."""
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="ONNX folder")
    parser.add_argument("--corpus-dir", type=Path, required=True, help="folder in LibriSpeech's layout")
    parser.add_argument("--part", required=True, help="folder of the corpus")
    parser.add_argument(
        "--model",
        type=Path,
        metavar="SUBNET",
        help="subnet folder (default: ../../subnets/<name of the bundle>)",
    )
    parser.add_argument("--limit", type=int, default=0, help="utterances at most (default: all)")


def run(args: argparse.Namespace) -> None:
    """Print the ladder; ``parity.json`` stays in the bundle."""
    from todm.deploy.verify import verify_bundle

    bundle: Path = args.bundle
    subnet = args.model or bundle.resolve().parent.parent / "subnets" / bundle.resolve().name
    parity = verify_bundle(bundle, subnet, args.corpus_dir, args.part, limit=args.limit)
    print(f"{bundle} on {parity.utterances} utterances of {parity.part}")
    print(f"features differ by at most {parity.feature_difference:.1e} (bins within 50 dB of the loudest)")
    for form in parity.forms:
        note = "" if form.name == "torch" else f"  {form.differing} transcripts differ from torch"
        print(f"  {form.name:<14} WER {form.wer:6.2f}%{note}")
    for name, reason in parity.missing.items():
        print(f"  {name:<14} left out: {reason}")
