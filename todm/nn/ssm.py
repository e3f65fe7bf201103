"""Diagonal state-space layer (S4D) in real arithmetic: convolution, chunk and step forms that agree.

A fourth form, the scan, is for GPUs: `todm.nn.ssm_scan`.

Shapes: N batch, T frames, C channels, S conjugate pairs of one channel's state, B frames of a block.

One channel keeps S complex states x_n. With A_n = -exp(a_n) + i w_n and the step dt (S4D-Lin, Gu et al.,
arXiv 2206.11893; zero-order hold):

    x_t = exp(dt A) x_{t-1} + u_t
    y_t = 2 Re(sum_n Ct_n x_{t,n}) + D u_t,       Ct = C (exp(dt A) - 1) / A

which is a convolution with K[l] = 2 Re sum_n Ct_n exp(dt A_n l). Complex numbers are kept as pairs of real
tensors, because ONNX has no complex arithmetic: a state is (..., 2S), real parts first.

The convolution is computed in blocks of B frames: inside a block by a B x B Toeplitz matrix, between blocks
by the state at the block's start. That is linear in T, needs no FFT and B + 1 exponentials per state only,
and one block with a given state *is* the chunk form that runs on a device.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from todm.nn.precision import at_least_float32


def block_frames(num_frames: int) -> int:
    """Choose B for utterances of `num_frames`: larger matrices against more block boundaries.

    Measured with two CPU threads, 384 and 256 channels, 8 pairs, 4 utterances, forward and backward: blocks
    of 16 take 0.80 to 0.94 of the time of 32 at 50 to 150 frames, 0.95 to 0.98 at 250 and 0.94 to 1.10 from
    500 on; 8 is slower from 75 frames on, and 64 at every length except 1,500.
    """
    return 16 if num_frames <= 150 else 32


def is_ssm_parameter(name: str) -> bool:
    """Whether the parameter is A or dt of a `DiagonalSsm`; these train in a group of their own."""
    return name.rsplit(".", 1)[-1] in ("log_dt", "log_neg_real", "imag")


class SsmCoefficients(NamedTuple):
    """Coefficients of a discretised layer, used by all forms.

    Args:
        log_decay: real part of dt A, (C, S) float32, negative.
        angle: imaginary part of dt A, (C, S) float32, radians per frame.
        out_re: real part of Ct, (C, S) float32.
        out_im: imaginary part of Ct, (C, S) float32.
        skip: D, (C,) float32.
    """

    log_decay: Tensor
    angle: Tensor
    out_re: Tensor
    out_im: Tensor
    skip: Tensor


class DiagonalSsm(nn.Module):
    """Parameters of C independent channels with S conjugate pairs each.

    Args:
        num_channels: C.
        state_dim: S.
        time_scales: (low, high) bounds in which each channel's log dt is drawn uniformly, frames^-1, one
            pair for each head; the channels are split evenly over the heads.

    A and dt need an optimiser group of their own, see `is_ssm_parameter`: ScaledAdam's scale limit would
    shrink w_n = pi n.
    """

    def __init__(self, num_channels: int, state_dim: int, time_scales: list[tuple[float, float]]) -> None:
        super().__init__()
        assert num_channels % len(time_scales) == 0
        per_head = num_channels // len(time_scales)
        log_dt = [torch.empty(per_head).uniform_(math.log(low), math.log(high)) for low, high in time_scales]
        self.log_dt = nn.Parameter(torch.cat(log_dt))
        self.log_neg_real = nn.Parameter(torch.full((num_channels, state_dim), math.log(0.5)))
        self.imag = nn.Parameter(math.pi * torch.arange(state_dim).float().repeat(num_channels, 1))
        # A complex standard normal has variance 1/2 in each part.
        self.out_re = nn.Parameter(torch.randn(num_channels, state_dim) * math.sqrt(0.5))
        self.out_im = nn.Parameter(torch.randn(num_channels, state_dim) * math.sqrt(0.5))
        self.skip = nn.Parameter(torch.randn(num_channels))

    def coefficients(self) -> SsmCoefficients:
        """Discretise by zero-order hold, in float32 at least."""
        return discretise([self])


def discretise(layers: Sequence[DiagonalSsm]) -> SsmCoefficients:
    """Discretise several layers at once, channels concatenated: few large operations, not many small ones.

    Args:
        layers: layers with equal S.
    """

    def joined(name: str) -> Tensor:
        tensors = [at_least_float32(layer.get_parameter(name)) for layer in layers]
        return tensors[0] if len(tensors) == 1 else torch.cat(tensors)

    dt = joined("log_dt").exp()[:, None]
    real, imag = -joined("log_neg_real").exp(), joined("imag")
    log_decay, angle = dt * real, dt * imag
    # (exp(dt A) - 1) / A, written as ((e - 1) conj(A)) / |A|^2.
    shrink = log_decay.exp()
    num_re, num_im = shrink * angle.cos() - 1, shrink * angle.sin()
    norm = real.square() + imag.square()
    gain_re = (num_re * real + num_im * imag) / norm
    gain_im = (num_im * real - num_re * imag) / norm
    out_re, out_im = joined("out_re"), joined("out_im")
    return SsmCoefficients(
        log_decay=log_decay,
        angle=angle,
        out_re=out_re * gain_re - out_im * gain_im,
        out_im=out_re * gain_im + out_im * gain_re,
        skip=joined("skip"),
    )


class BlockOperators(NamedTuple):
    """Matrices of the block form, computed once and used for every block, batch and spec.

    Args:
        local: (C, B, B); ``u @ local`` is the causal convolution inside a block, D included.
        drive: (C, B, 2S); ``u @ drive`` is the contribution of a block's input to the state after it.
        readout: (C, 2S, B); ``state @ readout`` is the contribution of the state at the block's start to
            the output.
        decay_re: real part of exp(dt A B), (C, S).
        decay_im: imaginary part, (C, S).
    """

    local: Tensor
    drive: Tensor
    readout: Tensor
    decay_re: Tensor
    decay_im: Tensor

    def split(self, num_channels: int) -> list[BlockOperators]:
        """Split into the operators of layers with `num_channels` each."""
        return [BlockOperators(*parts) for parts in zip(*(x.split(num_channels) for x in self), strict=True)]

    def first(self, num_channels: int) -> BlockOperators:
        """Operators of the first `num_channels` channels, as views."""
        if num_channels == len(self.local):
            return self
        return BlockOperators(*(tensor[:num_channels] for tensor in self))


def block_operators(coefficients: SsmCoefficients, num_frames: int) -> BlockOperators:
    """Compute the block form's matrices for blocks of `num_frames` frames."""
    exponents = torch.arange(num_frames + 1, device=coefficients.skip.device, dtype=coefficients.skip.dtype)
    size = (coefficients.log_decay[..., None] * exponents).exp()
    phase = coefficients.angle[..., None] * exponents
    power_re, power_im = size * phase.cos(), size * phase.sin()  # exp(dt A l), (C, S, B + 1)
    out_re, out_im = 2 * coefficients.out_re[..., None], 2 * coefficients.out_im[..., None]
    read_re = out_re * power_re - out_im * power_im  # 2 Re(Ct exp(dt A l)) = what a real state adds at l
    read_im = out_re * power_im + out_im * power_re
    taps = read_re[..., :-1].sum(dim=1)  # K, (C, B)
    taps = torch.cat((taps[:, :1] + coefficients.skip[:, None], taps[:, 1:]), dim=1)
    reverse_re, reverse_im = power_re[..., :-1].flip(2), power_im[..., :-1].flip(2)
    return BlockOperators(
        local=_toeplitz(taps),
        drive=torch.cat((reverse_re, reverse_im), dim=1).transpose(1, 2),
        readout=torch.cat((read_re[..., 1:], -read_im[..., 1:]), dim=1),
        decay_re=power_re[..., -1],
        decay_im=power_im[..., -1],
    )


