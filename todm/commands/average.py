"""Average the weights of a run into EXP/supernet."""

from __future__ import annotations

import argparse

import todm
from todm.commands import add_exp_dir, get_exp_dir


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``todm average``."""
    add_exp_dir(parser, "run folder with checkpoints", positional=True)
    parser.add_argument(
        "--last",
        metavar="N",
        type=int,
        help="average the N newest checkpoints (default: the running average kept in training)",
    )


def run(args: argparse.Namespace) -> None:
    """Write EXP/supernet and print its size."""
    result = todm.Run(get_exp_dir(args)).average(last=args.last)
    if result.calibration is not None:
        print(result.calibration)
    print(f"{result.folder}: averaged supernet, {result.num_weights:,} numbers")
