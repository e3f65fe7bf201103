"""The norm of the residual branches."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from todm.kernels import gpu


class Norm(nn.LayerNorm):
    """Layer norm over the last dimension.

    On a GPU and of float32 it gives what the product behind it takes, half precision under autocast.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) to (..., D)."""
        if not gpu.runs_triton(x.device) or x.dtype != torch.float32:
            return super().forward(x)
        from todm.kernels.norm import layer_norm

        kind = x.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
        return layer_norm(x, self.weight, self.bias, self.eps, dtype)


def make_norm(dim: int) -> Norm:
    """A norm whose bias starts small but not zero.

    ScaledAdam moves a tensor in proportion to its size: one that starts at zero would stay there.
    """
    norm = Norm(dim)
    nn.init.uniform_(norm.bias, -0.02, 0.02)
    return norm
