"""Train the supernet of a prepared run folder, or fine-tune one subnet. Resumes automatically from the latest
checkpoint.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import todm
import todm.api as api
from todm.commands import add_config_arguments, start_log
from todm.config import load_config
from todm.errors import UserError
from todm.launch import ProcessesFailedError, started_by_launcher
from todm.layout import RunFolder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``todm train``."""
    add_config_arguments(parser)
    parser.add_argument("--exp-dir", type=Path, metavar="EXP", help="run folder with prepared data")
    parser.add_argument(
        "--fine-tune", metavar="NAME", help="continue training the subnet NAME into EXP/subnets/NAME-tuned"
    )
    parser.add_argument(
        "--until",
        type=int,
        default=0,
        metavar="STEP",
        help="stop after this many batches; the same command without it resumes from there",
    )


def run(args: argparse.Namespace) -> None:
    """Train; without ``--conf`` with the run folder's own config."""
    if args.exp_dir is None:
        raise UserError("--exp-dir: missing; name the run folder with prepared data")
    api.check_until(args.until)
    folder = RunFolder(args.exp_dir)
    if args.fine_tune is not None:
        _fine_tune(args, folder)
        return
    conf = args.conf
    if conf is None and folder.config.is_file():
        conf = folder.config
    config = load_config(conf, args.overrides, saved=args.conf is None)
    api.check_data(args.exp_dir, args.conf)
    if config.train.num_processes == 1 or started_by_launcher():
        start_log(folder)
    try:
        todm.Run(args.exp_dir, config).train(until=args.until)
    except ProcessesFailedError as error:
        raise SystemExit(error.code) from None  # the processes have reported it


def _fine_tune(args: argparse.Namespace, folder: RunFolder) -> None:
    if args.until:
        raise UserError(
            "--until: cannot be combined with --fine-tune; set train.max_steps for a shorter fine-tuning"
        )
    if args.conf is not None:
        load_config(args.conf, args.overrides)  # reports wrong settings before missing data
    result = api.fine_tune_run(
        args.exp_dir,
        args.fine_tune,
        args.overrides,
        conf=args.conf,
        on_start=lambda: start_log(folder.tuning(args.fine_tune)),
    )
    for part, wer in result.wer.items():  # empty in all processes but the first
        print(f"WER on {part}: {wer['before']:.2f}% before, {wer['after']:.2f}% after")
    if result.wer:
        print(f"fine-tuned subnet: {result.folder}")
