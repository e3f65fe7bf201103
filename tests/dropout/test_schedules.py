from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.nets import CONFIG, SPACE
from todm.config import DropoutConfig, DropoutScheduleConfig, TrainConfig
from todm.config.check import check
from todm.dropout import POLICIES, build_policy
from todm.dropout.schedules import SCHEDULES, ValidationSchedule, build_schedule
from todm.errors import UserError
from todm.nn.dropout import MAX_RATE

CLOSED_FORMS: dict[str, Callable[[float], float]] = {
    "constant": lambda t: 1.0,
    "linear": lambda t: 1.0 - t,
    "exponential": lambda t: 0.1**t,
    "curriculum": lambda t: 1.0 - math.exp(-10.0 * t),
    "reversed_curriculum": lambda t: 1.0 - math.exp(-10.0 * (1.0 - t)),
}


@pytest.mark.parametrize("name", CLOSED_FORMS)
def test_closed_forms(name: str) -> None:
    schedule = build_schedule(DropoutScheduleConfig(name=name))
    for progress in (0.0, 0.1, 0.5, 0.99, 1.0):
        assert schedule.factor(progress) == pytest.approx(CLOSED_FORMS[name](progress))
    assert schedule.factor(1.7) == schedule.factor(1.0)  # a run made longer than it was
    assert schedule.state_dict() == {} and not schedule.watches_dev_loss


def test_curriculum_is_morerio_s_keep_probability() -> None:
    policy = build_policy(
        DropoutConfig(policy="constant", rate=0.3, schedule=DropoutScheduleConfig(name="curriculum")), SPACE
    )
    for t in (0.0, 0.05, 0.3, 1.0):
        keep = 1.0 - policy.plan(SPACE.max(), t).layers[0].output("ffn").strength
        assert keep == pytest.approx((1 - 0.7) * math.exp(-10 * t) + 0.7)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_any_schedule_scales_any_policy_at_every_site(policy: str, schedule: str) -> None:
    config = DropoutConfig(policy=policy, rate=0.2)
    scheduled = DropoutConfig(policy=policy, rate=0.2, schedule=DropoutScheduleConfig(name=schedule))
    factor = build_schedule(scheduled.schedule).factor(0.25)
    for spec in (SPACE.max(), SPACE.min("streaming")):
        whole = build_policy(config, SPACE).plan(spec, 0.25).strengths()
        part = build_policy(scheduled, SPACE).plan(spec, 0.25).strengths()
        assert part == pytest.approx({site: factor * strength for site, strength in whole.items()})


def test_a_rate_stays_a_rate() -> None:
    plan = build_policy(DropoutConfig(policy="constant", rate=0.5), SPACE).plan(SPACE.max())
    assert plan.scaled(3.0).layers[0].output("ffn").strength == MAX_RATE
    assert (
        build_policy(DropoutConfig(policy="mixed", rate=0.5), SPACE)
        .plan(SPACE.max())
        .scaled(3.0)
        .layers[0]
        .output("ffn")
        .strength
        == MAX_RATE
    )


def test_validation_raises_when_the_loss_stops_falling_and_lowers_while_it_falls() -> None:
    config = DropoutScheduleConfig(name="validation", rise=1.5, fall=0.5, least=0.3, most=2.0)
    schedule = ValidationSchedule(config)
    seen = []
    for loss in (5.0, 4.0, 4.5, 4.0, 4.0, 4.0, 4.0, 3.0, 2.0, 1.0, math.nan):
        schedule.observe(loss)
        seen.append(schedule.factor(0.0))
    # First mark; better; worse; no better than the best; at most 2; better; at least 0.3; nothing.
    assert seen == pytest.approx([1.0, 0.5, 0.75, 1.125, 1.6875, 2.0, 2.0, 1.0, 0.5, 0.3, 0.3])


def test_validation_goes_on_from_a_checkpoint() -> None:
    losses = [5.0, 4.0, 4.2, 3.9, 4.1, 4.0]
    config = DropoutScheduleConfig(name="validation")
    whole = ValidationSchedule(config)
    for loss in losses:
        whole.observe(loss)
    first, second = ValidationSchedule(config), ValidationSchedule(config)
    for loss in losses[:3]:
        first.observe(loss)
    second.load_state_dict(first.state_dict())
    for loss in losses[3:]:
        second.observe(loss)
    assert second.state_dict() == whole.state_dict()


@pytest.mark.parametrize(
    ("name", "changes", "key"),
    [
        ("sometimes", {}, "name.*curriculum"),
        ("exponential", {"last": 0.0}, "last"),
        ("curriculum", {"growth": 0.0}, "growth"),
        ("reversed_curriculum", {"growth": -1.0}, "growth"),
        ("validation", {"rise": 0.9}, "rise"),
        ("validation", {"fall": 0.0}, "fall"),
        ("validation", {"most": 0.5}, "most"),
    ],
)
def test_impossible_settings(name: str, changes: dict[str, float], key: str) -> None:
    schedule = DropoutScheduleConfig(name=name, **changes)
    with pytest.raises(UserError, match=rf"train\.dropout\.schedule.*{key}"):
        check(replace(CONFIG, train=TrainConfig(dropout=DropoutConfig(schedule=schedule))))
