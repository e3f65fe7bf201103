"""State of a training run: what a checkpoint saves and restores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from todm.config import Config
from todm.dropout.schedules import DropoutSchedule
from todm.errors import UserError
from todm.files import read_json
from todm.layout import DataFolder
from todm.nn.ssm import is_ssm_parameter
from todm.nn.supernet import Supernet
from todm.space.space import SearchSpace
from todm.train.average import RunningAverage
from todm.train.collapse import CollapseGuard
from todm.train.optim import ClippedAdamW, ScaledAdam, build_optimizer
from todm.train.schedule import Schedule


@dataclass(kw_only=True)
class TrainState:
    """Everything that changes during a run.

    Args:
        net: the supernet.
        optimizer: optimizer of its parameters.
        schedule: learning-rate schedule.
        dropout: dropout schedule.
        average: running average of the weights.
        guard: detector of collapses.
        step: batches trained in the run.
        epoch: finished epochs.
        batch: batches trained in the current epoch.
    """

    net: Supernet
    optimizer: ScaledAdam | ClippedAdamW
    schedule: Schedule
    dropout: DropoutSchedule
    average: RunningAverage
    guard: CollapseGuard
    step: int = 0
    epoch: int = 0
    batch: int = 0

    def state_dict(self) -> dict[str, Any]:
        """Return plain values and tensors for a checkpoint."""
        return {
            "model": self.net.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "dropout": self.dropout.state_dict(),
            "average": self.average.state_dict(),
            "guard": self.guard.state_dict(),
            "step": self.step,
            "epoch": self.epoch,
            "batch": self.batch,
        }

    def load_state_dict(self, state: Mapping[str, Any], *, with_guard: bool = True) -> None:
        """Restore a checkpoint.

        Args:
            state: content of the checkpoint.
            with_guard: restore `guard` too; a rollback keeps the current one.
        """
        self.net.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.dropout.load_state_dict(state.get("dropout", {}))
        # Averages that a shorter run took at its end are dropped when the run is extended.
        if state["step"] > self.average.start_step:
            self.average.load_state_dict(state["average"])
        self.step, self.epoch, self.batch = state["step"], state["epoch"], state["batch"]
        if with_guard and "guard" in state:  # checkpoints of 0.1.0 have none
            self.guard.load_state_dict(state["guard"])


def build_net(
    config: Config,
    space: SearchSpace,
    vocab_size: int,
    data: DataFolder,
    weights: Mapping[str, Tensor] | None = None,
) -> Supernet:
    """Build the supernet of a run, with weights that depend on the seed only.

    Args:
        config: settings of the run.
        space: specs that are trained.
        vocab_size: size of the vocabulary, blank included.
        data: prepared data, with the statistics of the features.
        weights: initial weights; None draws random ones.
    """
    torch.manual_seed(config.train.seed)  # for the initialisation only; steps have their own generators
    net = Supernet(config.model, space, vocab_size)
    set_feature_stats(net, data)
    if weights is not None:
        net.load_state_dict(weights)
    return net


def set_feature_stats(net: Supernet, data: DataFolder) -> None:
    """Copy the training features' mean and standard deviation per mel bin into the subsampling."""
    if not data.stats.is_file():
        raise UserError(f"{data.stats}: missing; run 'todm prepare' first")
    stats = read_json(data.stats)
    net.full.subsampling.mean.copy_(torch.tensor(stats["mean"]))
    net.full.subsampling.inv_std.copy_(1.0 / torch.tensor(stats["std"]))


def build_state(config: Config, net: Supernet, dropout: DropoutSchedule, total_steps: int) -> TrainState:
    """Build the initial state of a run.

    Args:
        config: settings of the run.
        net: supernet with its initial weights, on its device.
        dropout: dropout schedule.
        total_steps: steps of the whole run.
    """
    train = config.train
    optimizer = build_optimizer(train.optim, net.named_parameters(), is_ssm_parameter)
    return TrainState(
        net=net,
        optimizer=optimizer,
        schedule=Schedule(optimizer, train.optim, total_steps=total_steps),
        dropout=dropout,
        average=RunningAverage(
            start_step=int(train.average_from * total_steps),
            period=train.average_period,
            window=train.average_window,
        ),
        guard=CollapseGuard(train.collapse),
    )
