"""``todm average EXP``: the averaged supernet of a run."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "average a run's weights into EXP/supernet"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("exp_dir", metavar="EXP", type=Path, help="folder of the run")
    parser.add_argument(
        "--last",
        metavar="N",
        type=int,
        default=None,
        help="average the weights of the N newest checkpoints, not the running average kept in training",
    )


def run(args: argparse.Namespace) -> None:
    """Write EXP/supernet and say so."""
    from todm.config import load_config
    from todm.dropout.reweighted import sparsify
    from todm.errors import UserError
    from todm.model_dir import save_supernet
    from todm.train.average import average
    from todm.train.calibrate import calibrate_run

    exp_dir: Path = args.exp_dir
    if not exp_dir.is_dir():
        raise UserError(f"{exp_dir}: no such run folder; give the --exp-dir of a training")
    config = load_config(exp_dir / "config.yaml")
    weights = average(exp_dir, from_running=args.last is None, last=1 if args.last is None else args.last)
    sparsify(weights, config.train.dropout)
    if config.train.calibrate_utterances:
        print(calibrate_run(weights, config, exp_dir))
    folder = exp_dir / "supernet"
    save_supernet(folder, weights, config, exp_dir / "data" / "lang")
    print(f"{folder}: averaged supernet, {sum(value.numel() for value in weights.values()):,} numbers")
