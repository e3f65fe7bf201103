"""A run whose loss jumps and stays goes back, more slowly; one bad window changes nothing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from unittest.mock import Mock

import pytest

from tests.train.runs import NewRun, assert_identical, newest, records, settings
from todm.config import CollapseConfig, Config
from todm.errors import UserError
from todm.layout import find_checkpoints
from todm.train.collapse import COLLAPSE_WINDOWS, CollapseGuard
from todm.train.loop import train
from todm.train.step import SandwichStep
from todm.train.step_losses import StepLosses

GUARD = CollapseConfig(window=2, factor=1.5, lr_scale=0.5, max_rollbacks=2)


def judge(guard: CollapseGuard, losses: Sequence[float]) -> list[bool]:
    """One window for each loss."""
    return [guard.close_window({"max": loss}, step) for step, loss in enumerate(losses, start=1)]


def test_only_what_lasts_is_a_collapse() -> None:
    assert COLLAPSE_WINDOWS == 2
    assert judge(CollapseGuard(GUARD), [9, 4, 2, 2.9, 3.1, 2.5, 3.1, 3.1]) == [False] * 7 + [True]
    guard = CollapseGuard(GUARD)
    judge(guard, [4, 2, 5, 1.9, 5])
    assert guard.good_step == 4


def test_any_of_the_losses_counts_and_none_that_is_not_finite() -> None:
    guard = CollapseGuard(GUARD)
    for name, total in (("max", 2.0), ("min", 4.0), ("max", float("nan")), ("max", 4.0)):
        guard.add(name, total=total, weight=2.0)
    assert guard.losses.means() == {"max": 1.5, "min": 2.0}
    assert not guard.end_step() and guard.end_step()
    assert not guard.close_window(guard.losses.means(), 2)
    assert guard.losses.means() == {} and not guard.end_step()
    assert [guard.close_window({"max": 1.0, "min": 4.0}, step) for step in (4, 6)] == [False, True]


def test_going_on_from_its_state_is_going_on() -> None:
    one, other = CollapseGuard(GUARD), CollapseGuard(GUARD)
    judge(one, [4, 2, 5])
    one.add("max", total=3.0, weight=1.0)
    other.load_state_dict(json.loads(json.dumps(one.state_dict())))
    assert other.state_dict() == one.state_dict()
    assert other.close_window({"max": 5.0}, 9) is one.close_window({"max": 5.0}, 9) is True


def test_a_run_that_collapses_again_and_again_is_given_up() -> None:
    guard = CollapseGuard(GUARD)
    guard.roll_back()
    guard.roll_back()
    assert guard.lr_scale == 0.25
    with pytest.raises(UserError, match=r"collapsed 3 times, now at 0\.25 of its learning rate"):
        guard.roll_back()


def watched(**changes: Any) -> Config:
    config = settings(num_epochs=3, **changes)
    return replace(config, train=replace(config.train, collapse=GUARD))


def worsen(monkeypatch: pytest.MonkeyPatch, first: int, last: int) -> list[int]:
    """Let the losses that a step reports be ten times as large in calls `first` to `last` of the run."""
    original = SandwichStep.__call__
    calls: list[int] = []

    def step_fn(self: SandwichStep, *args: Any, step: int, **kwargs: Any) -> StepLosses:
        calls.append(step)
        losses = original(self, *args, step=step, **kwargs)
        if not first <= len(calls) <= last:
            return losses
        worse = [replace(loss, rnnt=10 * (loss.rnnt or 0.0)) for loss in losses.on_host()]
        return Mock(on_host=lambda: worse)

    monkeypatch.setattr(SandwichStep, "__call__", step_fn)
    return calls


def test_the_run_goes_back_and_on_at_half_the_rate(new_run: NewRun, monkeypatch: pytest.MonkeyPatch) -> None:
    exp = new_run("jump")
    calls = worsen(monkeypatch, 7, 10)
    train(watched(), exp)
    assert calls == [*range(10), *range(6, 15)]
    (record,) = [record for record in records(exp) if record["kind"] == "rollback"]
    assert (record["step"], record["to"], record["lr_scale"]) == (10, 6, 0.5)
    rates = {record["step"]: record["lr"] for record in records(exp) if record["kind"] == "train"}
    assert newest(exp)["guard"]["lr_scale"] == 0.5
    calm = new_run("calm")
    worsen(monkeypatch, 0, 0)
    train(watched(), calm)
    whole = {record["step"]: record["lr"] for record in records(calm) if record["kind"] == "train"}
    assert rates[6] == whole[6] and rates[8] == pytest.approx(whole[8] / 2)
    assert [path.name for path in find_checkpoints(exp / "checkpoints")] == [
        path.name for path in find_checkpoints(calm / "checkpoints")
    ]


def test_a_resumed_run_notices_the_same_collapse(new_run: NewRun, monkeypatch: pytest.MonkeyPatch) -> None:
    straight, halted = new_run("straight"), new_run("halted")
    worsen(monkeypatch, 7, 10)
    train(watched(), straight)
    with monkeypatch.context() as patch:
        worsen(patch, 7, 8)
        train(watched(max_steps=8), halted)
    with monkeypatch.context() as patch:
        worsen(patch, 1, 2)
        train(watched(), halted)
    for part in ("model", "guard", "step"):
        assert_identical(newest(halted)[part], newest(straight)[part], part)


def test_without_an_old_checkpoint_the_user_is_told(new_run: NewRun, monkeypatch: pytest.MonkeyPatch) -> None:
    worsen(monkeypatch, 3, 99)
    with pytest.raises(UserError, match=r"after step 2, and no checkpoint is as old; lower train\.optim\.lr"):
        train(watched(save_interval=0), new_run("early"))
