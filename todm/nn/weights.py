"""Weights of the feed-forward as one tuple, apart from the module that owns them.

Dropout policies change these weights and the feed-forward applies the policies, so both import this module.
Shapes: D encoder width, F hidden width.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class FeedForwardWeights(NamedTuple):
    """Tensors that the feed-forward computes with: those of a module, or slices of them.

    Args:
        in_weight: (F, D).
        in_bias: (F,).
        out_weight: (D, F).
        out_bias: (D,).
        gate_scale: alpha of each unit, (F,); None without a gate.
        gate_bias: beta of each unit, (F,).
    """

    in_weight: Tensor
    in_bias: Tensor
    out_weight: Tensor
    out_bias: Tensor
    gate_scale: Tensor | None = None
    gate_bias: Tensor | None = None
