"""Average the weights of a run into EXP/supernet."""

from __future__ import annotations

import argparse
from pathlib import Path

import todm
import todm.api as api
from todm.commands import add_exp_dir, get_exp_dir, take_settings
from todm.errors import UserError
from todm.layout import RunFolder

SETTING = "train.calibrate_utterances"
"""The only setting that averaging reads and training does not."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``todm average``."""
    add_exp_dir(parser, "run folder with checkpoints", positional=True)
    parser.add_argument(
        "--last",
        metavar="N",
        type=int,
        help="average the N newest checkpoints (default: the running average kept in training)",
    )
    take_settings(parser, f"The run's {SETTING} can be overridden, for example --{SETTING} 200.")


def run(args: argparse.Namespace) -> None:
    """Write EXP/supernet and print its size."""
    exp_dir = get_exp_dir(args)
    result = todm.Run(exp_dir).average(last=args.last, calibrate_utterances=_read_setting(exp_dir, args))
    if result.calibration is not None:
        print(result.calibration)
    print(f"{result.folder}: averaged supernet, {result.num_weights:,} numbers")


def _read_setting(exp_dir: Path, args: argparse.Namespace) -> int | None:
    config = RunFolder(exp_dir).config
    for word in args.overrides:
        if word.startswith("-") and word.removeprefix("--").partition("=")[0] != SETTING:
            raise UserError(f"{word}: not an option here; of the settings only {SETTING} can be changed now")
    if not config.is_file():
        return None  # reported by `todm.Run.average`
    values = api.read_overrides(config, "train", args.overrides)
    count: int | None = values.get("calibrate_utterances")
    return count
