"""Inter-head gating as one Triton kernel in each direction, see `todm.nn.mhssm`.

Rows are (N, T) flattened. Each holds, for every direction, E / 2 values followed by E / 2 gates.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

_BLOCK = 1024


def gate(y: Tensor, width: int) -> Tensor:
    """Value times silu(gate), (..., num_directions * 2 * width) to half as many of y's dtype."""
    gated: Tensor = _Gate.apply(y, width)
    return gated


class _Gate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, y: Tensor, width: int) -> Tensor:
        y = y.contiguous()
        out = y.new_empty(*y.shape[:-1], y.shape[-1] // 2)
        _gate[(triton.cdiv(out.numel(), _BLOCK),)](y, out, out.numel(), width, BLOCK=_BLOCK)
        ctx.save_for_backward(y)
        ctx.width = width
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (y,) = ctx.saved_tensors
        out = torch.empty_like(y)
        grid = (triton.cdiv(grad.numel(), _BLOCK),)
        _ungate[grid](y, grad.contiguous(), out, grad.numel(), ctx.width, BLOCK=_BLOCK)
        return out, None


@triton.jit
def _place(width, BLOCK: tl.constexpr):
    """This program's elements in the output, and their values in the input, `width` before the gates."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    return at, at // width * (2 * width) + at % width


@triton.jit
def _gate(y_ptr, out_ptr, count, width, BLOCK: tl.constexpr):
    at, value_at = _place(width, BLOCK)
    value = tl.load(y_ptr + value_at, at < count, 0.0).to(tl.float32)
    gate = tl.load(y_ptr + value_at + width, at < count, 0.0).to(tl.float32)
    out = value * gate * tl.sigmoid(gate)
    tl.store(out_ptr + at, out.to(out_ptr.dtype.element_ty), at < count)


@triton.jit
def _ungate(y_ptr, grad_ptr, out_ptr, count, width, BLOCK: tl.constexpr):
    at, value_at = _place(width, BLOCK)
    value = tl.load(y_ptr + value_at, at < count, 0.0).to(tl.float32)
    gate = tl.load(y_ptr + value_at + width, at < count, 0.0).to(tl.float32)
    grad = tl.load(grad_ptr + at, at < count, 0.0).to(tl.float32)
    open_share = tl.sigmoid(gate)
    gate_grad = grad * value * open_share * (1.0 + gate * (1.0 - open_share))
    kind = out_ptr.dtype.element_ty
    tl.store(out_ptr + value_at, (grad * gate * open_share).to(kind), at < count)
    tl.store(out_ptr + value_at + width, gate_grad.to(kind), at < count)
