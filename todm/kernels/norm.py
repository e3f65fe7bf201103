"""Layer norm as one Triton kernel in each direction.

torch's takes kernels of their own, slower ones, for the gradients of weight and bias, which made norms a
seventh of a training step on an H200, and always writes float32, which the following products cast down
again. Rows are (N, T) flattened, of D channels.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

# Programs of the backward pass; each adds up the gradients of weight and bias over its rows. They are a warp
# each, whose threads wait for no others when a row is summed.
_PROGRAMS = 2048
_BLOCK_NUMEL = 2048


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float, dtype: torch.dtype) -> Tensor:
    """`torch.nn.functional.layer_norm` over the last dimension.

    Args:
        x: (..., D) float32, on a GPU.
        weight: (D,) float32.
        bias: (D,) float32.
        eps: added to the variance.
        dtype: type of the result.
    """
    normed: Tensor = _LayerNorm.apply(x, weight, bias, eps, dtype)
    return normed


class _LayerNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float, dtype: torch.dtype) -> Tensor:
        x = x.contiguous()
        out = torch.empty_like(x, dtype=dtype)
        num_rows = x.numel() // x.shape[-1]
        mean, scale = x.new_empty(2, num_rows)
        rows, channels = _blocks(x)
        _normalise[(triton.cdiv(num_rows, rows),)](
            x, weight, bias, out, mean, scale, num_rows, x.shape[-1], eps, ROWS=rows, CHANNELS=channels
        )
        ctx.save_for_backward(x, weight, mean, scale)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        x, weight, mean, scale = ctx.saved_tensors
        num_rows = len(mean)
        out = torch.empty_like(x)
        _, channels = _blocks(x)
        num_programs = min(_PROGRAMS, num_rows)
        parts = x.new_empty(num_programs, 2, x.shape[-1])
        _differentiate[(num_programs,)](
            x, grad.contiguous(), weight, mean, scale, out, parts, num_rows, x.shape[-1],
            ROWS=1, CHANNELS=channels, num_warps=1,
        )  # fmt: skip
        grad_weight, grad_bias = parts.sum(0)
        return out, grad_weight, grad_bias, None, None


def _blocks(x: Tensor) -> tuple[int, int]:
    """Rows and channels of a program; Triton wants powers of two."""
    channels = triton.next_power_of_2(x.shape[-1])
    return max(1, _BLOCK_NUMEL // channels), channels


@triton.jit(do_not_specialize=["num_rows"])
def _normalise(
    x_ptr, weight_ptr, bias_ptr, out_ptr, mean_ptr, scale_ptr, num_rows, num_channels, eps,
    ROWS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    channel = tl.arange(0, CHANNELS)
    there = (row < num_rows)[:, None] & (channel < num_channels)[None, :]
    at = row[:, None].to(tl.int64) * num_channels + channel[None, :]
    x = tl.load(x_ptr + at, there, 0.0)
    mean = tl.sum(x, 1) / num_channels
    centred = tl.where(there, x - mean[:, None], 0.0)
    scale = 1.0 / tl.sqrt(tl.sum(centred * centred, 1) / num_channels + eps)
    weight = tl.load(weight_ptr + channel, channel < num_channels, 0.0)
    bias = tl.load(bias_ptr + channel, channel < num_channels, 0.0)
    out = centred * scale[:, None] * weight[None, :] + bias[None, :]
    tl.store(out_ptr + at, out.to(out_ptr.dtype.element_ty), there)
    tl.store(mean_ptr + row, mean, row < num_rows)
    tl.store(scale_ptr + row, scale, row < num_rows)


@triton.jit(do_not_specialize=["num_rows"])
def _differentiate(
    x_ptr, grad_ptr, weight_ptr, mean_ptr, scale_ptr, out_ptr, parts_ptr, num_rows, num_channels,
    ROWS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    channel = tl.arange(0, CHANNELS)
    inside = channel < num_channels
    weight = tl.load(weight_ptr + channel, inside, 0.0)
    grad_weight = tl.zeros((CHANNELS,), tl.float32)
    grad_bias = tl.zeros((CHANNELS,), tl.float32)
    first = tl.program_id(0) * ROWS
    while first < num_rows:
        row = first + tl.arange(0, ROWS)
        there = (row < num_rows)[:, None] & inside[None, :]
        at = row[:, None].to(tl.int64) * num_channels + channel[None, :]
        mean = tl.load(mean_ptr + row, row < num_rows, 0.0)
        scale = tl.load(scale_ptr + row, row < num_rows, 0.0)
        grad = tl.load(grad_ptr + at, there, 0.0).to(tl.float32)
        normed = tl.where(there, (tl.load(x_ptr + at, there, 0.0) - mean[:, None]) * scale[:, None], 0.0)
        grad_weight += tl.sum(grad * normed, 0)
        grad_bias += tl.sum(grad, 0)
        grad *= weight[None, :]
        along = tl.sum(grad * normed, 1) / num_channels
        grad = scale[:, None] * (grad - (tl.sum(grad, 1) / num_channels)[:, None] - normed * along[:, None])
        tl.store(out_ptr + at, grad, there)
        first += tl.num_programs(0) * ROWS
    part = parts_ptr + tl.program_id(0) * 2 * num_channels + channel
    tl.store(part, grad_weight, inside)
    tl.store(part + num_channels, grad_bias, inside)
