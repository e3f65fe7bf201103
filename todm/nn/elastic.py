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

from todm.nn.feedforward import FeedForward, FeedForwardWeights
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
