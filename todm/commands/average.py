"""``todm average EXP``: the averaged supernet of a run."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from todm.config import Config

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
    from todm.config_io import load_config
    from todm.errors import UserError
    from todm.model_dir import save_supernet
    from todm.train.average import average

    exp_dir: Path = args.exp_dir
    if not exp_dir.is_dir():
        raise UserError(f"{exp_dir}: no such run folder; give the --exp-dir of a training")
    config = load_config(exp_dir / "config.yaml")
    weights = average(exp_dir, from_running=args.last is None, last=1 if args.last is None else args.last)
    if config.train.calibrate_utterances:
        _calibrate(weights, config, exp_dir)
    folder = exp_dir / "supernet"
    save_supernet(folder, weights, config, exp_dir / "data" / "lang")
    print(f"{folder}: averaged supernet, {sum(value.numel() for value in weights.values()):,} numbers")


def _calibrate(weights: dict[str, Tensor], config: Config, exp_dir: Path) -> None:
    """Set the bias of blank in `weights` on training utterances, and say what it brings."""
    from itertools import islice

    from todm.data.loader import load_train_cuts, make_eval_loader
    from todm.data.tokenizer import Tokenizer
    from todm.nn.supernet import Supernet
    from todm.space.space import SearchSpace
    from todm.train.calibrate import BLANK, calibrate_blank

    tokenizer = Tokenizer.load(exp_dir / "data" / "lang")
    space = SearchSpace.from_config(config)
    net = Supernet(config.model, space, tokenizer.vocab_size).eval()
    net.load_state_dict(weights)
    bias = net.full.joiner.output.bias
    before = bias[BLANK].item()
    cuts = islice(load_train_cuts(exp_dir / "data"), config.train.calibrate_utterances)
    batches = list(make_eval_loader(list(cuts), tokenizer))
    specs = dict.fromkeys(space.ladder().values())
    errors = calibrate_blank(net, specs, batches, tokenizer)
    weights["full.joiner.output.bias"] = bias.detach().clone()
    taken = before - bias[BLANK].item()
    print(
        f"bias of blank: less by {taken:.1f}; errors of all sizes on {config.train.calibrate_utterances} "
        f"training utterances: {errors[0.0]} before, {min(errors.values())} now"
    )
