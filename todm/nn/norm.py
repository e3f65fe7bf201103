"""The norm of the residual branches."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from todm.kernels import gpu


class Norm(nn.LayerNorm):
    """Layer norm over the last dimension.

    On a GPU a float32 input gives the dtype of the following product: half precision under autocast.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) to (..., D)."""
        kernels = gpu.find_kernels("norm", x.device) if x.dtype == torch.float32 else None
        if kernels is None:
            return super().forward(x)
        kind = x.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
        out: Tensor = kernels.layer_norm(x, self.weight, self.bias, self.eps, dtype)
        return out


def make_norm(dim: int) -> Norm:
    """A norm whose bias starts small but not zero.

    ScaledAdam moves a tensor in proportion to its size: a zero tensor would stay zero.
    """
    norm = Norm(dim)
    nn.init.uniform_(norm.bias, -0.02, 0.02)
    return norm
