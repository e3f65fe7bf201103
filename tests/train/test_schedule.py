"""Eden and cosine as functions, and what the schedule sets on groups."""

from __future__ import annotations

import dataclasses
from functools import partial
from itertools import pairwise

import pytest
import torch
from torch import nn

from todm.config import OptimConfig
from todm.errors import UserError
from todm.train.optim import build_optimizer
from todm.train.schedule import Schedule, cosine, eden

zipformer = partial(eden, lr_steps=7500.0, lr_epochs=3.5)


@pytest.mark.parametrize(("step", "epoch"), [(600, 0.0), (7500, 3.5), (40000, 12.25), (500, 0.5)])
def test_eden_is_its_formula_after_the_warm_up(step: int, epoch: float) -> None:
    expected = ((step**2 + 7500**2) / 7500**2) ** -0.25 * ((epoch**2 + 3.5**2) / 3.5**2) ** -0.25
    assert zipformer(step, epoch, warmup_steps=500) == pytest.approx(expected, rel=1e-12)


def test_eden_warms_up_linearly_from_one_half() -> None:
    plain = [zipformer(step, 0.0, warmup_steps=0) for step in (0, 250, 500)]
    warm = [zipformer(step, 0.0, warmup_steps=500) for step in (0, 250, 500)]
    assert [w / p for w, p in zip(warm, plain, strict=True)] == pytest.approx([0.5, 0.75, 1.0])


def test_eden_falls_with_fractions_of_epochs() -> None:
    values = [zipformer(1000, tenth / 10, warmup_steps=500) for tenth in range(50)]
    assert all(a > b for a, b in pairwise(values))


def test_cosine_rises_falls_and_stays() -> None:
    values = [cosine(step, total_steps=100, warmup_steps=20, final=0.1) for step in range(130)]
    assert values[:20] == pytest.approx([(i + 1) / 20 for i in range(20)])
    assert values[20] == 1.0
    assert values[60] == pytest.approx(0.55)
    assert all(a > b for a, b in pairwise(values[20:101]))
    assert values[100:] == pytest.approx([0.1] * 30)


def make(config: OptimConfig, total_steps: int = 1000) -> tuple[torch.optim.Optimizer, Schedule]:
    named = [("w", nn.Parameter(torch.ones(3))), ("ssm.a", nn.Parameter(torch.ones(3)))]
    optimizer = build_optimizer(config, named, lambda name: name.startswith("ssm."))
    return optimizer, Schedule(optimizer, config, total_steps=total_steps)


@pytest.mark.parametrize("schedule", ["eden", "cosine"])
def test_ssm_group_follows_the_same_relative_factor(schedule: str) -> None:
    config = OptimConfig(schedule=schedule, lr=0.04, ssm_lr=0.002, warmup_steps=50)  # type: ignore[arg-type]
    optimizer, applied = make(config)
    for step, epoch in ((0, 0.0), (25, 0.1), (700, 2.5)):
        assert applied.set(step, epoch) == optimizer.param_groups[0]["lr"]
        factor = applied.factor(step, epoch)
        assert [group["lr"] for group in optimizer.param_groups] == [0.04 * factor, 0.002 * factor]


def test_first_batch_has_a_warm_up_rate_without_a_call() -> None:
    optimizer, _ = make(OptimConfig(lr=0.04, warmup_steps=500))
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.02)


def test_resume_sets_the_same_rates_and_a_changed_config_wins() -> None:
    config = OptimConfig(lr=0.04)
    optimizer, schedule = make(config)
    schedule.set(321, 1.75)
    rates = [group["lr"] for group in optimizer.param_groups]
    other, resumed = make(config)
    other.load_state_dict(optimizer.state_dict())
    resumed.load_state_dict(schedule.state_dict())
    assert [group["lr"] for group in other.param_groups] == rates
    changed, halved = make(dataclasses.replace(config, lr=0.02))
    changed.load_state_dict(optimizer.state_dict())
    halved.load_state_dict(schedule.state_dict())
    assert changed.param_groups[0]["lr"] == pytest.approx(rates[0] / 2)


def test_cosine_needs_more_batches_than_its_warm_up() -> None:
    with pytest.raises(UserError, match="warmup_steps"):
        make(OptimConfig(schedule="cosine", warmup_steps=500), total_steps=400)
