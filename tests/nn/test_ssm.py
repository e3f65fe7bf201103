"""The three forms of the SSM against each other and against its definition in complex arithmetic."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from todm.nn.ssm import (
    DiagonalSsm,
    SsmCoefficients,
    advance,
    block_operators,
    convolve,
    convolve_fft,
    discretise,
    kernel,
    step,
)

CHANNELS, STATE = 6, 4


def make_ssm(seed: int = 0) -> DiagonalSsm:
    """Slow and fast time scales, and every parameter away from where it starts."""
    torch.manual_seed(seed)
    ssm = DiagonalSsm(CHANNELS, STATE, [(1e-3, 1e-2), (1e-2, 1e-1), (0.1, 0.5)])
    with torch.no_grad():
        ssm.log_neg_real.add_(torch.randn(CHANNELS, STATE) * 0.3)
        ssm.imag.add_(torch.randn(CHANNELS, STATE) * 0.3)
    return ssm


def slow_reference(ssm: DiagonalSsm, u: Tensor) -> Tensor:
    """Frame by frame in complex128: x' = A x + u with u held over each frame, y = 2 Re(C x) + D u."""
    dt = ssm.log_dt.double().exp()[:, None]
    a = torch.complex(-ssm.log_neg_real.double().exp(), ssm.imag.double())
    c = torch.complex(ssm.out_re.double(), ssm.out_im.double())
    decay = torch.exp(dt * a)
    drive = (decay - 1) / a  # state after a frame of constant input
    state = torch.zeros(u.shape[0], CHANNELS, STATE, dtype=torch.complex128)
    outputs = []
    for t in range(u.shape[1]):
        state = decay * state + drive * u[:, t, :, None].double()
        outputs.append(2 * (c * state).sum(-1).real + ssm.skip.double() * u[:, t].double())
    return torch.stack(outputs, dim=1)


def in_double(coefficients: SsmCoefficients) -> SsmCoefficients:
    return SsmCoefficients(*(tensor.detach().double().requires_grad_() for tensor in coefficients))


@pytest.mark.parametrize("num_frames", [1, 2, 31, 32, 33, 64, 150])
@torch.no_grad()
def test_every_form_equals_the_definition(num_frames: int) -> None:
    ssm = make_ssm()
    coefficients = ssm.coefficients()
    u = torch.randn(3, num_frames, CHANNELS, generator=torch.Generator().manual_seed(1))
    wanted = slow_reference(ssm, u).float()

    def assert_close(got: Tensor) -> None:
        torch.testing.assert_close(got, wanted, atol=2e-5 * float(wanted.abs().max()), rtol=0.0)

    for block in (1, 5, 32):
        assert_close(convolve(u, block_operators(coefficients, block), num_forward=CHANNELS))
    assert_close(convolve_fft(u, coefficients, num_forward=CHANNELS))

    state = torch.zeros(CHANNELS, 3, 2 * STATE)
    frames = []
    for t in range(num_frames):
        out, state = step(u[:, t], state, coefficients)
        frames.append(out)
    assert_close(torch.stack(frames, dim=1))

    impulse = torch.zeros(1, num_frames, CHANNELS)
    impulse[:, 0] = 1.0
    torch.testing.assert_close(
        kernel(coefficients, num_frames), slow_reference(ssm, impulse)[0].t().float(), atol=1e-5, rtol=1e-4
    )


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=8), st.integers(0, 5))
@torch.no_grad()
def test_any_chunking_equals_the_whole(chunks: list[int], seed: int) -> None:
    coefficients = make_ssm(seed).coefficients()
    u = torch.randn(2, sum(chunks), CHANNELS, generator=torch.Generator().manual_seed(seed))
    whole = convolve(u, block_operators(coefficients, 32), num_forward=CHANNELS)
    state, outputs = torch.zeros(CHANNELS, 2, 2 * STATE), []
    for part in u.split(chunks, dim=1):
        out, state = advance(part, state, block_operators(coefficients, part.shape[1]))
        outputs.append(out)
    scale = float(whole.abs().max())
    torch.testing.assert_close(torch.cat(outputs, dim=1), whole, atol=2e-5 * scale, rtol=0.0)
    stepped = torch.zeros_like(state)
    for t in range(u.shape[1]):
        _, stepped = step(u[:, t], stepped, coefficients)
    torch.testing.assert_close(state, stepped, atol=2e-5 * float(stepped.abs().max()), rtol=0.0)


