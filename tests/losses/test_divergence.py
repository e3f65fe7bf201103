"""The alpha divergence: its special cases, its gradient, its clip and its adaptive choice."""

from __future__ import annotations

import functools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from todm.losses import divergence

alpha_divergence = functools.partial(
    divergence.alpha_divergence, alpha_min=-1.0, alpha_max=1.0, ratio_clip=5.0
)

ALPHAS = [-1.0, -0.5, 0.0, 0.5, 1.0, 2.0]


def random_pair(seed: int, *shape: int, scale: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shape = shape or (3, 4, 2, 5)
    student, teacher = (scale * torch.randn(shape, dtype=torch.float64, generator=generator) for _ in "ab")
    weights = torch.rand(shape[:-1], dtype=torch.float64, generator=generator)
    return student.requires_grad_(), teacher.log_softmax(-1), weights


def formula(student: Tensor, teacher: Tensor, alpha: float) -> Tensor:
    """D_alpha per node, straight from its definition."""
    p, q = teacher.exp(), student.exp()
    if alpha == 1.0:
        return (p * (p / q).log()).sum(-1)
    if alpha == 0.0:
        return (q * (q / p).log()).sum(-1)
    return ((q * (p / q) ** alpha).sum(-1) - 1) / (alpha * (alpha - 1))


@pytest.mark.parametrize("alpha", ALPHAS)
def test_value_and_gradient_without_clip_are_those_of_the_formula(alpha: float) -> None:
    logits, teacher, weights = random_pair(0)
    student = logits.log_softmax(-1)
    value = alpha_divergence(
        student, teacher, weights, alpha_min=alpha, alpha_max=alpha, ratio_clip=float("inf")
    )
    expected = (weights * formula(student, teacher, alpha)).flatten(1).sum(1)
    torch.testing.assert_close(value, expected)
    utterance = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    got = torch.autograd.grad((value * utterance).sum(), logits, retain_graph=True)
    want = torch.autograd.grad((expected * utterance).sum(), logits)
    torch.testing.assert_close(got, want)


def test_alpha_one_and_zero_are_the_two_kl_divergences() -> None:
    logits, teacher, weights = random_pair(1)
    student = logits.detach().log_softmax(-1)
    kl = torch.nn.functional.kl_div
    for alpha, expected in (
        (1.0, kl(student, teacher, log_target=True, reduction="none")),
        (0.0, kl(teacher, student, log_target=True, reduction="none")),
    ):
        got = alpha_divergence(student, teacher, weights, alpha_min=alpha, alpha_max=alpha, ratio_clip=1e9)
        torch.testing.assert_close(got, (weights * expected.sum(-1)).flatten(1).sum(1))


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_the_special_cases_are_limits(alpha: float) -> None:
    logits, teacher, weights = random_pair(1)
    student = logits.detach().log_softmax(-1)
    at = formula(student, teacher, alpha)
    near = 0.5 * (formula(student, teacher, alpha - 2e-3) + formula(student, teacher, alpha + 2e-3))
    torch.testing.assert_close(at, near, rtol=1e-4, atol=1e-6)
    inside = alpha_divergence(
        student, teacher, weights, alpha_min=alpha + 5e-4, alpha_max=alpha + 5e-4, ratio_clip=1e9
    )
    torch.testing.assert_close(inside, (weights * at).flatten(1).sum(1))


@pytest.mark.parametrize("alpha", [-1.0, 0.5, 2.0])
def test_clipped_gradient_is_alphanets_surrogate(alpha: float) -> None:
    """L = -sum stop(q rho) log q with rho = clip(r^alpha, 0, beta) / alpha + 1 / (alpha (alpha - 1))."""
    logits, teacher, weights = random_pair(2, scale=3.0)
    student = logits.log_softmax(-1)
    beta = 1.5
    ratio = ((teacher - student).exp() ** alpha).detach()
    assert (ratio > beta).any()
    rho = ratio.clamp(max=beta) / alpha + 1 / (alpha * (alpha - 1))
    surrogate = -(weights.unsqueeze(-1) * student.detach().exp() * rho * student).sum()
    value = alpha_divergence(student, teacher, weights, alpha_min=alpha, alpha_max=alpha, ratio_clip=beta)
    got = torch.autograd.grad(value.sum(), logits, retain_graph=True)
    torch.testing.assert_close(got, torch.autograd.grad(surrogate, logits))
    clipped = (student.exp() * ratio.clamp(max=beta)).sum(-1)
    expected = (weights * (clipped - 1) / (alpha * (alpha - 1))).flatten(1).sum(1)
    torch.testing.assert_close(value, expected)


def test_each_utterance_takes_its_larger_branch() -> None:
    logits, teacher, weights = random_pair(3, 12, 1, 1, 4, scale=1.5)
    student = logits.log_softmax(-1)
    branches = [
        alpha_divergence(student, teacher, weights, alpha_min=a, alpha_max=a, ratio_clip=5.0)
        for a in (-1.0, 1.0)
    ]
    lower_wins = branches[0] > branches[1]
    assert 0 < int(lower_wins.sum()) < 12
    both = alpha_divergence(student, teacher, weights)
    torch.testing.assert_close(both, torch.maximum(*branches))
    got = torch.autograd.grad(both.sum(), logits, retain_graph=True)
    chosen = torch.where(lower_wins, branches[0], branches[1]).sum()
    torch.testing.assert_close(got, torch.autograd.grad(chosen, logits))


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    alpha=st.sampled_from(ALPHAS),
    beta=st.sampled_from([2.0, 5.0, float("inf")]),
    scale=st.sampled_from([0.1, 3.0]),
)
def test_never_negative_and_zero_for_equals(seed: int, alpha: float, beta: float, scale: float) -> None:
    logits, teacher, weights = random_pair(seed, scale=scale)
    kwargs = {"alpha_min": alpha, "alpha_max": alpha}
    value = alpha_divergence(logits.log_softmax(-1), teacher, weights, ratio_clip=float("inf"), **kwargs)
    assert (value > 0).all()
    if alpha <= 1:  # a clip of 2 or more cannot push these below 0
        clipped = alpha_divergence(logits.log_softmax(-1), teacher, weights, ratio_clip=beta, **kwargs)
        assert (clipped >= -1e-12).all()
    same = teacher.clone().requires_grad_()
    zero = alpha_divergence(same.log_softmax(-1), teacher, weights, ratio_clip=beta, **kwargs)
    torch.testing.assert_close(zero, torch.zeros_like(zero))
    (gradient,) = torch.autograd.grad(zero.sum(), same)
    torch.testing.assert_close(gradient, torch.zeros_like(gradient))


