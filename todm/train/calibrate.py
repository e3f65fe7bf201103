"""The bias of blank, set so that greedy search leaves out no more words than it makes up.

A transducer spreads a word's probability over a few frames, and greedy search says it only where it beats
blank in one of them: after training, words are left out far more often than they are made up. Less bias for
blank mends that in one number, which the joiner, and so every size and every runtime, shares.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch

from todm.data.batch import Batch
from todm.data.tokenizer import Tokenizer
from todm.decode.evaluate import transcribe_batches
from todm.decode.wer import compute_wer
from todm.extract import extract
from todm.nn.supernet import Supernet
from todm.space.spec import SubnetSpec

BLANK = 0
STEPS = (0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0)
"""What may be taken from the bias, nats."""


@torch.no_grad()
def calibrate_blank(
    net: Supernet, specs: Iterable[SubnetSpec], batches: Sequence[Batch], tokenizer: Tokenizer
) -> dict[float, int]:
    """Take from the joiner's bias of blank what makes the fewest errors, the least of equals.

    Args:
        net: in eval mode; its bias is changed.
        specs: nets that count, all equally.
        batches: utterances that were trained on, undistorted: the dev parts stay unseen.
        tokenizer: of the net.

    Returns:
        errors over all nets by what was taken away.
    """
    bias = net.full.joiner.output.bias
    before = bias[BLANK].clone()
    errors: dict[float, int] = {}
    for amount in STEPS:
        bias[BLANK] = before - amount
        results = [
            compute_wer(transcribe_batches(extract(net, spec), batches, tokenizer), replications=1)
            for spec in specs
        ]
        errors[amount] = sum(result.errors for result in results)
    bias[BLANK] = before - min(errors, key=lambda amount: (errors[amount], amount))
    return errors
