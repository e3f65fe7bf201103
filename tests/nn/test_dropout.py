from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from todm.nn.dropout import drop


@pytest.fixture(params=["operations", "kernel"], autouse=True)
def device(request: pytest.FixtureRequest) -> Iterator[str]:
    """The device of a test, which runs with torch's own operations and with the kernel for GPUs."""
    if request.param == "operations":
        yield "cpu"
        return
    kernels = pytest.importorskip("tests.kernels.interpreter")
    with kernels.kernels():
        yield kernels.DEVICE.type


@pytest.mark.parametrize("rate", [0.05, 0.3, 0.9])
def test_rate_and_mean(rate: float, device: str) -> None:
    x = torch.full((1000, 401), 2.0, device=device)
    y = drop(x, rate, torch.Generator(device).manual_seed(0))
    dropped = (y == 0).float().mean().item()
    sigma = (rate * (1 - rate) / x.numel()) ** 0.5
    assert abs(dropped - rate) < 5 * sigma + 2**-16
    assert y.mean().item() == pytest.approx(2.0, abs=10 * sigma / (1 - rate))
    kept = y[y != 0].cpu()
    assert kept.min() == kept.max() == pytest.approx(2.0 / (1 - rate), rel=2e-4)


@pytest.mark.parametrize("shape", [(), (1,), (3,), (5, 7), (2, 3, 5)])
def test_any_number_of_elements(shape: tuple[int, ...], device: str) -> None:
    generator = torch.Generator(device).manual_seed(1)
    y = drop(torch.ones(shape, device=device), 0.5, generator)
    assert y.shape == shape
    assert set(y.flatten().tolist()) <= {0.0, 2.0}


def test_the_generator_alone_decides(device: str) -> None:
    x = torch.randn(50, 50, device=device)
    torch.manual_seed(0)
    one = drop(x, 0.4, torch.Generator(device).manual_seed(9))
    torch.manual_seed(1)
    assert torch.equal(one, drop(x, 0.4, torch.Generator(device).manual_seed(9)))
    assert not torch.equal(one, drop(x, 0.4, torch.Generator(device).manual_seed(10)))
    before = torch.get_rng_state()
    drop(x, 0.4, torch.Generator(device).manual_seed(9))
    assert torch.equal(torch.get_rng_state(), before)


def test_elements_are_independent(device: str) -> None:
    zero = drop(torch.ones(40000, 8, device=device), 0.5, torch.Generator(device).manual_seed(2)) == 0
    for other in range(1, 8):
        together = (zero[:, 0] & zero[:, other]).float().mean().item()
        assert together == pytest.approx(0.25, abs=0.015)


def test_no_dropout_is_the_same_tensor() -> None:
    x = torch.randn(3)
    assert drop(x, 0.0, None) is x


def test_gradient_flows_through_what_is_kept(device: str) -> None:
    x = torch.ones(37, 41, device=device, requires_grad=True)
    y = drop(x, 0.5, torch.Generator(device).manual_seed(3))
    y.sum().backward()
    assert x.grad is not None and torch.equal(x.grad, y.detach())


def test_half_precision_stays(device: str) -> None:
    x = torch.randn(300, device=device, dtype=torch.bfloat16)
    assert drop(x, 0.3, None).dtype == torch.bfloat16
