"""The recursions of a transducer lattice as one Triton kernel.

See `todm.losses.recursion` for the formula. A program runs one utterance in one direction: label position by
label position, all frames of a position at once, in float64.

To add two probabilities given by their logarithms takes an exponential and a logarithm; along time, where
sums build on each other, that would be most of the work. They are added as pairs of a float64 and an exponent
of two instead, which can be as far apart as any probabilities, and logarithms are taken when all is added.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

MAX_FRAMES = 4096
"""Largest T: the frames of a position are one block."""


def forward_backward(
    blanks: Tensor, labels: Tensor, encoder_lens: Tensor, label_lens: Tensor
) -> tuple[Tensor, Tensor]:
    """Compute `todm.losses.recursion.forward_backward` on a GPU."""
    num_utterances, num_positions, num_frames = blanks.shape
    out = blanks.new_empty(2, *blanks.shape)
    size = triton.next_power_of_2(num_frames)
    _recursions[(num_utterances, 2)](
        blanks.contiguous(),
        labels.contiguous(),
        out,
        encoder_lens.contiguous(),
        label_lens.contiguous(),
        num_positions,
        num_frames,
        FRAMES=size,
        num_warps=4 if size <= 1024 else 8,
    )
    alpha, beta = out
    return alpha, beta


@triton.jit
def _power_of_two(exponent):
    """2^exponent as float64, of an exponent that is 0 or less; 0 where float64 has no such number."""
    bits = (tl.maximum(exponent, -1023) + 1023).to(tl.int64) << 52
    return bits.to(tl.float64, bitcast=True)


@triton.jit
def _add(a, a_exponent, b, b_exponent):
    exponent = tl.maximum(a_exponent, b_exponent)
    total = a * _power_of_two(a_exponent - exponent) + b * _power_of_two(b_exponent - exponent)
    return total, exponent


@triton.jit
def _log_cumulative_sum_exp(x):
    """y[t] = log(sum of exp(x[s]) over s <= t)."""
    nothing = x == float("-inf")
    binary = tl.where(nothing, 0.0, x * 1.4426950408889634)  # 1 / log 2
    whole = tl.floor(binary)
    number = tl.where(nothing, 0.0, tl.exp2(binary - whole))
    exponent = tl.where(nothing, -(2**29), whole.to(tl.int32))
    number, exponent = tl.associative_scan((number, exponent), 0, _add)
    there = number > 0.0
    binary = tl.log2(tl.where(there, number, 1.0)) + exponent.to(tl.float64)
    return tl.where(there, binary * 0.6931471805599453, float("-inf"))  # log 2


@triton.jit(do_not_specialize=["num_positions", "num_frames"])
def _recursions(
    blanks_ptr,
    labels_ptr,
    out_ptr,
    encoder_lens_ptr,
    label_lens_ptr,
    num_positions,
    num_frames,
    FRAMES: tl.constexpr,
):
    """Alpha in program (n, 0), beta in (n, 1), which sees time and positions turned round."""
    utterance = tl.program_id(0).to(tl.int64)
    turned = tl.program_id(1) == 1
    last_frame = tl.load(encoder_lens_ptr + utterance) - 1
    last_position = tl.load(label_lens_ptr + utterance)
    place = tl.arange(0, FRAMES)
    inside = place < num_frames
    frame = tl.where(turned, num_frames - 1 - place, place)
    lattice = utterance * num_positions * num_frames
    out_ptr += tl.program_id(1).to(tl.int64) * tl.num_programs(0) * num_positions * num_frames

    state = tl.full((FRAMES,), float("-inf"), tl.float64)
    k = 0
    while k < num_positions:
        position = tl.where(turned, num_positions - 1 - k, k)
        row = lattice + position * num_frames + frame
        blank = tl.load(blanks_ptr + row, inside, 0.0)
        # The label moves into this position: alpha's come from below, beta's are its own.
        from_ptr = labels_ptr - tl.where(turned, 0, num_frames)
        moves = tl.load(from_ptr + row, inside & (turned | (position > 0)), float("-inf"))
        passed = tl.cumsum(blank, 0) - tl.where(turned, 0.0, blank)
        entered = moves + state
        first = ~turned & (position == 0) & (frame == 0)
        entered = tl.where(first, 0.0, entered)
        closing = turned & (position == last_position) & (frame == last_frame)
        entered = tl.where(closing, blank, entered)
        state = passed + _log_cumulative_sum_exp(entered - passed)
        tl.store(out_ptr + row, state, inside)
        k += 1
