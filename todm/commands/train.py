"""Train a supernet on a prepared run folder, or go on with the training that is there."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from todm.commands import add_config_arguments
from todm.errors import UserError

HELP = "train the supernet (or one net alone: a space of one spec)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """``--conf FILE --exp-dir EXP`` and overrides."""
    add_config_arguments(parser)
    parser.add_argument("--exp-dir", type=Path, help="run folder that 'todm prepare' filled")


def run(args: argparse.Namespace) -> None:
    """Train; without ``--conf`` the run folder's own config is used."""
    from todm.config_io import load_config
    from todm.train.loop import train

    if args.exp_dir is None:
        raise UserError("--exp-dir: missing; name the run folder that 'todm prepare' filled")
    conf = args.conf
    if conf is None and (args.exp_dir / "config.yaml").is_file():
        conf = args.exp_dir / "config.yaml"
    config = load_config(conf, args.overrides)
    log_file = args.exp_dir / "train" / "train.log"
    log_file.parent.mkdir(parents=True, exist_ok=True)
    logging.basicConfig(
        level=logging.INFO,
        format="%(asctime)s %(message)s",
        datefmt="%H:%M:%S",
        handlers=[logging.StreamHandler(), logging.FileHandler(log_file)],
        force=True,
    )
    train(config, args.exp_dir)