def _toeplitz(taps: Tensor) -> Tensor:
    """M[c, s, t] = taps[c, t - s] where t >= s, else 0: (C, B) to (C, B, B)."""
    frames = taps.shape[1]
    return nn.functional.pad(taps, (frames - 1, 0)).unfold(1, frames, 1).flip(1)


def convolve(u: Tensor, operators: BlockOperators, *, num_forward: int) -> Tensor:
    """Convolution form: causal for the first `num_forward` channels, anticausal for the others.

    Frames after an utterance's end must be zero in `u`; then the anticausal channels see each utterance
    reversed within its own length, because leading zeros leave the state at zero.

    Args:
        u: input, (N, T, C) float32.
        operators: operators of the C channels, for blocks of any length.
        num_forward: channels that run forward in time, 0 to C.

    Returns:
        (N, T, C) float32.
    """
    batch, num_frames, channels = u.shape
    block = operators.local.shape[1]
    num_blocks = -(-num_frames // block)
    x = nn.functional.pad(u.permute(2, 0, 1), (0, num_blocks * block - num_frames))
    if num_forward < channels:
        # Flipped together with its padding, which becomes leading zeros.
        x = torch.cat((x[:num_forward], x[num_forward:].flip(2)))
    x = x.reshape(channels, batch * num_blocks, block)
    out = x @ operators.local
    if num_blocks > 1:
        drive = (x @ operators.drive).view(channels, batch, num_blocks, -1)
        starts = _block_starts(drive, operators)
        out = torch.baddbmm(out, starts.view(channels, batch * num_blocks, -1), operators.readout)
    out = out.view(channels, batch, num_blocks * block)
    if num_forward < channels:
        out = torch.cat((out[:num_forward], out[num_forward:].flip(2)))
    return out[..., :num_frames].permute(1, 2, 0)


def _block_starts(drive: Tensor, operators: BlockOperators) -> Tensor:
    """States at the starts of M blocks, the first one zero: (C, N, M, 2S) to the same shape."""
    starts: Tensor = _Scan.apply(  # type: ignore[no-untyped-call]
        drive, operators.decay_re, operators.decay_im
    )
    return starts


class _Scan(torch.autograd.Function):
    """x_0 = 0, x_{k+1} = d x_k + drive_k for complex states: one multiply-add a block, in either direction.

    The same recurrence by autograd over real parts takes ten operations a block, and a graph that holds them.
    Complex numbers are used inside only: the exported form has none (`todm.deploy.ssm_graph`).
    """

    @staticmethod
    def forward(ctx: Any, drive: Tensor, decay_re: Tensor, decay_im: Tensor) -> Tensor:
        decay = torch.complex(decay_re, decay_im)[:, None]  # (C, 1, S)
        drive = _as_complex(drive)
        states = torch.zeros_like(drive)
        for k in range(drive.shape[2] - 1):
            torch.addcmul(drive[:, :, k], states[:, :, k], decay, out=states[:, :, k + 1])
        ctx.save_for_backward(states, decay)
        return _as_halves(states)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        states, decay = ctx.saved_tensors
        grad, decay = _as_complex(grad), decay.conj().resolve_conj()
        later = torch.zeros_like(grad)  # [k]: gradient of x_{k+1} from all later blocks
        for k in range(grad.shape[2] - 1, 0, -1):
            torch.addcmul(grad[:, :, k], later[:, :, k], decay, out=later[:, :, k - 1])
        grad_decay = (later * states.conj()).sum((1, 2))
        return _as_halves(later), grad_decay.real, grad_decay.imag


def _as_complex(halves: Tensor) -> Tensor:
    """Real parts followed by imaginary parts, (..., 2S), to complex (..., S)."""
    return torch.complex(*halves.chunk(2, dim=-1))


def _as_halves(x: Tensor) -> Tensor:
    """Complex (..., S) to real parts followed by imaginary parts, (..., 2S)."""
    return torch.cat((x.real, x.imag), dim=-1)


def _decay(state: Tensor, operators: BlockOperators) -> Tensor:
    """exp(dt A B) times the state, (C, N, 2S)."""
    real, imag = state.chunk(2, dim=-1)
    decay_re, decay_im = operators.decay_re[:, None], operators.decay_im[:, None]
    return torch.cat((real * decay_re - imag * decay_im, real * decay_im + imag * decay_re), dim=-1)


def advance(u: Tensor, state: Tensor, operators: BlockOperators) -> tuple[Tensor, Tensor]:
    """Chunk form: exactly one block of forward channels from a given state.

    Args:
        u: input, (N, B, C) float32.
        state: (C, N, 2S) float32, zeros at the start of an utterance.
        operators: for blocks of B frames.

    Returns:
        output (N, B, C) and the state after the block, (C, N, 2S).
    """
    x = u.permute(2, 0, 1)
    out = torch.baddbmm(x @ operators.local, state, operators.readout)
    return out.permute(1, 2, 0), _decay(state, operators) + x @ operators.drive


def step(u: Tensor, state: Tensor, coefficients: SsmCoefficients) -> tuple[Tensor, Tensor]:
    """Step form: one frame of the recurrence. The reference that tests compare the other forms with.

    Args:
        u: input, (N, C) float32.
        state: (C, N, 2S) float32.
        coefficients: coefficients of the C channels.

    Returns:
        output (N, C) and the new state (C, N, 2S).
    """
    shrink = coefficients.log_decay.exp()[:, None]
    cos, sin = coefficients.angle.cos()[:, None], coefficients.angle.sin()[:, None]
    real, imag = state.chunk(2, dim=-1)
    next_re = shrink * (real * cos - imag * sin) + u.t()[..., None]
    next_im = shrink * (real * sin + imag * cos)
    out = 2 * (next_re * coefficients.out_re[:, None] - next_im * coefficients.out_im[:, None]).sum(-1)
    return out.t() + u * coefficients.skip, torch.cat((next_re, next_im), dim=-1)


def kernel(coefficients: SsmCoefficients, length: int) -> Tensor:
    """Convolution kernel K[l] for l < `length`, D added at l = 0: (C, length) float32. A plain reference."""
    exponents = torch.arange(length, device=coefficients.skip.device, dtype=coefficients.skip.dtype)
    size = (coefficients.log_decay[..., None] * exponents).exp()
    phase = coefficients.angle[..., None] * exponents
    real = coefficients.out_re[..., None] * phase.cos() - coefficients.out_im[..., None] * phase.sin()
    taps = 2 * (size * real).sum(dim=1)
    taps[:, 0] += coefficients.skip
    return taps


def convolve_fft(u: Tensor, coefficients: SsmCoefficients, *, num_forward: int) -> Tensor:
    """Compute `convolve` by FFT over the whole length: the reference it is tested against.

    Args:
        u: input, (N, T, C) float32, zero after each utterance's end.
        coefficients: coefficients of the C channels.
        num_forward: channels that run forward in time.

    Returns:
        (N, T, C) float32.
    """
    num_frames = u.shape[1]
    signal = torch.fft.rfft(u.permute(0, 2, 1), 2 * num_frames)
    response = torch.fft.rfft(kernel(coefficients, num_frames), 2 * num_frames)
    # Correlation instead of convolution is the same operator run backward in time.
    response = torch.cat((response[:num_forward], response[num_forward:].conj()))
    out = torch.fft.irfft(signal * response, 2 * num_frames)[..., :num_frames]
    return out.permute(0, 2, 1)
