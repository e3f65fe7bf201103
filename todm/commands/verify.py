"""Run the parity checks of a bundle: torch, ONNX fp32, int8 and sherpa-onnx on the same utterances."""

from __future__ import annotations

import argparse
from pathlib import Path

import todm.api as api


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``todm verify``."""
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="ONNX folder")
    parser.add_argument("--corpus-dir", type=Path, required=True, help="folder in LibriSpeech's layout")
    parser.add_argument("--part", required=True, help="part of the corpus, for example dev-clean-2")
    parser.add_argument(
        "--model", type=Path, metavar="SUBNET", help="subnet folder (default: the bundle's in the same run)"
    )
    parser.add_argument(
        "--num-utterances", type=int, default=0, metavar="N", help="utterances at most (default: all)"
    )


def run(args: argparse.Namespace) -> None:
    """Print one line per form of the net; ``parity.json`` is written into the bundle."""
    bundle: Path = args.bundle
    folder = bundle.resolve()
    subnet = args.model or folder.parents[1] / "subnets" / folder.name
    parity = api.verify_bundle(bundle, subnet, args.corpus_dir, args.part, limit=args.num_utterances)
    print(f"{bundle} on {parity.utterances} utterances of {parity.part}")
    print(f"features differ by at most {parity.feature_difference:.1e} (bins within 50 dB of the loudest)")
    for form in parity.forms:
        note = "" if form.name == "torch" else f"  {form.differing} transcripts differ from torch"
        print(f"  {form.name:<14} WER {form.wer:6.2f}%{note}")
    for name, reason in parity.missing.items():
        print(f"  {name:<14} left out: {reason}")
