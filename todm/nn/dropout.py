"""Dropout with an explicit generator and a rate that is an argument."""

from __future__ import annotations

import torch
from torch import Tensor

_LEVELS = 2**16


def drop(x: Tensor, rate: float, generator: torch.Generator | None) -> Tensor:
    """Inverted dropout: zero each element with probability `rate`, scale the others by 1 / (1 - rate).

    Args:
        x: any shape.
        rate: 0 to below 1, taken to the nearest 1/65536; 0 returns `x` itself.
        generator: of x's device; None takes torch's own.
    """
    dropped = round(rate * _LEVELS)
    if dropped == 0:
        return x
    # One 64-bit draw serves four elements: drawing costs more than all the rest on a CPU.
    draws = torch.empty((x.numel() + 3) // 4, dtype=torch.int64, device=x.device)
    levels = draws.random_(-(2**63), None, generator=generator).view(torch.int16)[: x.numel()].view(x.shape)
    keep = levels >= dropped - _LEVELS // 2
    return x * keep.to(x.dtype).mul_(_LEVELS / (_LEVELS - dropped))
