"""Slices of full-width modules: how one weight serves every spec. Views, never copies.

The gradient of a slice is, to autograd, a tensor of the whole size with zeros around it, which is filled and
added up for every slice of every pass. With ``into_grad`` a slice is a leaf of its own whose ``grad`` is the
slice of the whole tensor's ``grad``: backward adds to the numbers that it concerns and touches no other.
`torch.autograd.grad` by the whole tensor does not see such slices. What is used whole is not sliced.
"""

from __future__ import annotations

import torch
from torch import Tensor

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
    if not (into_grad and tensor.requires_grad):
        return tensor.narrow(dim, 0, count)
    if tensor.grad is None:
        tensor.grad = torch.zeros_like(tensor)
    part = tensor.detach().narrow(dim, 0, count).requires_grad_()
    part.grad = tensor.grad.narrow(dim, 0, count)
    return part
