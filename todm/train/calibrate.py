"""Calibration of the bias of blank, which balances deletions and insertions of greedy search.

A transducer spreads a word's probability over a few frames, and greedy search emits it only if it exceeds
blank in one of them: after training, deletions are far more frequent than insertions. A lower bias of blank
corrects this by a single number, which is part of the joiner and hence shared by all sizes and runtimes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from todm.config import Config
from todm.data.batch import Batch
from todm.data.loader import first_train_cuts, make_eval_loader
from todm.data.tokenizer import Tokenizer
from todm.decode.evaluate import transcribe_batches
from todm.decode.streaming import make_streaming_view
from todm.decode.wer import compute_wer
from todm.extract import extract
from todm.layout import RunFolder
from todm.nn.supernet import Supernet
from todm.runtime.constants import BLANK_ID
from todm.space.space import SearchSpace
from todm.space.spec import SubnetSpec

STEPS = (0.0, 1.0, 2.0, 3.0, 4.0, 5.0)
"""Amounts subtracted from the bias, in nats; then half a step to either side of the best is tried."""


def calibrate_run(weights: dict[str, Tensor], config: Config, exp_dir: Path) -> str:
    """Calibrate the bias of blank in `weights` for the named sizes, on a run's first training utterances.

    Args:
        weights: state dict of the run's supernet; its bias is replaced.
        config: settings of the run; ``train.calibrate_utterances`` is the number of utterances.
        exp_dir: run folder with ``data/``.

    Returns:
        One line that describes the result.
    """
    run = RunFolder(exp_dir)
    tokenizer = Tokenizer.load(run.lang)
    space = SearchSpace.from_config(config)
    net = Supernet(config.model, space, tokenizer.vocab_size).eval()
    net.load_state_dict(weights)
    bias = net.full.joiner.output.bias
    before = bias[BLANK_ID].item()
    count = config.train.calibrate_utterances
    cuts = first_train_cuts(config.data, run.data, count)
    batches = list(make_eval_loader(cuts, tokenizer))
    specs = dict.fromkeys(space.ladder().values())
    errors = calibrate_blank(net, specs, batches, tokenizer, config.export.chunk_ms)
    weights["full.joiner.output.bias"] = bias.detach().clone()
    taken = before - bias[BLANK_ID].item()
    return (
        f"bias of blank: less by {taken:.1f}; errors of all sizes on {count} training utterances: "
        f"{errors[0.0]} before, {errors[round(taken, 1)]} now"
    )


@torch.no_grad()
def calibrate_blank(
    net: Supernet,
    specs: Iterable[SubnetSpec],
    batches: Sequence[Batch],
    tokenizer: Tokenizer,
    chunk_ms: int,
) -> dict[float, int]:
    """Lower the joiner's bias of blank by the amount with the fewest errors, or hardly more.

    The smallest amount within one standard error of the fewest errors is used (Breiman et al., Classification
    and Regression Trees, 1984): a count of E errors is uncertain by about the root of E.

    Args:
        net: in eval mode; its bias is changed.
        specs: nets whose errors are counted, all with the same weight.
        batches: training utterances without augmentation; the dev parts are not used.
        tokenizer: tokenizer of the labels.
        chunk_ms: audio per chunk that streaming nets will be exported for, milliseconds.

    Returns:
        Errors of all nets by the amount subtracted.
    """
    bias = net.full.joiner.output.bias
    before = bias[BLANK_ID].clone()
    errors: dict[float, int] = {}

    def count(amount: float) -> None:
        bias[BLANK_ID] = before - amount
        errors[amount] = 0
        for spec in specs:
            plain = extract(net, spec)
            scored = transcribe_batches(
                plain, batches, tokenizer, chunks=make_streaming_view(plain, chunk_ms)
            )
            errors[amount] += compute_wer(scored, replications=1).errors

    for amount in STEPS:
        count(amount)
    near = min(errors, key=lambda amount: (errors[amount], amount))
    for amount in (near - 0.5, near + 0.5):
        if amount > 0.0:
            count(amount)
    fewest = min(errors.values())
    bias[BLANK_ID] = before - min(a for a, number in errors.items() if number <= fewest + math.sqrt(fewest))
    return errors
