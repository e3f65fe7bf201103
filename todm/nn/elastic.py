"""Slices of full-width modules: how one weight serves every spec. Views, never copies.

What is used whole is not sliced: the gradient of a slice is a copy into zeros.
"""

from __future__ import annotations

from torch import Tensor

from todm.nn.feedforward import FeedForward, FeedForwardWeights
from todm.nn.mhssm import MhSsm, MhSsmWeights
from todm.nn.ssm import BlockOperators


def slice_feed_forward(ffn: FeedForward, ffn_dim: int) -> FeedForwardWeights:
    """The first `ffn_dim` hidden units of `ffn`."""
    whole = ffn.weights()
    return FeedForwardWeights(
        in_weight=_first(whole.in_weight, ffn_dim),
        in_bias=_first(whole.in_bias, ffn_dim),
        out_weight=_first(whole.out_weight, ffn_dim, dim=1),
        out_bias=whole.out_bias,
    )


def slice_mhssm(mhssm: MhSsm, channels: int) -> MhSsmWeights:
    """The first `channels` SSM channels of `mhssm`: those of the forward direction, or all of them."""
    whole = mhssm.weights()
    return MhSsmWeights(
        in_weight=_first(whole.in_weight, channels),
        in_bias=_first(whole.in_bias, channels),
        out_weight=_first(whole.out_weight, channels // 2, dim=1),
        out_bias=whole.out_bias,
    )


def slice_operators(operators: BlockOperators, channels: int) -> BlockOperators:
    """The block form of the first `channels` SSM channels."""
    return BlockOperators(*(_first(tensor, channels) for tensor in operators))


def _first(tensor: Tensor, count: int, dim: int = 0) -> Tensor:
    return tensor if tensor.shape[dim] == count else tensor.narrow(dim, 0, count)
