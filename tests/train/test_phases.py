"""Phases of training: which one a step belongs to and what it does."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.nets import SPACE
from todm.config import ContrastiveConfig, DistillConfig, LossConfig, TrainConfig
from todm.space.space import SearchSpace
from todm.train.phases import PhaseSchedule, skip_to_sandwich
from todm.train.step import PHASE_LOSSES

CONFIG = TrainConfig(
    contrastive=ContrastiveConfig(steps=3),
    loss=LossConfig(
        alignment_warmup_steps=4,
        alignment_warmup_delay=5,
        alignment_warmup_label_context_dropout=0.5,
        streaming_delay=2,
        label_context_dropout=0.1,
        warmup_steps=10,
    ),
    distill=DistillConfig(warmup_steps=20),
)


def test_every_step_belongs_to_one_phase() -> None:
    schedule = PhaseSchedule(CONFIG, SPACE)
    names = [schedule.at(step).name for step in range(9)]
    assert names == ["contrastive"] * 3 + ["alignment"] * 4 + ["sandwich"] * 2
    assert [(phase.begin, phase.end) for phase in schedule.phases] == [(0, 3), (3, 7), (7, None)]
    assert {phase.name for phase in schedule.phases} == PHASE_LOSSES.keys()


def test_what_a_phase_does() -> None:
    schedule = PhaseSchedule(CONFIG, SPACE)
    contrastive, alignment, sandwich = schedule.phases
    largest, drawn = [SPACE.max(mode) for mode in SPACE.modes], [SPACE.max(), SPACE.min()]
    assert contrastive.select_specs(SPACE, drawn) == alignment.select_specs(SPACE, drawn) == largest
    assert sandwich.select_specs(SPACE, drawn) == drawn
    assert [phase.augments for phase in schedule.phases] == [False, False, True]
    assert [phase.applies_dropout for phase in schedule.phases] == [True, False, True]
    assert [phase.label_context_dropout for phase in schedule.phases] == [0.5, 0.5, 0.1]
    assert [phase.silence for phase in schedule.phases] == [7, 7, 2]


def test_streaming_nets_alone_have_no_lag() -> None:
    space = SearchSpace(num_layers=3, depths=(3,), widths={"ffn_dim": (8,)}, modes=("streaming",))
    schedule = PhaseSchedule(CONFIG, space)
    assert schedule.lag == 0 and schedule.at(7).silence == 0


def test_warmups_and_dropout_start_with_the_sandwich() -> None:
    schedule = PhaseSchedule(CONFIG, SPACE, total_steps=27)
    assert [schedule.warmup_progress(step, 10) for step in (0, 7, 12, 17, 99)] == [0.0, 0.0, 0.5, 1.0, 1.0]
    assert schedule.warmup_progress(0, 0) == 1.0
    assert [schedule.dropout_progress(step) for step in (0, 7, 17, 27)] == [0.0, 0.0, 0.5, 1.0]
    assert PhaseSchedule(CONFIG, SPACE).dropout_progress(99) == 0.0
    assert schedule.last_warmup_step == 27


@pytest.mark.parametrize("config", [CONFIG, replace(CONFIG, contrastive=ContrastiveConfig())])
def test_a_run_may_start_with_the_sandwich(config: TrainConfig) -> None:
    schedule = PhaseSchedule(skip_to_sandwich(config), SPACE)
    assert schedule.at(0).name == "sandwich"
    assert schedule.last_warmup_step == 20
