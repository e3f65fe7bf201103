"""Dropout with an explicit generator and a rate that is an argument."""

from __future__ import annotations

import torch
from torch import Tensor


def drop(x: Tensor, rate: float, generator: torch.Generator | None) -> Tensor:
    """Inverted dropout: zero each element with probability `rate`, scale the others by 1 / (1 - rate).

    Args:
        x: any shape.
        rate: 0 to below 1; 0 returns `x` itself.
        generator: of x's device; None takes torch's own.
    """
    if rate == 0.0:
        return x
    keep = 1.0 - rate
    return x * torch.empty_like(x).bernoulli_(keep, generator=generator).div_(keep)
