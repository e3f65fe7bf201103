"""Write a small synthetic corpus, spoken digits and commands, in LibriSpeech's layout."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from todm.data.synth import SynthSettings, synthesise
from todm.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``todm synth``."""
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="receives LibriSpeech/<part>/..."
    )
    parser.add_argument(
        "--seed", type=int, metavar="N", default=1, help="the same seed gives the same bytes (default: 1)"
    )
    parser.add_argument(
        "--train-utterances", type=int, metavar="N", help="in train-clean-5 (default: 9000, 3.5 hours)"
    )
    parser.add_argument(
        "--dev-utterances", type=int, metavar="N", help="in dev-clean-2 (default: 120, 3 minutes)"
    )
    parser.add_argument(
        "--test-utterances", type=int, metavar="N", help="in test-clean (default: 120, 3 minutes)"
    )
    parser.add_argument("--train-speakers", type=int, metavar="N", help="training voices (default: 104)")
    parser.add_argument(
        "--eval-speakers", type=int, metavar="N", help="voices in each other part (default: 8)"
    )
    parser.add_argument(
        "--num-jobs",
        type=int,
        metavar="N",
        default=os.cpu_count() or 1,
        help="processes (default: all cores)",
    )


def run(args: argparse.Namespace) -> None:
    """Write the corpus and print its folder."""
    if args.seed < 0:
        raise UserError(f"--seed: must not be negative, got {args.seed}")
    if args.num_jobs < 1:
        raise UserError(f"--num-jobs: must be at least 1, got {args.num_jobs}")
    names = ("train_utterances", "dev_utterances", "test_utterances", "train_speakers", "eval_speakers")
    given = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    settings = SynthSettings(seed=args.seed, **given)
    print(f"corpus in {synthesise(args.out, settings, num_jobs=args.num_jobs)}")
