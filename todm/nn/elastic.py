"""Slices of full-width modules: how one weight serves every spec. Views, never copies."""

from __future__ import annotations

from todm.nn.feedforward import FeedForward, FeedForwardWeights
from todm.nn.mhssm import MhSsm, MhSsmWeights


def slice_feed_forward(ffn: FeedForward, ffn_dim: int) -> FeedForwardWeights:
    """The first `ffn_dim` hidden units of `ffn`."""
    whole = ffn.weights()
    return FeedForwardWeights(
        in_weight=whole.in_weight[:ffn_dim],
        in_bias=whole.in_bias[:ffn_dim],
        out_weight=whole.out_weight[:, :ffn_dim],
        out_bias=whole.out_bias,
    )


def slice_mhssm(mhssm: MhSsm, channels: int) -> MhSsmWeights:
    """The first `channels` SSM channels of `mhssm`: those of the forward direction, or all of them."""
    whole = mhssm.weights()
    return MhSsmWeights(
        in_weight=whole.in_weight[:channels],
        in_bias=whole.in_bias[:channels],
        out_weight=whole.out_weight[:, : channels // 2],
        out_bias=whole.out_bias,
    )
