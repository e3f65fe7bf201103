"""Phases of training: contrastive pretraining, alignment warm-up, sandwich.

A run passes through a fixed sequence of phases, each a range of steps. Whatever depends on the phase (specs
that run, augmentation, dropout, loss, appended silence) is a field of `Phase` and is looked up with
``schedule.at(step)``; no other module compares step counts.

============== ======================= ============================ ============ ======= ==================
phase          steps                   specs                        augmentation dropout loss
============== ======================= ============================ ============ ======= ==================
contrastive    ``contrastive.steps``   largest net of each mode     no           yes     InfoNCE
alignment      ``loss.alignment_       largest net of each mode     no           no      transducer loss
               warmup_steps``                                                            near the diagonal
sandwich       until the end           max net, corners, random     yes          yes     transducer loss,
                                                                                         distillation
============== ======================= ============================ ============ ======= ==================
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from todm.config import TrainConfig
from todm.space.space import SearchSpace
from todm.space.spec import SubnetSpec

PhaseName = Literal["contrastive", "alignment", "sandwich"]


@dataclass(frozen=True, kw_only=True)
class Phase:
    """A range of steps that train in the same way.

    Args:
        name: key of the phase's loss in `todm.train.step.PHASE_LOSSES`.
        begin: first step.
        end: first step of the next phase; None for the last phase.
        largest_only: whether only the largest net of each mode runs, instead of the specs drawn for a step.
        augments: whether the features are augmented.
        applies_dropout: whether the dropout policy applies.
        label_context_dropout: share of the label positions, 0 to 1, whose label context is hidden from the
            joiner.
        label_context_carry: share of the utterances, 0 to 1, that begin with the last labels of another one.
        silence: encoder frames of silence appended to every utterance.
    """

    name: PhaseName
    begin: int
    end: int | None
    largest_only: bool
    augments: bool
    applies_dropout: bool
    label_context_dropout: float
    label_context_carry: float
    silence: int

    def select_specs(self, space: SearchSpace, drawn: Sequence[SubnetSpec]) -> Sequence[SubnetSpec]:
        """Select the specs that run from those drawn for a step."""
        return [space.max(mode) for mode in space.modes] if self.largest_only else drawn


class PhaseSchedule:
    """The phases of a run, in order.

    Args:
        config: lengths of the phases and warm-ups.
        space: specs that are trained.
        total_steps: steps of the run; 0 keeps `dropout_progress` at 0.
    """

    def __init__(self, config: TrainConfig, space: SearchSpace, *, total_steps: int = 0) -> None:
        loss = config.loss
        self.total_steps = total_steps
        self.lag = loss.streaming_delay if len(space.modes) > 1 else 0
        """Encoder frames by which streaming nets emit a label later than the offline max net."""
        contrastive_end = config.contrastive.steps
        self.sandwich_begin = contrastive_end + loss.alignment_warmup_steps
        self.last_warmup_step = self.sandwich_begin + max(loss.warmup_steps, config.distill.warmup_steps)
        """First step at which the weights of all losses have their final values."""
        contrastive = Phase(
            name="contrastive",
            begin=0,
            end=contrastive_end,
            largest_only=True,
            augments=False,
            applies_dropout=True,
            label_context_dropout=loss.alignment_warmup_label_context_dropout,
            label_context_carry=0.0,
            silence=loss.alignment_warmup_delay + self.lag,
        )
        alignment = replace(
            contrastive,
            name="alignment",
            begin=contrastive_end,
            end=self.sandwich_begin,
            applies_dropout=False,
        )
        sandwich = Phase(
            name="sandwich",
            begin=self.sandwich_begin,
            end=None,
            largest_only=False,
            augments=True,
            applies_dropout=True,
            label_context_dropout=loss.label_context_dropout,
            label_context_carry=loss.label_context_carry,
            silence=self.lag,
        )
        self.phases = (contrastive, alignment, sandwich)

    def at(self, step: int) -> Phase:
        """Return the phase of the batch that follows `step` batches."""
        return next(phase for phase in self.phases if phase.end is None or step < phase.end)

    def warmup_progress(self, step: int, num_steps: int) -> float:
        """Return the share, 0 to 1, of a warm-up that starts with the sandwich and lasts `num_steps`."""
        return _share(step - self.sandwich_begin, num_steps)

    def dropout_progress(self, step: int) -> float:
        """Return the share, 0 to 1, of the sandwich that is done, for dropout schedules."""
        length = self.total_steps - self.sandwich_begin
        return _share(step - self.sandwich_begin, length) if length > 0 else 0.0


def skip_to_sandwich(config: TrainConfig) -> TrainConfig:
    """Change settings so that training starts with the sandwich, without a warm-up of its loss weights."""
    return replace(
        config,
        loss=replace(config.loss, warmup_steps=0, alignment_warmup_steps=0),
        contrastive=replace(config.contrastive, steps=0),
    )


def _share(done: int, num_steps: int) -> float:
    return min(1.0, max(0, done) / num_steps) if num_steps else 1.0
