"""Slices of full-width modules: how one weight serves every spec. Views, never copies.

What is used whole is not sliced: the gradient of a slice is a copy into zeros.
"""

from __future__ import annotations

from torch import Tensor

from todm.nn.feedforward import FeedForward, FeedForwardWeights, activate
from todm.nn.mhssm import MultiHeadSSM, MultiHeadSSMWeights
from todm.nn.ssm_scan import SsmOperators


def slice_feed_forward(ffn: FeedForward, ffn_dim: int) -> FeedForwardWeights:
    """The first `ffn_dim` hidden units of `ffn`."""
    whole = ffn.weights()
    return FeedForwardWeights(
        in_weight=_first(whole.in_weight, ffn_dim),
        in_bias=_first(whole.in_bias, ffn_dim),
        out_weight=_first(whole.out_weight, ffn_dim, dim=1),
        out_bias=whole.out_bias,
        gate_scale=None if whole.gate_scale is None else _first(whole.gate_scale, ffn_dim),
        gate_bias=None if whole.gate_bias is None else _first(whole.gate_bias, ffn_dim),
    )


def live_units(weights: FeedForwardWeights) -> Tensor:
    """Hidden units (F,) bool that hear and are heard: neither their in- nor their out-weights are all zero.

    One at least: where there is none, the first counts.
    """
    live = weights.in_weight.any(1) & weights.out_weight.any(0)
    if not live.any():
        live[0] = True
    return live


def without_dead_units(weights: FeedForwardWeights) -> FeedForwardWeights:
    """The `live_units` alone, computing the same: what the others add, whatever the input, joins the bias."""
    live = live_units(weights)
    if live.all():
        return weights
    hidden = activate(weights.in_bias, weights)  # of a unit without in-weights
    return FeedForwardWeights(
        in_weight=weights.in_weight[live],
        in_bias=weights.in_bias[live],
        out_weight=weights.out_weight[:, live],
        out_bias=weights.out_bias + weights.out_weight[:, ~live] @ hidden[~live],
        gate_scale=None if weights.gate_scale is None else weights.gate_scale[live],
        gate_bias=None if weights.gate_bias is None else weights.gate_bias[live],
    )


def slice_mhssm(mhssm: MultiHeadSSM, channels: int) -> MultiHeadSSMWeights:
    """The first `channels` SSM channels of `mhssm`: those of the forward direction, or all of them."""
    whole = mhssm.weights()
    return MultiHeadSSMWeights(
        in_weight=_first(whole.in_weight, channels),
        in_bias=_first(whole.in_bias, channels),
        out_weight=_first(whole.out_weight, channels // 2, dim=1),
        out_bias=whole.out_bias,
    )


def slice_operators(operators: SsmOperators, channels: int) -> SsmOperators:
    """What runs the first `channels` SSM channels."""
    return operators.first(channels)


def _first(tensor: Tensor, count: int, dim: int = 0) -> Tensor:
    return tensor if tensor.shape[dim] == count else tensor.narrow(dim, 0, count)
