"""Triton kernels of the SSM's scan form (`todm.nn.ssm_scan`).

A program runs one utterance and one block of channels of one direction, frame by frame, with the whole state
in registers. ``u`` and ``out`` are (N, T, C) and contiguous; the table is (4 S + 1, C), see `ScanOperators`,
its rows `row_stride` apart. The loads of FRAMES frames are issued together, ahead of their use.

Loops are ``while`` loops: in Triton's interpreter, where tests run without a GPU, a range cannot end at a
number that is known at run time only.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _channels(num_channels, num_forward, CHANNELS: tl.constexpr):
    """This program's channels, which of them there are, and whether they run forward in time."""
    block = tl.program_id(1)
    forward_blocks = tl.cdiv(num_forward, CHANNELS)
    is_forward = block < forward_blocks
    first = tl.where(is_forward, block * CHANNELS, num_forward + (block - forward_blocks) * CHANNELS)
    channel = first + tl.arange(0, CHANNELS)
    return channel, channel < tl.where(is_forward, num_forward, num_channels), is_forward


@triton.jit
def _part(table_ptr, index, row_stride, channel, inside, num_states: tl.constexpr, STATES: tl.constexpr):
    """The table's rows of all states that come `index`-th, (STATES, CHANNELS), 0 where there are none."""
    state = tl.arange(0, STATES)[:, None]
    known = inside[None, :] & (state < num_states)
    return tl.load(table_ptr + (index * num_states + state) * row_stride + channel[None, :], known, 0.0)


@triton.jit(do_not_specialize=["num_frames"])
def scan_kernel(
    u_ptr,
    out_ptr,
    table_ptr,
    row_stride,
    num_frames,
    num_channels,
    num_forward,
    num_states: tl.constexpr,
    transposed: tl.constexpr,
    STATES: tl.constexpr,
    CHANNELS: tl.constexpr,
    FRAMES: tl.constexpr,
):
    """y_t = 2 Re(sum_n Ct_n x_{t,n}) + D u_t; with `transposed` every channel runs against its direction."""
    channel, inside, is_forward = _channels(num_channels, num_forward, CHANNELS)
    decay_re = _part(table_ptr, 0, row_stride, channel, inside, num_states, STATES)
    decay_im = _part(table_ptr, 1, row_stride, channel, inside, num_states, STATES)
    read_re = _part(table_ptr, 2, row_stride, channel, inside, num_states, STATES)
    read_im = _part(table_ptr, 3, row_stride, channel, inside, num_states, STATES)
    skip = tl.load(table_ptr + 4 * num_states * row_stride + channel, inside, 0.0)

    onward = is_forward != transposed
    stride = tl.where(onward, num_channels, -num_channels)
    start = tl.program_id(0).to(tl.int64) * num_frames * num_channels
    start += tl.where(onward, 0, (num_frames - 1) * num_channels)
    x_re = tl.zeros((STATES, CHANNELS), tl.float32)
    x_im = tl.zeros((STATES, CHANNELS), tl.float32)
    t = 0
    while t < num_frames:
        inputs = ()
        for i in tl.static_range(FRAMES):
            there = inside & (t + i < num_frames)
            inputs = inputs + (tl.load(u_ptr + start + (t + i) * stride + channel, there, 0.0),)
        for i in tl.static_range(FRAMES):
            u = inputs[i].to(tl.float32)
            rotated = decay_re * x_re - decay_im * x_im
            x_im = decay_re * x_im + decay_im * x_re
            x_re = rotated + u[None, :]
            y = tl.sum(read_re * x_re - read_im * x_im, 0) + skip * u
            there = inside & (t + i < num_frames)
            tl.store(out_ptr + start + (t + i) * stride + channel, y.to(out_ptr.dtype.element_ty), there)
        t += FRAMES


@triton.jit(do_not_specialize=["num_frames"])
def gradient_kernel(
    u_ptr,
    grad_ptr,
    out_ptr,
    table_ptr,
    row_stride,
    num_frames,
    num_channels,
    num_forward,
    num_states: tl.constexpr,
    STATES: tl.constexpr,
    CHANNELS: tl.constexpr,
    FRAMES: tl.constexpr,
):
    """The table's gradient by each utterance, (N, 4 S + 1, C) float32, in one pass forward.

    With d = exp(dt A), x_t = d x_{t-1} + u_t and w_t = dx_t / dd = d w_{t-1} + x_{t-1}, the output
    y = Re(c x) has the derivatives x by c and c w by d: sums over t of g x and g w are all there is to keep.
    """
    channel, inside, is_forward = _channels(num_channels, num_forward, CHANNELS)
    decay_re = _part(table_ptr, 0, row_stride, channel, inside, num_states, STATES)
    decay_im = _part(table_ptr, 1, row_stride, channel, inside, num_states, STATES)

    stride = tl.where(is_forward, num_channels, -num_channels)
    utterance = tl.program_id(0).to(tl.int64)
    start = utterance * num_frames * num_channels + tl.where(is_forward, 0, (num_frames - 1) * num_channels)
    x_re = tl.zeros((STATES, CHANNELS), tl.float32)
    x_im = tl.zeros((STATES, CHANNELS), tl.float32)
    w_re = tl.zeros((STATES, CHANNELS), tl.float32)
    w_im = tl.zeros((STATES, CHANNELS), tl.float32)
    gx_re = tl.zeros((STATES, CHANNELS), tl.float32)
    gx_im = tl.zeros((STATES, CHANNELS), tl.float32)
    gw_re = tl.zeros((STATES, CHANNELS), tl.float32)
    gw_im = tl.zeros((STATES, CHANNELS), tl.float32)
    gu = tl.zeros((CHANNELS,), tl.float32)
    t = 0
    while t < num_frames:
        inputs = ()
        grads = ()
        for i in tl.static_range(FRAMES):
            there = inside & (t + i < num_frames)
            place = start + (t + i) * stride + channel
            inputs = inputs + (tl.load(u_ptr + place, there, 0.0),)
            grads = grads + (tl.load(grad_ptr + place, there, 0.0),)
        for i in tl.static_range(FRAMES):
            u = inputs[i].to(tl.float32)
            g = grads[i].to(tl.float32)
            rotated = decay_re * w_re - decay_im * w_im
            w_im = decay_re * w_im + decay_im * w_re + x_im
            w_re = rotated + x_re
            rotated = decay_re * x_re - decay_im * x_im
            x_im = decay_re * x_im + decay_im * x_re
            x_re = rotated + u[None, :]
            gx_re += g[None, :] * x_re
            gx_im += g[None, :] * x_im
            gw_re += g[None, :] * w_re
            gw_im += g[None, :] * w_im
            gu += g * u
        t += FRAMES

    read_re = _part(table_ptr, 2, row_stride, channel, inside, num_states, STATES)
    read_im = _part(table_ptr, 3, row_stride, channel, inside, num_states, STATES)
    state = tl.arange(0, STATES)
    known = inside[None, :] & (state[:, None] < num_states)
    to = utterance * (4 * num_states + 1) * num_channels + channel
    row = to[None, :] + state[:, None] * num_channels
    part = num_states * num_channels
    tl.store(out_ptr + row, read_re * gw_re - read_im * gw_im, known)
    tl.store(out_ptr + part + row, -(read_re * gw_im + read_im * gw_re), known)
    tl.store(out_ptr + 2 * part + row, gx_re, known)
    tl.store(out_ptr + 3 * part + row, -gx_im, known)
    tl.store(out_ptr + 4 * part + to, gu, inside)