@pytest.mark.parametrize("num_forward", [0, 2, CHANNELS])
@torch.no_grad()
def test_backward_channels_are_the_forward_ones_of_the_reversed_utterance(num_forward: int) -> None:
    coefficients = make_ssm().coefficients()
    lens = [70, 33, 1]
    u = torch.randn(3, 70, CHANNELS, generator=torch.Generator().manual_seed(2))
    for row, length in enumerate(lens):
        u[row, length:] = 0.0
    got = convolve(u, block_operators(coefficients, 32), num_forward=num_forward)
    by_fft = convolve_fft(u, coefficients, num_forward=num_forward)
    causal = block_operators(coefficients, 32)
    for row, length in enumerate(lens):
        own = u[row : row + 1, :length]
        ahead = convolve(own, causal, num_forward=CHANNELS)
        back = convolve(own.flip(1), causal, num_forward=CHANNELS).flip(1)
        wanted = torch.cat((ahead[..., :num_forward], back[..., num_forward:]), dim=-1)[0]
        torch.testing.assert_close(got[row, :length], wanted, atol=2e-5, rtol=1e-5)
        torch.testing.assert_close(by_fft[row, :length], wanted, atol=2e-5, rtol=1e-5)


@torch.no_grad()
def test_padding_changes_nothing() -> None:
    operators = block_operators(make_ssm().coefficients(), 32)
    u = torch.randn(2, 45, CHANNELS, generator=torch.Generator().manual_seed(3))
    alone = convolve(u, operators, num_forward=3)
    for extra in (1, 19, 51, 200):
        padded = torch.nn.functional.pad(u, (0, 0, 0, extra))
        torch.testing.assert_close(convolve(padded, operators, num_forward=3)[:, :45], alone)


def test_slices_of_channels_are_the_slices_of_results() -> None:
    coefficients = make_ssm().coefficients()
    fewer = block_operators(SsmCoefficients(*(tensor[:4] for tensor in coefficients)), 8)
    whole = block_operators(coefficients, 8)
    for one, other in zip(whole.first(4), fewer, strict=True):
        assert torch.equal(one, other)
    for one, other in zip(whole.first(CHANNELS), whole, strict=True):
        assert one is other


def test_layers_joined_are_the_layers_one_by_one() -> None:
    layers = [make_ssm(seed=seed) for seed in range(3)]
    for layer, joined in zip(layers, block_operators(discretise(layers), 8).split(CHANNELS), strict=True):
        for one, other in zip(block_operators(layer.coefficients(), 8), joined, strict=True):
            torch.testing.assert_close(one, other)


def test_gradients_of_the_forms_agree_in_float64() -> None:
    """Convolution in blocks, by FFT, in chunks and in steps, to the input and every coefficient."""
    coefficients = in_double(make_ssm().coefficients())
    u = torch.randn(2, 75, CHANNELS, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(2, 75, CHANNELS, dtype=torch.float64)

    def in_chunks(steps: bool) -> Tensor:
        state = u.new_zeros(CHANNELS, 2, 2 * STATE)
        outputs = []
        for part in u.split(1 if steps else 20, dim=1):
            if steps:
                out, state = step(part[:, 0], state, coefficients)
                out = out[:, None]
            else:
                out, state = advance(part, state, block_operators(coefficients, part.shape[1]))
            outputs.append(out)
        return torch.cat(outputs, dim=1)

    def gradients(y: Tensor) -> tuple[Tensor, ...]:
        return torch.autograd.grad((y * weight).sum(), (u, *coefficients))

    wanted = gradients(in_chunks(steps=True))
    # float32 exponents hold whole numbers exactly, so that these forms are float64 throughout
    for other in (
        convolve(u, block_operators(coefficients, 32), num_forward=CHANNELS),
        convolve_fft(u, coefficients, num_forward=CHANNELS),
        in_chunks(steps=False),
    ):
        for got, want in zip(gradients(other), wanted, strict=True):
            torch.testing.assert_close(got, want, atol=1e-9, rtol=1e-9)
    assert all(float(grad.abs().max()) > 1e-3 for grad in wanted)


def test_gradients_reach_every_parameter() -> None:
    ssm = make_ssm()
    u = torch.randn(1, 40, CHANNELS)
    convolve(u, block_operators(ssm.coefficients(), 32), num_forward=3).square().sum().backward()
    for name, parameter in ssm.named_parameters():
        assert parameter.grad is not None and bool((parameter.grad != 0).any()), name


def test_starting_point_is_s4d_lin_in_bands() -> None:
    torch.manual_seed(0)
    ssm = DiagonalSsm(8, STATE, [(1e-3, 1e-2), (1e-2, 1e-1)])
    dt = ssm.log_dt.exp()
    assert bool(((dt[:4] >= 1e-3) & (dt[:4] <= 1e-2)).all() and ((dt[4:] >= 1e-2) & (dt[4:] <= 1e-1)).all())
    torch.testing.assert_close(ssm.log_neg_real.exp(), torch.full((8, STATE), 0.5))
    torch.testing.assert_close(ssm.imag[5], math.pi * torch.arange(STATE).float())
    assert bool((ssm.coefficients().log_decay < 0).all())  # stable
