"""The scan form against the convolution by FFT, on a GPU or in Triton's interpreter."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.kernels.interpreter import DEVICE, kernels
from todm.nn.ssm import BlockOperators, DiagonalSsm, convolve_fft, discretise
from todm.nn.ssm_scan import ScanOperators, apply_ssm, scan, scan_operators, ssm_operators


def make_ssm(channels: int, states: int) -> DiagonalSsm:
    torch.manual_seed(0)
    ssm = DiagonalSsm(channels, states, [(0.03, 3.0)])
    with torch.no_grad():
        ssm.imag.add_(torch.randn(channels, states) * 0.3)
    return ssm.to(DEVICE)


def gradients(ssm: DiagonalSsm, u: Tensor, out: Tensor, seed: int = 1) -> list[Tensor]:
    grad = torch.randn(out.shape, generator=torch.Generator().manual_seed(seed)).to(out)
    return list(torch.autograd.grad(out, [u, *ssm.parameters()], grad))


# Channels and states that fill a program and that do not, directions of unequal width and alone, odd lengths.
@pytest.mark.parametrize(
    ("channels", "states", "num_forward", "num_frames"),
    [(64, 8, 32, 17), (70, 3, 33, 7), (40, 4, 40, 9), (33, 12, 0, 8), (2, 1, 1, 1)],
)
def test_values_and_gradients(channels: int, states: int, num_forward: int, num_frames: int) -> None:
    ssm = make_ssm(channels, states)
    u = torch.randn(2, num_frames, channels, device=DEVICE, requires_grad=True)
    out = scan(u, scan_operators(ssm.coefficients()), num_forward=num_forward)
    expected = convolve_fft(u, ssm.coefficients(), num_forward=num_forward)
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-5)
    for one, other in zip(gradients(ssm, u, out), gradients(ssm, u, expected), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5 * max(1.0, other.abs().max().item()))


def test_a_slice_of_the_channels() -> None:
    ssm = make_ssm(48, 4)
    u = torch.randn(1, 6, 24, device=DEVICE)
    operators = scan_operators(ssm.coefficients()).first(24)
    expected = convolve_fft(torch.nn.functional.pad(u, (0, 24)), ssm.coefficients(), num_forward=24)[..., :24]
    torch.testing.assert_close(apply_ssm(u, operators, num_forward=24), expected, rtol=1e-4, atol=1e-5)


def test_layers_joined_and_split_again() -> None:
    layers = [make_ssm(8, 4), make_ssm(8, 4)]
    with torch.no_grad():
        layers[1].skip.add_(1.0)
    for one, layer in zip(scan_operators(discretise(layers)).split(8), layers, strict=True):
        assert torch.equal(one.table, scan_operators(layer.coefficients()).table)


def test_an_input_that_is_a_view() -> None:
    ssm = make_ssm(8, 4)
    wide = torch.randn(2, 5, 16, device=DEVICE)
    operators = scan_operators(ssm.coefficients())
    out = scan(wide[..., ::2], operators, num_forward=4)
    assert torch.equal(out, scan(wide[..., ::2].clone(), operators, num_forward=4))


def test_half_precision_is_of_the_input_only() -> None:
    ssm = make_ssm(32, 8)
    u = torch.randn(2, 60, 32, device=DEVICE).bfloat16()
    operators = scan_operators(ssm.coefficients())
    out = scan(u, operators, num_forward=16)
    assert out.dtype == torch.bfloat16
    # The interpreter cuts off where a GPU rounds: a unit in the last of eight bits.
    torch.testing.assert_close(out.float(), scan(u.float(), operators, num_forward=16), rtol=2**-7, atol=1e-5)


def test_where_it_is_chosen() -> None:
    coefficients = make_ssm(8, 4).coefficients()
    u = torch.randn(1, 5, 8, device=DEVICE)
    with kernels():
        operators = ssm_operators(coefficients, 5)
    assert isinstance(operators, ScanOperators)
    blocks = ssm_operators(DiagonalSsm(8, 4, [(0.03, 3.0)]).coefficients(), 5)  # on the CPU
    assert isinstance(blocks, BlockOperators)
    assert torch.equal(apply_ssm(u, operators, num_forward=4), scan(u, operators, num_forward=4))
