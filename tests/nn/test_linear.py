from __future__ import annotations

import pytest
import torch

from tests.kernels.interpreter import DEVICE, kernels
from todm.kernels.linear import sum_rows
from todm.nn.linear import linear


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (5, 3), (300, 130), (513, 40)])
def test_sums_of_rows(rows: int, columns: int) -> None:
    wide = torch.randn(rows, columns + 7, device=DEVICE).bfloat16()
    spread, turned = torch.ones((), device=DEVICE).expand(rows, columns), wide.t()
    for x in (wide[:, :columns], wide.float(), spread, turned):
        torch.testing.assert_close(sum_rows(x), x.float().sum(0), rtol=1e-4, atol=1e-4)


def test_half_precision_is_of_the_products_only() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 9, 12, device=DEVICE, requires_grad=True)
    weight = torch.randn(20, 12, device=DEVICE, requires_grad=True)
    bias = torch.randn(20, device=DEVICE, requires_grad=True)
    grad = torch.randn(2, 9, 20, device=DEVICE).bfloat16()
    with torch.autocast(DEVICE.type, torch.bfloat16):
        expected = linear(x, weight[:16], bias[:16])
        with kernels():
            found = linear(x, weight[:16], bias[:16])
    torch.testing.assert_close(found, expected)
    leaves = [x, weight, bias]
    of_x, of_weight, of_bias = torch.autograd.grad(found, leaves, grad[..., :16])
    assert {of_x.dtype, of_weight.dtype, of_bias.dtype} == {torch.float32}
    exact = grad[..., :16].float().reshape(-1, 16)
    torch.testing.assert_close(of_weight[:16], exact.t() @ x.detach().bfloat16().float().reshape(-1, 12))
    torch.testing.assert_close(of_bias[:16], exact.sum(0))
    assert not of_weight[16:].any() and not of_bias[16:].any()
    for one, other in zip(
        (of_x, of_weight, of_bias), torch.autograd.grad(expected, leaves, grad[..., :16]), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=2**-6, atol=2**-5)


def test_without_autocast_it_is_torchs() -> None:
    x, weight, bias = torch.randn(3, 4), torch.randn(5, 4), torch.randn(5)
    with kernels():
        assert torch.equal(linear(x, weight, bias), torch.nn.functional.linear(x, weight, bias))
