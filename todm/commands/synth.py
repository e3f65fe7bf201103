"""``todm synth``: a small spoken corpus to try everything on."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

HELP = "write a small synthetic corpus in LibriSpeech's layout"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, required=True, help="folder for LibriSpeech/<part>/...")
    parser.add_argument("--seed", type=int, default=1, help="same seed, same bytes (default: 1)")
    parser.add_argument("--train-utterances", type=int, help="in train-clean-5 (default: 9000, 3.5 hours)")
    parser.add_argument("--dev-utterances", type=int, help="in dev-clean-2 (default: 120, 3 minutes)")
    parser.add_argument("--test-utterances", type=int, help="in test-clean (default: 120, 3 minutes)")
    parser.add_argument("--train-speakers", type=int, help="voices in training (default: 104)")
    parser.add_argument("--eval-speakers", type=int, help="voices in each other part (default: 8)")
    parser.add_argument("--num-jobs", type=int, default=os.cpu_count() or 1, help="processes")


def run(args: argparse.Namespace) -> None:
    from todm.data.synth import SynthSettings, synthesise

    names = ("train_utterances", "dev_utterances", "test_utterances", "train_speakers", "eval_speakers")
    given = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    root = synthesise(args.out, SynthSettings(seed=args.seed, **given), num_jobs=args.num_jobs)
    print(f"corpus in {root}")