@pytest.mark.parametrize("alpha", ALPHAS)
def test_far_apart_nets_stay_finite_in_float32(alpha: float) -> None:
    student = torch.tensor([[60.0, -60.0, 0.0]]).log_softmax(-1).requires_grad_()
    teacher = torch.tensor([[-60.0, 60.0, 0.0]]).log_softmax(-1)
    value = alpha_divergence(student, teacher, torch.ones(1), alpha_min=alpha, alpha_max=alpha)
    (gradient,) = torch.autograd.grad(value.sum(), student)
    assert torch.isfinite(value).all()
    assert torch.isfinite(gradient).all()
    assert alpha == 2.0 or float(value.detach()) > 0.1


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, teacher, weights = random_pair(4, 7, 3, 2, 5)
    results = []
    for numel in (1, 70, 1 << 20):
        monkeypatch.setattr(divergence, "_BLOCK_NUMEL", numel)
        value = alpha_divergence(logits.log_softmax(-1), teacher, weights)
        results.append((value, *torch.autograd.grad(value.sum(), logits)))
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_the_teacher_gets_no_gradient_and_weightless_nodes_may_be_nan() -> None:
    logits, teacher, weights = random_pair(5)
    student = logits.detach().log_softmax(-1)
    expected = alpha_divergence(student[:, :3], teacher[:, :3], weights[:, :3])
    student[:, 3], teacher[:, 3], weights[:, 3] = torch.nan, torch.nan, 0.0
    student.requires_grad_()
    teacher.requires_grad_()
    value = alpha_divergence(student, teacher, weights)
    torch.testing.assert_close(value, expected)
    torch.autograd.backward(value.sum())
    assert teacher.grad is None
    assert student.grad is not None
    assert not student.grad[:, 3].any()
    assert student.grad[:, :3].all()
