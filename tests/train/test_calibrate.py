"""The bias of blank after training."""

from __future__ import annotations

from unittest import mock

import torch

from tests.nets import SPACE, make_batch, make_supernet
from todm.data.tokenizer import Tokenizer
from todm.decode.wer import Utterance
from todm.train import calibrate
from todm.train.calibrate import BLANK, STEPS, calibrate_blank


def test_the_amount_with_the_fewest_errors_is_taken_the_least_of_equals() -> None:
    net = make_supernet().eval()
    bias = net.full.joiner.output.bias
    before = bias.detach().clone()
    specs = [SPACE.max(), SPACE.min()]
    wrong = {0.0: 3, 1.0: 2, 1.5: 1, 2.0: 1, 2.5: 1, 3.0: 2, 4.0: 3, 5.0: 4}

    def transcribe(extracted: torch.nn.Module, *_: object, chunks: object) -> list[Utterance]:
        taken = before[BLANK] - extracted.get_parameter("joiner.output.bias")[BLANK]
        count = wrong[round(float(taken), 1)]
        return [Utterance(id="a", ref=("ONE",) * 4, hyp=("ONE",) * (4 - count))]

    tokenizer = Tokenizer.train(["AB BA ABBA CAB ABC BAC CCC ACBA"] * 20, 16)
    with mock.patch.object(calibrate, "transcribe_batches", transcribe):
        errors = calibrate_blank(net, specs, [make_batch([70], [2])], tokenizer, 320)
    assert errors == {amount: 2 * wrong[amount] for amount in (*STEPS, 1.5, 2.5)}
    assert torch.isclose(before[BLANK] - bias[BLANK], torch.tensor(1.5))
    assert torch.equal(bias[1:], before[1:])
