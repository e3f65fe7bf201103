"""Dropout as one Triton kernel, see `todm.nn.dropout.drop`.

The mask is drawn from a seed that stays on the GPU, and drawn again for the gradient: it is never stored.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

_BLOCK = 512


def drop(x: Tensor, num_dropped: int, num_levels: int, generator: torch.Generator | None) -> Tensor:
    """Zero elements with probability `num_dropped` / `num_levels`, scale the others up.

    Args:
        x: any shape, on a GPU.
        num_dropped: 0 to below `num_levels`.
        num_levels: a power of two, 2^16 at most.
        generator: random numbers, on x's device; None uses torch's own.
    """
    seed = torch.empty(1, dtype=torch.int64, device=x.device).random_(generator=generator)
    dropped: Tensor = _Drop.apply(x, seed, num_dropped, num_levels)
    return dropped


class _Drop(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, seed: Tensor, num_dropped: int, num_levels: int) -> Tensor:
        ctx.save_for_backward(seed)
        ctx.levels = num_dropped, num_levels
        return _launch(x, seed, num_dropped, num_levels)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        (seed,) = ctx.saved_tensors
        return _launch(grad, seed, *ctx.levels), None, None, None


def _launch(x: Tensor, seed: Tensor, num_dropped: int, num_levels: int) -> Tensor:
    x = x.contiguous()
    out = torch.empty_like(x)
    scale = num_levels / (num_levels - num_dropped)
    grid = (triton.cdiv(x.numel(), 8 * _BLOCK),)
    _drop[grid](x, out, seed, x.numel(), num_dropped, scale, num_levels, BLOCK=_BLOCK)
    return out


@triton.jit(do_not_specialize=["num_dropped"])
def _drop(x_ptr, out_ptr, seed_ptr, count, num_dropped, scale, num_levels: tl.constexpr, BLOCK: tl.constexpr):
    """Eight neighbouring blocks: a draw of four 32-bit numbers serves eight elements."""
    first = tl.program_id(0).to(tl.int64) * 8 * BLOCK
    place = tl.arange(0, BLOCK)
    draws = tl.randint4x(tl.load(seed_ptr), tl.program_id(0) * BLOCK + place)
    for i in tl.static_range(8):
        level = (draws[i // 2] >> (16 * (i % 2))) & (num_levels - 1)
        at = first + i * BLOCK + place
        x = tl.load(x_ptr + at, at < count, 0.0).to(tl.float32)
        kept = tl.where(level >= num_dropped, x * scale, 0.0)
        tl.store(out_ptr + at, kept.to(out_ptr.dtype.element_ty), at < count)
