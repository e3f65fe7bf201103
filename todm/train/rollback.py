"""Rollback of a run whose loss has collapsed to the newest checkpoint from before the jump."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from todm.data.batch import Batch
from todm.errors import UserError
from todm.train.checkpoint import CheckpointStore, load_checkpoint
from todm.train.metrics import Mean
from todm.train.phases import PhaseSchedule
from todm.train.state import TrainState
from todm.train.step_losses import PassLoss
from todm.train.sync import sum_over_processes


@dataclass(frozen=True, kw_only=True)
class Rollback:
    """A rollback that has taken place.

    Args:
        good_step: last step before the jump, as far as known.
        from_step: step at which the collapse was detected.
        to_step: step of the restored checkpoint.
        lr_scale: factor on all learning rates from now on.
    """

    good_step: int
    from_step: int
    to_step: int
    lr_scale: float


class CollapseRecovery:
    """Watches the losses of the largest and smallest nets and restores a checkpoint after a collapse.

    Args:
        state: state of the run.
        store: its checkpoints.
        phases: phases of the run.
    """

    def __init__(self, state: TrainState, store: CheckpointStore, phases: PhaseSchedule) -> None:
        self.state = state
        self.store = store
        self.phases = phases
        space = state.net.space
        self.watched = {space.max(mode): "max" for mode in space.modes}
        self.watched |= {space.min(mode): "min" for mode in space.modes}

    def has_collapsed(self, batch: Batch, losses: Iterable[PassLoss]) -> bool:
        """Take the losses of the last step into account; all processes return the same.

        Args:
            batch: batch of the step.
            losses: losses of its passes.
        """
        state = self.state
        if state.step <= self.phases.sandwich_begin:
            return False  # losses of other phases cannot be compared
        for loss in losses:
            if loss.spec in self.watched and loss.rnnt is not None:
                name = f"{self.watched[loss.spec]}-{loss.spec.mode}"
                state.guard.add(name, total=loss.rnnt, weight=float(batch.feat_lens.sum()))
        if not state.guard.end_step():
            return False
        sums = sum_over_processes(state.guard.losses.to_sums())
        return state.guard.close_window(Mean.from_sums(sums).means(), state.step)

    def roll_back(self) -> Rollback:
        """Restore the newest checkpoint from before the jump and reduce the learning rate.

        Raises:
            UserError: no checkpoint is old enough, or the run has collapsed too often.
        """
        state, good_step, from_step = self.state, self.state.guard.good_step, self.state.step
        path = self.store.find_until(good_step)
        if path is None:
            raise UserError(
                f"{self.store.folder}: the loss jumped and stayed high after step {good_step}, and no "
                "checkpoint is as old; lower train.optim.lr, or set train.save_interval to make rollbacks "
                "possible"
            )
        state.load_state_dict(load_checkpoint(path), with_guard=False)
        state.guard.roll_back()
        return Rollback(
            good_step=good_step, from_step=from_step, to_step=state.step, lr_scale=state.guard.lr_scale
        )
