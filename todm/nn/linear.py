"""Linear map of the layers: torch's own, or on a GPU in half precision one with a cheaper gradient.

Shapes: M rows (batch and frames), D inputs, F outputs.

Under autocast torch casts a weight, multiplies, and in the backward pass casts the gradients of weight and
bias again; summing the bias gradient takes as long as a product. In narrow nets, of which a sandwich has
several, this is a large share of the GPU's work.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from todm.kernels import gpu


def linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """(..., D) to (..., F), in half precision under autocast.

    On a GPU the gradients of weight and bias are then float32 sums of half-precision products, never rounded.

    Args:
        x: (..., D).
        weight: (F, D).
        bias: (F,).
    """
    kind = x.device.type
    if not gpu.runs_triton(x.device) or not torch.is_autocast_enabled(kind):
        return nn.functional.linear(x, weight, bias)
    out: Tensor = _HalfLinear.apply(  # type: ignore[no-untyped-call]
        x, weight, bias, torch.get_autocast_dtype(kind)
    )
    return out


class _HalfLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, dtype: torch.dtype) -> Tensor:
        half, weight = x.to(dtype), weight.to(dtype)
        ctx.save_for_backward(half, weight)
        ctx.dtype = x.dtype
        with torch.autocast(x.device.type, enabled=False):
            return nn.functional.linear(half, weight, bias.to(dtype))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        from todm.kernels.linear import sum_rows

        x, weight = ctx.saved_tensors
        of_x, of_weight, of_bias, _ = ctx.needs_input_grad
        rows = grad.reshape(-1, grad.shape[-1])
        return (
            (grad @ weight).to(ctx.dtype) if of_x else None,
            _product(rows.t(), x.reshape(-1, x.shape[-1])) if of_weight else None,
            sum_rows(rows) if of_bias else None,
            None,
        )


def _product(a: Tensor, b: Tensor) -> Tensor:
    """The product of half-precision matrices in float32."""
    return torch.mm(a, b, out_dtype=torch.float32) if a.is_cuda else a.float() @ b.float()
