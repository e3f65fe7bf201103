"""The SSM's scan form, for GPUs: one kernel runs an utterance frame by frame with its state in registers.

Shapes: N batch, T frames, C channels, S conjugate pairs of one channel's state.

In blocks (`todm.nn.ssm.convolve`) a layer takes dozens of operations, and a GPU spends most of the time
launching them. The scan takes one operation, and two for the gradient: the gradient of the input is the
same scan in reverse time, the gradient of the coefficients is a scan that also carries dx / d exp(dt A).
Only the input is kept for the backward pass. The recurrence is float32 whatever the precision of the input.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from todm.kernels import gpu
from todm.nn.precision import at_least_float32
from todm.nn.ssm import BlockOperators, SsmCoefficients, block_frames, block_operators, convolve

# Frames loaded together; on an H200 both kernels together are slower with 4 and with 16.
_FRAMES = 8


class ScanOperators(NamedTuple):
    """Coefficients of the recurrence, channels last.

    Args:
        table: (4 S + 1, C) float32: S rows each of Re exp(dt A), Im exp(dt A), 2 Re Ct and 2 Im Ct, then D.
    """

    table: Tensor

    def split(self, num_channels: int) -> list[ScanOperators]:
        """Split into the operators of layers with `num_channels` each."""
        return [ScanOperators(table) for table in self.table.split(num_channels, dim=1)]

    def first(self, num_channels: int) -> ScanOperators:
        """Operators of the first `num_channels` channels, as views."""
        return self if self.table.shape[1] == num_channels else ScanOperators(self.table[:, :num_channels])


SsmOperators = BlockOperators | ScanOperators


def ssm_operators(coefficients: SsmCoefficients, num_frames: int) -> SsmOperators:
    """Operators of the fastest form on the coefficients' device, for utterances of `num_frames`."""
    if gpu.runs_triton(coefficients.skip.device):
        return scan_operators(coefficients)
    return block_operators(coefficients, block_frames(num_frames))


def apply_ssm(u: Tensor, operators: SsmOperators, *, num_forward: int) -> Tensor:
    """Run `scan` or `todm.nn.ssm.convolve`; the result is at least float32 or of u's dtype."""
    if isinstance(operators, ScanOperators):
        return scan(u, operators, num_forward=num_forward)
    return convolve(at_least_float32(u), operators, num_forward=num_forward)


def scan_operators(coefficients: SsmCoefficients) -> ScanOperators:
    """Compute the table of the recurrence."""
    size = coefficients.log_decay.exp()
    rows = (
        size * coefficients.angle.cos(),
        size * coefficients.angle.sin(),
        2 * coefficients.out_re,
        2 * coefficients.out_im,
        coefficients.skip[:, None],
    )
    return ScanOperators(torch.cat(rows, dim=1).t().contiguous())


def scan(u: Tensor, operators: ScanOperators, *, num_forward: int) -> Tensor:
    """Compute `todm.nn.ssm.convolve` on a GPU.

    Args:
        u: input, (N, T, C), float32 or half precision, zero after each utterance's end.
        operators: operators of the C channels.
        num_forward: channels that run forward in time, 0 to C.

    Returns:
        (N, T, C) of u's dtype.
    """
    out: Tensor = _Scan.apply(u, operators.table, num_forward)  # type: ignore[no-untyped-call]
    return out


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, u: Tensor, table: Tensor, num_forward: int) -> Tensor:
        u = u.contiguous()
        ctx.save_for_backward(u, table)
        ctx.num_forward = num_forward
        return _run(u, table, num_forward)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        u, table = ctx.saved_tensors
        grad = grad.contiguous()
        of_input, of_table, _ = ctx.needs_input_grad
        return (
            _run(grad, table, ctx.num_forward, transposed=True) if of_input else None,
            _differentiate(u, grad, table, ctx.num_forward) if of_table else None,
            None,
        )


def _run(u: Tensor, table: Tensor, num_forward: int, *, transposed: bool = False) -> Tensor:
    from todm.kernels.ssm import scan_kernel

    out = torch.empty_like(u)
    grid, numbers, blocks = _arrange(u, table, num_forward, num_channels=32)
    scan_kernel[grid](u, out, table, *numbers, transposed, **blocks, num_warps=1)
    return out


def _differentiate(u: Tensor, grad: Tensor, table: Tensor, num_forward: int) -> Tensor:
    """Gradient (4 S + 1, C) of the table."""
    from todm.kernels.ssm import gradient_kernel

    parts = table.new_empty(u.shape[0], *table.shape)
    # Eight numbers a state: with many states the registers serve half a warp's channels only.
    grid, numbers, blocks = _arrange(
        u, table, num_forward, num_channels=32 if len(table) <= 4 * 8 + 1 else 16
    )
    gradient_kernel[grid](u, grad, parts, table, *numbers, **blocks, num_warps=1)
    return parts.sum(0)


def _arrange(
    u: Tensor, table: Tensor, num_forward: int, *, num_channels: int
) -> tuple[tuple[int, int], tuple[int, ...], dict[str, int]]:
    """Grid, integer arguments and block sizes of a program with `num_channels`, a power of two."""
    num_states = len(table) // 4
    num_backward = u.shape[2] - num_forward
    grid = (u.shape[0], -(-num_forward // num_channels) + -(-num_backward // num_channels))
    numbers = (table.stride(0), u.shape[1], u.shape[2], num_forward, num_states)
    whole = 1 << (num_states - 1).bit_length()
    return grid, numbers, {"STATES": whole, "CHANNELS": num_channels, "FRAMES": _FRAMES}
