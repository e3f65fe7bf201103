"""Slices against whole modules whose other units are silenced."""

from __future__ import annotations

import torch

from todm.nn.elastic import slice_feed_forward, slice_mhssm
from todm.nn.feedforward import FeedForward, feed_forward
from todm.nn.mhssm import MultiHeadSSM


@torch.no_grad()
def test_a_narrow_feed_forward_is_the_whole_one_with_its_last_units_off() -> None:
    torch.manual_seed(0)
    ffn = FeedForward(6, 10)
    x = torch.randn(2, 5, 6)
    for ffn_dim in (1, 4, 10):
        hidden = torch.nn.functional.silu(ffn.in_proj(x))
        hidden[..., ffn_dim:] = 0.0
        torch.testing.assert_close(feed_forward(x, slice_feed_forward(ffn, ffn_dim)), ffn.out_proj(hidden))


def test_slices_are_views() -> None:
    """Gradients of every spec end in the one full weight."""
    torch.manual_seed(0)
    ffn, block = FeedForward(6, 10), MultiHeadSSM(6, 4, 2, 3)
    x = torch.randn(2, 5, 6)
    feed_forward(x, slice_feed_forward(ffn, 4)).sum().backward()
    assert ffn.in_proj.weight.grad is not None
    used = ffn.in_proj.weight.grad.abs().sum(1) > 0
    assert used.tolist() == [True] * 4 + [False] * 6
    part = slice_mhssm(block, block.direction_dim)
    assert part.in_weight.data_ptr() == block.in_proj.weight.data_ptr()
    assert part.out_weight.shape == (6, block.direction_dim // 2)
    assert part.in_weight.shape == (block.direction_dim, 6)
