"""Position-wise feed-forward.

Shapes: N batch, T encoder frames, D encoder width, F hidden width.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from todm.nn.dropout import drop


class FeedForwardWeights(NamedTuple):
    """What the feed-forward computes with: a whole module's tensors or slices of them.

    Args:
        in_weight: (F, D).
        in_bias: (F,).
        out_weight: (D, F).
        out_bias: (D,).
    """

    in_weight: Tensor
    in_bias: Tensor
    out_weight: Tensor
    out_bias: Tensor


class FeedForward(nn.Module):
    """Linear, SiLU, linear.

    Args:
        d_model: D.
        ffn_dim: F.
    """

    def __init__(self, d_model: int, ffn_dim: int) -> None:
        super().__init__()
        self.in_proj = nn.Linear(d_model, ffn_dim)
        self.out_proj = nn.Linear(ffn_dim, d_model)

    def weights(self) -> FeedForwardWeights:
        """The module's tensors."""
        return FeedForwardWeights(
            self.in_proj.weight, self.in_proj.bias, self.out_proj.weight, self.out_proj.bias
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, T, D) to (N, T, D)."""
        return feed_forward(x, self.weights())


def feed_forward(
    x: Tensor,
    weights: FeedForwardWeights,
    drop_rate: float = 0.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """The pass: (N, T, D) to (N, T, D), with dropout at `drop_rate` after the activation."""
    hidden = nn.functional.silu(nn.functional.linear(x, weights.in_weight, weights.in_bias))
    hidden = drop(hidden, drop_rate, generator)
    return nn.functional.linear(hidden, weights.out_weight, weights.out_bias)
