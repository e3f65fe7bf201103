from __future__ import annotations

import pytest
import torch

from todm.nn.predictor import Predictor
from todm.runtime.constants import BLANK_ID


@pytest.mark.parametrize("context_size", [1, 2, 4])
@torch.no_grad()
def test_steps_equal_the_whole(context_size: int) -> None:
    torch.manual_seed(context_size)
    predictor = Predictor(9, 6, context_size, 5)
    labels = torch.randint(1, 9, (3, 7))
    whole = predictor(labels)
    assert whole.shape == (3, 8, 5)
    context = predictor.start(3)
    for u in range(8):
        torch.testing.assert_close(predictor.step(context), whole[:, u])
        if u < 7:
            context = torch.cat((context, labels[:, u : u + 1]), dim=1)[:, 1:]


@torch.no_grad()
def test_no_label_is_not_blank() -> None:
    """Hosts begin with -1 -1 ... 0; a negative id contributes nothing, blank has an embedding."""
    torch.manual_seed(0)
    predictor = Predictor(9, 6, 2, 5)
    assert predictor.start(1).tolist() == [[-1, BLANK_ID]]
    before = predictor.step(torch.tensor([[-1, 3]]))
    assert not torch.allclose(before, predictor.step(torch.tensor([[BLANK_ID, 3]])))
    for ids in ([[-1, 3]], [[-7, 3]]):
        torch.testing.assert_close(predictor.step(torch.tensor(ids)), before)
    predictor.embedding.weight[BLANK_ID] = 0.0
    torch.testing.assert_close(predictor.step(torch.tensor([[BLANK_ID, 3]])), before)


@torch.no_grad()
def test_sees_its_context_and_no_more() -> None:
    torch.manual_seed(0)
    predictor = Predictor(9, 6, 2, 5)
    one, other = torch.tensor([[4, 5, 6, 7]]), torch.tensor([[8, 5, 6, 7]])
    differs = (predictor(one) - predictor(other)).abs().amax(-1)[0] > 0
    assert differs.tolist() == [False, True, True, False, False]
    nothing = predictor(torch.zeros(1, 0, dtype=torch.int64))
    torch.testing.assert_close(nothing[:, 0], predictor(one)[:, 0])
