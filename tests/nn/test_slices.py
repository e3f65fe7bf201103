"""Slices against whole modules whose other units are silenced."""

from __future__ import annotations

import torch

from todm.nn.feedforward import FeedForward, apply_feed_forward
from todm.nn.mhssm import MultiHeadSSM
from todm.nn.ssm import BlockOperators, block_operators


@torch.no_grad()
def test_a_narrow_feed_forward_is_the_whole_one_with_its_last_units_off() -> None:
    torch.manual_seed(0)
    ffn = FeedForward(6, 10)
    x = torch.randn(2, 5, 6)
    for count in (1, 4, 10):
        hidden = torch.nn.functional.silu(ffn.in_proj(x))
        hidden[..., count:] = 0.0
        torch.testing.assert_close(apply_feed_forward(x, ffn.slice_units(count)), ffn.out_proj(hidden))


def test_slices_are_views() -> None:
    """Gradients of every spec end in the one full weight."""
    torch.manual_seed(0)
    ffn, block = FeedForward(6, 10), MultiHeadSSM(6, 4, 2, 3)
    x = torch.randn(2, 5, 6)
    apply_feed_forward(x, ffn.slice_units(4)).sum().backward()
    assert ffn.in_proj.weight.grad is not None
    used = ffn.in_proj.weight.grad.abs().sum(1) > 0
    assert used.tolist() == [True] * 4 + [False] * 6
    operators = block_operators(block.ssm.coefficients(), 4)
    part = block.slice_channels(block.direction_dim, operators)
    assert isinstance(part.operators, BlockOperators) and len(part.operators.local) == block.direction_dim
    assert part.in_weight.data_ptr() == block.in_proj.weight.data_ptr()
    assert part.out_weight.shape == (6, block.direction_dim // 2)
    assert part.in_weight.shape == (block.direction_dim, 6)
