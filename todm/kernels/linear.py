"""Sums over the rows of a matrix by a Triton kernel."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

_ROWS, _COLUMNS = 32, 128
# Tiles that a program adds up.
_TILES = 8


def sum_rows(x: Tensor) -> Tensor:
    """Sum (M, F) of any float type to (F,) float32, the gradient of a bias; torch takes twice as long."""
    if x.stride(1) != 1:  # transposed or expanded
        x = x.contiguous()
    num_rows, num_columns = x.shape
    num_parts = triton.cdiv(num_rows, _ROWS * _TILES)
    parts = torch.empty(num_parts, num_columns, device=x.device)
    _sum_rows[(num_parts, triton.cdiv(num_columns, _COLUMNS))](
        x, parts, num_rows, num_columns, x.stride(0), ROWS=_ROWS, COLUMNS=_COLUMNS, TILES=_TILES
    )
    return parts[0] if num_parts == 1 else parts.sum(0)


@triton.jit(do_not_specialize=["num_rows"])
def _sum_rows(
    x_ptr, parts_ptr, num_rows, num_columns, row_stride,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, TILES: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64) * ROWS * TILES + tl.arange(0, ROWS)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside = column < num_columns
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    for _ in tl.static_range(TILES):
        there = (row < num_rows)[:, None] & inside[None, :]
        total += tl.load(x_ptr + row[:, None] * row_stride + column[None, :], there, 0.0).to(tl.float32)
        row += ROWS
    tl.store(parts_ptr + tl.program_id(0) * num_columns + column, tl.sum(total, 0), inside)
