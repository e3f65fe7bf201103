"""Distillation on the lattice: by hand, padded, collapsed and full."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from todm.config import DistillConfig
from todm.errors import UserError
from todm.losses import Band, DivergenceOptions, LatticeNodes, lattice_divergence

LENS = ([6, 3, 1], [4, 0, 2])
KL: dict[str, Any] = {"alpha_min": 1.0, "alpha_max": 1.0}


def diverge(student: Tensor, teacher: Tensor, **arguments: Any) -> Tensor:
    """`lattice_divergence` with the fields of nodes and options as arguments."""
    nodes = LatticeNodes(
        **{name: arguments.pop(name) for name in ("band", "labels", "encoder_lens", "label_lens")}
    )
    return lattice_divergence(
        student, teacher, nodes, replace(DivergenceOptions.from_config(DistillConfig()), **arguments)
    )


def pair(make_problem: Callable[..., Any], seed: int = 0) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """Student and teacher log-probabilities on the teacher's band."""
    problem = make_problem(seed, *LENS, extra_frames=1, extra_labels=1)
    teacher = problem.loss("native", prune_range=3)
    student = make_problem(seed + 1, *LENS, extra_frames=1, extra_labels=1).loss("native", band=teacher.band)
    common = {
        "labels": problem.labels,
        "band": teacher.band,
        "encoder_lens": problem.encoder_lens,
        "label_lens": problem.label_lens,
    }
    return student.log_probs.detach().requires_grad_(), teacher.log_probs.detach(), common


@pytest.mark.parametrize("lattice", ["full", "collapsed"])
def test_kl_by_hand(make_problem: Callable[..., Any], lattice: str) -> None:
    student, teacher, common = pair(make_problem)
    got = diverge(student, teacher, lattice=lattice, **KL, **common)
    for n, (num_frames, num_labels) in enumerate(zip(*LENS, strict=True)):
        total = 0.0
        for t in range(num_frames):
            nodes = []
            for s in range(common["band"].size):
                u = int(common["band"].begin[n, t]) + s
                if u > num_labels:
                    continue
                q, p = student[n, t, s].exp().tolist(), teacher[n, t, s].exp().tolist()
                if lattice == "collapsed":
                    named = [0] if u == num_labels else [0, int(common["labels"][n, u])]
                    q, p = ([x[v] for v in named] + [1 - sum(x[v] for v in named)] for x in (q, p))
                nodes.append(sum(a * math.log(a / b) for a, b in zip(p, q, strict=True)))
            total += sum(nodes) / len(nodes)
        assert float(got[n].detach()) == pytest.approx(total, abs=1e-9)


@pytest.mark.parametrize("lattice", ["full", "collapsed"])
@pytest.mark.parametrize("alpha", [-1.0, 0.0, 0.5, 1.0])
def test_gradient_by_finite_differences(make_problem: Callable[..., Any], lattice: str, alpha: float) -> None:
    student, teacher, common = pair(make_problem)
    logits = student.detach().clone().requires_grad_()

    def value(logits: Tensor) -> Tensor:
        return diverge(
            logits.log_softmax(-1),
            teacher,
            lattice=lattice,
            alpha_min=alpha,
            alpha_max=alpha,
            ratio_clip=1e9,
            **common,
        )

    assert torch.autograd.gradcheck(value, logits)


def test_merging_classes_never_adds_divergence(make_problem: Callable[..., Any]) -> None:
    student, teacher, common = pair(make_problem)
    collapsed = diverge(student, teacher, lattice="collapsed", **KL, **common)
    full = diverge(student, teacher, lattice="full", **KL, **common)
    assert (collapsed < full).all()
    assert (collapsed > 0).all()


@settings(max_examples=30, deadline=None)
@given(
    lens=st.lists(st.tuples(st.integers(1, 5), st.integers(0, 4)), min_size=1, max_size=3),
    lattice=st.sampled_from(["full", "collapsed"]),
    seed=st.integers(0, 99),
)
def test_padding_changes_nothing(lens: list[tuple[int, int]], lattice: str, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    num_frames, num_labels, vocab_size = 6, 5, 4
    shape = (len(lens), num_frames, num_labels + 1, vocab_size)
    student, teacher = (torch.randn(shape, generator=generator).log_softmax(-1) for _ in "ab")
    labels = torch.randint(1, vocab_size, (len(lens), num_labels), generator=generator)
    own = []
    for n, (frames, count) in enumerate(lens):
        q = student[n : n + 1, :frames, : count + 1].clone().requires_grad_()
        value = diverge(
            q,
            teacher[n : n + 1, :frames, : count + 1],
            labels=labels[n : n + 1, :count],
            band=Band(begin=torch.zeros(1, frames, dtype=torch.int64), size=count + 1),
            encoder_lens=torch.tensor([frames]),
            label_lens=torch.tensor([count]),
            lattice=lattice,
        )
        own.append((value.detach(), *torch.autograd.grad(value.sum(), q)))
        for x in (student, teacher):
            x[n, frames:] = torch.nan
            x[n, :, count + 1 :] = torch.nan
        labels[n, count:] = -100
    student.requires_grad_()
    value = diverge(
        student,
        teacher,
        labels=labels,
        band=Band(begin=torch.zeros(shape[:2], dtype=torch.int64), size=num_labels + 1),
        encoder_lens=torch.tensor([t for t, _ in lens]),
        label_lens=torch.tensor([u for _, u in lens]),
        lattice=lattice,
    )
    (gradient,) = torch.autograd.grad(value.sum(), student)
    for n, ((frames, count), (wanted, slope)) in enumerate(zip(lens, own, strict=True)):
        torch.testing.assert_close(value[n : n + 1], wanted)
        torch.testing.assert_close(gradient[n, :frames, : count + 1], slope[0])
        gradient[n, :frames, : count + 1] = 0.0
    assert not gradient.any()


def test_vanishing_rest_passes_finite_gradients() -> None:
    """Blank and label take all the probability: the rest is clamped instead of log(0)."""
    band = Band(begin=torch.zeros(1, 1, dtype=torch.int64), size=2)
    common: dict[str, Any] = {
        "labels": torch.tensor([[1]]),
        "band": band,
        "encoder_lens": torch.tensor([1]),
        "label_lens": torch.tensor([1]),
        "lattice": "collapsed",
    }
    logits = torch.tensor([50.0, 50.0, -50.0]).repeat(1, 1, 2, 1).requires_grad_()
    other = torch.tensor([50.0, 40.0, 30.0]).repeat(1, 1, 2, 1)
    value = diverge(logits.log_softmax(-1), other.log_softmax(-1), **common)
    (gradient,) = torch.autograd.grad(value.sum(), logits)
    assert torch.isfinite(value).all()
    assert float(value.detach()) > 0.1
    assert torch.isfinite(gradient).all()
    assert gradient.any()


def test_half_precision_is_widened(make_problem: Callable[..., Any]) -> None:
    student, teacher, common = pair(make_problem)
    value = diverge(student.bfloat16(), teacher.bfloat16(), **common)
    assert value.dtype == torch.float32
    expected = diverge(student, teacher, **common).float()
    torch.testing.assert_close(value, expected, rtol=0.05, atol=0.05)


def test_unknown_lattice_is_the_users_to_mend(make_problem: Callable[..., Any]) -> None:
    student, teacher, common = pair(make_problem)
    with pytest.raises(UserError, match=r"train\.distill\.lattice: 'half'"):
        diverge(student, teacher, lattice="half", **common)
