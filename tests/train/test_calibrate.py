"""The bias of blank after training."""

from __future__ import annotations

from unittest import mock

import pytest
import torch

from tests.nets import SPACE, make_batch, make_supernet
from todm.data.tokenizer import Tokenizer
from todm.decode.wer import Utterance
from todm.runtime.constants import BLANK_ID
from todm.train import calibrate
from todm.train.calibrate import STEPS, calibrate_blank


@pytest.mark.parametrize(
    ("wrong", "taken"),
    [
        ({0.0: 3, 1.0: 2, 1.5: 1, 2.0: 1, 2.5: 1, 3.0: 2, 4.0: 3, 5.0: 4}, 1.5),
        # Two nets: 2 * 3 errors are within 4 + 2.
        ({0.0: 4, 1.0: 3, 1.5: 3, 2.0: 2, 2.5: 2, 3.0: 3, 4.0: 3, 5.0: 4}, 1.0),
        ({0.0: 1, 0.5: 1, 1.0: 2, 2.0: 3, 3.0: 4, 4.0: 4, 5.0: 4}, 0.0),
    ],
)
def test_the_least_amount_within_a_standard_error_of_the_fewest(
    wrong: dict[float, int], taken: float
) -> None:
    net = make_supernet().eval()
    bias = net.full.joiner.output.bias
    before = bias.detach().clone()
    specs = [SPACE.max(), SPACE.min()]

    def transcribe(extracted: torch.nn.Module, *_: object, chunks: object) -> list[Utterance]:
        amount = before[BLANK_ID] - extracted.get_parameter("joiner.output.bias")[BLANK_ID]
        count = wrong[round(float(amount), 1)]
        return [Utterance(id="a", ref=("ONE",) * 4, hyp=("ONE",) * (4 - count))]

    tokenizer = Tokenizer.train(["AB BA ABBA CAB ABC BAC CCC ACBA"] * 20, 16)
    with mock.patch.object(calibrate, "transcribe_batches", transcribe):
        errors = calibrate_blank(net, specs, [make_batch([70], [2])], tokenizer, 320)
    assert set(errors) > set(STEPS)
    assert errors == {amount: 2 * count for amount, count in wrong.items()}
    assert torch.isclose(before[BLANK_ID] - bias[BLANK_ID], torch.tensor(taken))
    assert torch.equal(bias[1:], before[1:])
