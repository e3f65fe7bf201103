"""The norm of the residual branches."""

from __future__ import annotations

from torch import nn


def make_norm(dim: int) -> nn.LayerNorm:
    """Layer norm whose bias starts small but not zero.

    ScaledAdam moves a tensor in proportion to its size: one that starts at zero would stay there.
    """
    norm = nn.LayerNorm(dim)
    nn.init.uniform_(norm.bias, -0.02, 0.02)
    return norm
