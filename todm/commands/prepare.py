"""``todm prepare``: manifests, features, BPE and shards of a corpus."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "turn a corpus folder into manifests, features and BPE pieces, or shards"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--conf", type=Path, help="YAML file with the run's settings")
    parser.add_argument(
        "--corpus-dir", type=Path, required=True, help="folder in LibriSpeech's layout, or its parent"
    )
    parser.add_argument(
        "--exp-dir", type=Path, required=True, help="run folder; output goes to its data folder"
    )
    parser.add_argument(
        "--stage",
        action="append",
        choices=("manifests", "features", "bpe", "shar"),
        help="run this stage only; may be given several times (default: all; shar if data.shar_dir is set)",
    )


def run(args: argparse.Namespace) -> None:
    from todm.config import load_config
    from todm.data.prepare import prepare

    config = load_config(args.conf, getattr(args, "overrides", []))
    figures = prepare(config, args.corpus_dir, args.exp_dir, stages=args.stage or ())
    for stage, values in figures.items():
        shown = (f"{key} {value:.2f}" if value % 1 else f"{key} {value:.0f}" for key, value in values.items())
        print(f"{stage}: {', '.join(shown)}")
    if any(values.get("skipped") for values in figures.values()):
        print(f"skipped utterances are listed in {args.exp_dir / 'data' / 'skipped.json'}")
