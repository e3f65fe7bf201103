"""Train a supernet on a prepared run folder, or one of its subnets on; goes on with what is there."""

from __future__ import annotations

import argparse
import logging
import os
from pathlib import Path

from todm.commands import add_config_arguments
from todm.errors import UserError

HELP = "train the supernet (or one net alone: a space of one spec)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """``--conf FILE --exp-dir EXP`` and overrides."""
    add_config_arguments(parser)
    parser.add_argument("--exp-dir", type=Path, help="run folder that 'todm prepare' filled")
    parser.add_argument(
        "--init",
        "--fine-tune",
        dest="init",
        metavar="NAME",
        help="begin with the subnet NAME and train it on, alone, into EXP/subnets/NAME-tuned",
    )
    parser.add_argument(
        "--until",
        type=int,
        default=0,
        metavar="STEP",
        help="end after so many batches; the same command without it goes on from there",
    )


def run(args: argparse.Namespace) -> None:
    """Train; without ``--conf`` the run folder's own config is used."""
    from todm.config import load_config
    from todm.data.tokenizer import Tokenizer
    from todm.launch import run_together, started_by_launcher
    from todm.train.finetune import compare_tuned, find_subnet, fine_tune, tuning_dir
    from todm.train.loop import train
    from todm.train.sync import World

    if args.exp_dir is None:
        raise UserError("--exp-dir: missing; name the run folder that 'todm prepare' filled")
    if args.until < 0:
        raise UserError(f"--until: {args.until} is no number of batches; use 1 or more")
    if args.until and args.init is not None:
        raise UserError("--until: does not go with --init; set train.max_steps for a shorter fine-tuning")
    exp: Path = args.exp_dir
    if not (exp / "data").is_dir():
        raise UserError(f"{exp / 'data'}: missing; run 'todm prepare --exp-dir {exp}' first")
    if args.init is not None:
        find_subnet(exp, args.init)
        start_log(tuning_dir(exp, args.init) / "train" / "train.log")
        target = fine_tune(exp, args.init, args.overrides, conf=args.conf)
        if World.from_env().is_main:
            for part, wer in compare_tuned(exp, args.init).items():
                print(f"WER on {part}: {wer['before']:.2f}% before, {wer['after']:.2f}% after")
            print(f"subnet trained on: {target}")
        return
    conf = args.conf
    if conf is None and (exp / "config.yaml").is_file():
        conf = exp / "config.yaml"
    config = load_config(conf, args.overrides)
    if config.train.num_processes > 1 and not started_by_launcher():
        # Bad data must be told once, in one sentence, not by every process.
        Tokenizer.load(exp / "data" / "lang")
        code = run_together(args.words, config.train.num_processes, exp / "train")
        if code:
            raise SystemExit(code)
        return
    start_log(exp / "train" / "train.log")
    train(config, exp, until=args.until)


def start_log(path: Path) -> None:
    """Log to the terminal and to `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    logging.basicConfig(
        level=logging.INFO,
        format="%(asctime)s %(message)s",
        datefmt="%H:%M:%S",
        # Of several processes the first one's log is the run's.
        handlers=[logging.StreamHandler()]
        if os.environ.get("RANK", "0") != "0"
        else [
            logging.StreamHandler(),
            logging.FileHandler(path),
        ],
        force=True,
    )
