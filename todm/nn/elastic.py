"""Slices of full-width modules: how one weight serves every spec. Views, never copies.

The gradient of a slice is, to autograd, a tensor of the whole size with zeros around it, which is filled and
added up for every slice of every pass. With ``into_grad`` backward adds what is there to the whole tensor's
``grad`` and touches no other number of it; `torch.autograd.grad` by the whole tensor does not see such
slices. What is used whole is not sliced.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from todm.nn.feedforward import FeedForward, FeedForwardWeights, activate
from todm.nn.mhssm import MhSsm, MhSsmWeights
from todm.nn.ssm import BlockOperators


def slice_feed_forward(ffn: FeedForward, ffn_dim: int, *, into_grad: bool = False) -> FeedForwardWeights:
    """The first `ffn_dim` hidden units of `ffn`."""
    whole = ffn.weights()
    return FeedForwardWeights(
        in_weight=_first(whole.in_weight, ffn_dim, into_grad),
        in_bias=_first(whole.in_bias, ffn_dim, into_grad),
        out_weight=_first(whole.out_weight, ffn_dim, into_grad, dim=1),
        out_bias=whole.out_bias,
        gate_scale=None if whole.gate_scale is None else _first(whole.gate_scale, ffn_dim, into_grad),
        gate_bias=None if whole.gate_bias is None else _first(whole.gate_bias, ffn_dim, into_grad),
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


def slice_mhssm(mhssm: MhSsm, channels: int, *, into_grad: bool = False) -> MhSsmWeights:
    """The first `channels` SSM channels of `mhssm`: those of the forward direction, or all of them."""
    whole = mhssm.weights()
    return MhSsmWeights(
        in_weight=_first(whole.in_weight, channels, into_grad),
        in_bias=_first(whole.in_bias, channels, into_grad),
        out_weight=_first(whole.out_weight, channels // 2, into_grad, dim=1),
        out_bias=whole.out_bias,
    )


def slice_operators(operators: BlockOperators, channels: int, *, into_grad: bool = False) -> BlockOperators:
    """The block form of the first `channels` SSM channels."""
    return BlockOperators(*(_first(tensor, channels, into_grad) for tensor in operators))


def _first(tensor: Tensor, count: int, into_grad: bool, dim: int = 0) -> Tensor:
    if tensor.shape[dim] == count:
        return tensor
    if into_grad:
        part: Tensor = _SliceIntoGrad.apply(tensor, count, dim)  # type: ignore[no-untyped-call]
        return part
    return tensor.narrow(dim, 0, count)


class _SliceIntoGrad(torch.autograd.Function):
    """A slice of a leaf; its gradient goes straight into the leaf's."""

    @staticmethod
    def forward(ctx: Any, leaf: Tensor, count: int, dim: int) -> Tensor:
        assert leaf.is_leaf
        ctx.leaf, ctx.count, ctx.dim = leaf, count, dim
        return leaf.narrow(dim, 0, count)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[None, None, None]:
        if ctx.leaf.grad is None:
            ctx.leaf.grad = torch.zeros_like(ctx.leaf)
        ctx.leaf.grad.narrow(ctx.dim, 0, ctx.count).add_(grad)
        return None, None, None
