from __future__ import annotations

import pytest
import torch

from tests.kernels.interpreter import DEVICE, kernels
from todm.nn.mhssm import gate_heads


@pytest.mark.parametrize(("directions", "width"), [(2, 6), (1, 5), (2, 64)])
def test_the_kernel_gates_like_torch(directions: int, width: int) -> None:
    torch.manual_seed(0)
    y = torch.randn(3, 7, directions * 2 * width, device=DEVICE, requires_grad=True)
    grad = torch.randn(3, 7, directions * width, device=DEVICE)
    expected = gate_heads(y, 2 * width)
    with kernels():
        found = gate_heads(y, 2 * width)
        half = gate_heads(y.bfloat16(), 2 * width)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(torch.autograd.grad(found, y, grad), torch.autograd.grad(expected, y, grad))
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), expected, rtol=2**-5, atol=2**-7)
