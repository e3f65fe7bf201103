from __future__ import annotations

import pytest
import torch

from tests.kernels.interpreter import DEVICE, kernels
from todm.nn.norm import make_norm


@pytest.mark.parametrize("shape", [(2, 3, 16), (7, 20), (1, 1), (1100, 600)])
def test_the_kernel_is_torchs_norm(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    norm = make_norm(shape[-1]).to(DEVICE)
    torch.nn.init.normal_(norm.weight)
    x = (3.0 * torch.randn(shape, device=DEVICE) + 1.0).requires_grad_()
    grad = torch.randn(shape, device=DEVICE)
    leaves = [x, norm.weight, norm.bias]
    expected = norm(x)
    expected_grads = torch.autograd.grad(expected, leaves, grad)
    with kernels():
        found = norm(x)
    for one, other in zip(
        [found, *torch.autograd.grad(found, leaves, grad)], [expected, *expected_grads], strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_half_precision_under_autocast_only() -> None:
    norm = make_norm(16).to(DEVICE)
    x = torch.randn(4, 16, device=DEVICE, requires_grad=True)
    with kernels():
        assert norm(x).dtype == torch.float32
        with torch.autocast(DEVICE.type, torch.bfloat16):
            half = norm(x)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), norm(x), rtol=2**-7, atol=1e-5)
    (grad,) = torch.autograd.grad(half.sum(), x)
    assert grad.dtype == torch.float32
