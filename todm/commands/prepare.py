"""Compute manifests, features and tokenizer of a corpus, or shards of features, into EXP/data."""

from __future__ import annotations

import argparse
from pathlib import Path

import todm
from todm.commands import add_config_arguments, add_exp_dir
from todm.config import load_config


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``todm prepare``."""
    add_config_arguments(parser)
    parser.add_argument(
        "--corpus-dir",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder in LibriSpeech's layout, or its parent",
    )
    add_exp_dir(parser, "run folder; the output goes to EXP/data")
    parser.add_argument(
        "--stage",
        action="append",
        type=_check_name,
        choices=("manifests", "sounds", "features", "tokenizer", "shar"),
        help="run only this stage; may be repeated (default: all; sounds with data.noise_dir or "
        "data.rir_dir, shar with data.shar_dir)",
    )


def _check_name(stage: str) -> str:
    """Refuse the earlier name of a stage with the present one."""
    if stage == "bpe":
        raise argparse.ArgumentTypeError("bpe is now called tokenizer")
    return stage


def run(args: argparse.Namespace) -> None:
    """Prepare the data and print counts."""
    config = load_config(args.conf, args.overrides)
    result = todm.Run(args.exp_dir, config).prepare(args.corpus_dir, stages=args.stage)
    for stage, values in result.figures.items():
        shown = (f"{key} {value:.2f}" if value % 1 else f"{key} {value:.0f}" for key, value in values.items())
        print(f"{stage}: {', '.join(shown)}")
    if result.skipped is not None:
        print(f"skipped utterances are listed in {result.skipped}")
