from __future__ import annotations

import math

import pytest
import torch

from todm.losses.contrastive import info_nce, pool


def test_info_nce_is_its_formula() -> None:
    torch.manual_seed(0)
    one, other = torch.randn(5, 7).double(), torch.randn(5, 7).double()
    wanted = 0.0
    for i in range(5):
        scores = [math.exp(torch.cosine_similarity(one[i], other[j], dim=0).item() / 0.3) for j in range(5)]
        wanted -= math.log(scores[i] / sum(scores))
    assert info_nce(one, other, temperature=0.3).item() == pytest.approx(wanted)


def test_partners_attract_and_others_repel() -> None:
    torch.manual_seed(0)
    one, other = (torch.randn(6, 8).requires_grad_() for _ in range(2))
    optimizer = torch.optim.SGD([one, other], lr=0.5)
    first = info_nce(one, other, temperature=0.2).item()
    for _ in range(200):
        optimizer.zero_grad()
        info_nce(one, other, temperature=0.2).backward()
        optimizer.step()
    similarity = torch.cosine_similarity(one[:, None], other[None], dim=-1).detach()
    assert info_nce(one, other, temperature=0.2).item() < 0.1 * first
    assert (similarity.diag() > 0.8).all() and similarity[~torch.eye(6, dtype=torch.bool)].max() < 0.3


def test_a_batch_of_one_has_nobody_to_be_told_from() -> None:
    view = torch.randn(1, 4)
    assert info_nce(view, -view, temperature=0.05).item() == 0.0


def test_pooling_is_the_mean_of_an_utterance_s_own_frames() -> None:
    torch.manual_seed(0)
    out = torch.randn(3, 5, 4)
    pooled = pool(out, torch.tensor([5, 2, 0]))
    torch.testing.assert_close(pooled[0], out[0].mean(0))
    torch.testing.assert_close(pooled[1], out[1, :2].mean(0))
    assert not pooled[2].any()
