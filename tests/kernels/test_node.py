"""The kernels over a node's classes against torch's operations, on a GPU or in Triton's interpreter."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.kernels.interpreter import DEVICE, kernels
from todm.losses.divergence import alpha_divergence
from todm.losses.native import pick_log_probs

SHAPE = (2, 3, 2)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE)


@pytest.mark.parametrize("num_classes", [2, 11, 130])
@pytest.mark.parametrize("given", ["all", "blank", "label", "blank and label", "everything"])
def test_picking(num_classes: int, given: str) -> None:
    labels = torch.randint(num_classes, SHAPE, generator=torch.Generator().manual_seed(1)).to(DEVICE)

    def run() -> tuple[list[Tensor], Tensor]:
        logits = (3.0 * random(*SHAPE, num_classes)).requires_grad_()
        log_probs, blank, label = pick_log_probs(logits * 1.0, labels)
        assert log_probs is not None
        parts = {"all": [log_probs], "blank": [blank], "label": [label], "blank and label": [blank, label]}
        outputs = parts.get(given, [log_probs, blank, label])
        grads = [random(*out.shape, seed=i) for i, out in enumerate(outputs)]
        return [log_probs, blank, label], torch.autograd.grad(outputs, logits, grads)[0]

    expected, expected_grad = run()
    with kernels():
        found, grad = run()
    for one, other in zip([*found, grad], [*expected, expected_grad], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_picking_without_keeping(dtype: torch.dtype) -> None:
    labels = torch.randint(9, SHAPE, generator=torch.Generator().manual_seed(1)).to(DEVICE)
    logits = random(*SHAPE, 9).to(dtype).requires_grad_()
    kept, blank, label = pick_log_probs(logits, labels)
    (expected,) = torch.autograd.grad(blank.sum() + (2 * label).sum(), logits)
    with kernels():
        log_probs, found_blank, found_label = pick_log_probs(logits, labels, keep=False)
        (grad,) = torch.autograd.grad(found_blank.sum() + (2 * found_label).sum(), logits)
    assert kept is not None and log_probs is None
    assert grad.dtype == dtype and found_blank.dtype == torch.float32
    torch.testing.assert_close(found_blank, blank, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found_label, label, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(grad, expected, rtol=2**-7 if dtype == torch.bfloat16 else 1e-5, atol=1e-5)


@pytest.mark.parametrize("num_classes", [3, 70])
@pytest.mark.parametrize("beta", [2.0, 5.0, float("inf")])
@pytest.mark.parametrize("alphas", [(-1.0, 1.0), (0.0, 0.5), (2.0, 2.0), (1.0, 1.0), (-0.5, 0.0)])
def test_divergence(alphas: tuple[float, float], beta: float, num_classes: int) -> None:
    shape = (3, 4, 2, num_classes)
    student, teacher = ((2.0 * random(*shape, seed=seed)).log_softmax(-1) for seed in (0, 1))
    weights = random(*shape[:-1], seed=2).abs()
    weights[0, 1] = 0.0
    student[0, 1] = teacher[0, 1] = torch.nan  # nodes of weight 0 may hold anything
    student.requires_grad_()

    def run() -> tuple[Tensor, Tensor]:
        value = alpha_divergence(
            student, teacher, weights, alpha_min=alphas[0], alpha_max=alphas[1], ratio_clip=beta
        )
        return value, torch.autograd.grad(value @ random(3, seed=3), student)[0]

    expected, expected_grad = run()
    with kernels():
        value, grad = run()
    torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(grad, expected_grad, rtol=1e-4, atol=1e-6)
