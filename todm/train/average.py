"""Averages of weights: over the last part of a run, or over several checkpoints."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from todm.config import DropoutConfig
from todm.dropout.reweighted import sparsify
from todm.errors import UserError
from todm.layout import RunFolder, find_checkpoints
from todm.train.checkpoint import load_checkpoint, load_latest


class RunningAverage:
    """The mean of the weights after every `period`-th batch since `start_step`.

    The plain mean, or with a `window` one in which older samples fade: with k samples after it, a sample
    weighs ``(1 - period / window) ** k``. Sums are kept in float64, so that without a window every sample
    weighs exactly the same; a resumed run has the same bits. Tensors that are not floating point (counters)
    are taken from the last sample.

    Args:
        start_step: samples are taken at steps beyond this one.
        period: batches between samples, at least 1.
        window: batches after which a sample's weight has fallen to about 1/e, at least `period`; 0 for the
            plain mean.
    """

    def __init__(self, *, start_step: int, period: int, window: int = 0) -> None:
        assert start_step >= 0 and period >= 1 and (window == 0 or window >= period)
        self.start_step = start_step
        self.period = period
        self.decay = 1.0 - period / window if window else 1.0
        self.num_samples = 0
        self._weight = 0.0  # of all samples together
        self._sums: dict[str, Tensor] = {}
        self._dtypes: dict[str, torch.dtype] = {}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> bool:
        """Add the model's weights after batch `step` (from 1) if a sample is due; returns whether it was."""
        if step <= self.start_step or (step - self.start_step) % self.period:
            return False
        for name, value in model.state_dict().items():
            if not value.is_floating_point():
                self._sums[name] = value.clone()
            elif name in self._sums:
                # A resumed average was loaded to the CPU; the model may live elsewhere.
                self._sums[name] = self._sums[name].to(value.device).mul_(self.decay).add_(value)
            else:
                self._sums[name] = value.to(torch.float64, copy=True)
            self._dtypes[name] = value.dtype
        self.num_samples += 1
        self._weight = self._weight * self.decay + 1.0
        return True

    def weights(self) -> dict[str, Tensor]:
        """Return the mean so far as a state dict in the model's own dtypes; at least one sample is needed."""
        assert self.num_samples > 0
        return {
            name: (total / self._weight if total.is_floating_point() else total).to(self._dtypes[name])
            for name, total in self._sums.items()
        }

    def state_dict(self) -> dict[str, Any]:
        """Return plain values and copies of the sums."""
        return {
            "num_samples": self.num_samples,
            "weight": self._weight,
            "sums": {name: value.clone() for name, value in self._sums.items()},
            "dtypes": {name: str(dtype).removeprefix("torch.") for name, dtype in self._dtypes.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the result of `state_dict`; start, period and window stay as configured."""
        self.num_samples = state["num_samples"]
        self._weight = state.get("weight", float(self.num_samples))  # 0.1.0 wrote none: a plain mean's
        self._sums = {name: value.clone() for name, value in state["sums"].items()}
        self._dtypes = {name: getattr(torch, dtype) for name, dtype in state["dtypes"].items()}


def mean_weights(state_dicts: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Compute the mean of several models of one architecture in float64.

    Args:
        state_dicts: at least one, the first one's non-float tensors are kept.

    Raises:
        UserError: names or shapes differ.
    """
    assert state_dicts
    first = state_dicts[0]
    shapes = {name: value.shape for name, value in first.items()}
    for other in state_dicts[1:]:
        if {name: value.shape for name, value in other.items()} != shapes:
            raise UserError(
                "checkpoints: their architectures differ, so they cannot be averaged; use fewer (--last)"
            )
    mean: dict[str, Tensor] = {}
    for name, value in first.items():
        if value.is_floating_point():
            total = sum((other[name].double() for other in state_dicts[1:]), value.double())
            mean[name] = (total / len(state_dicts)).to(value.dtype)
        else:
            mean[name] = value.clone()
    return mean


def finished_weights(
    exp_dir: Path, dropout: DropoutConfig, *, from_running: bool = True, last: int = 1
) -> dict[str, Tensor]:
    """Return the averaged supernet of a run with the zeros of adaptive sparsity, for export.

    Args:
        exp_dir: the run's folder.
        dropout: section ``train.dropout``.
        from_running: see `average`.
        last: see `average`.
    """
    weights = average(exp_dir, from_running=from_running, last=last)
    sparsify(weights, dropout)
    return weights


def average(exp_dir: Path, *, from_running: bool = True, last: int = 1) -> dict[str, Tensor]:
    """Return the averaged supernet of a run as a state dict on the CPU.

    Args:
        exp_dir: the run's folder.
        from_running: take the running average of the newest readable checkpoint; a run that was too
            short to have one falls back on the checkpoints' weights.
        last: how many of the newest checkpoints' weights are averaged otherwise; fewer if there are
            fewer; unreadable ones are skipped.

    Raises:
        UserError: no readable checkpoint.
    """
    if last < 1:
        raise UserError(f"--last: need at least 1 checkpoint, got {last}")
    folder = RunFolder(exp_dir).checkpoints
    found = load_latest(folder)
    if found is None:
        raise UserError(f"{folder}: no checkpoints; train first (todm train)")
    path, newest = found
    running = newest.get("average") or {}
    if from_running and running.get("num_samples", 0) > 0:
        average_of_run = RunningAverage(start_step=0, period=1)
        average_of_run.load_state_dict(running)
        return average_of_run.weights()
    if from_running:
        logging.getLogger(__name__).warning(
            "%s: the run ended before its running average began; averaging its last checkpoints", path
        )
    older = find_checkpoints(folder)
    state_dicts = [newest["model"]]
    for other in older[older.index(path) + 1 :]:
        if len(state_dicts) == last:
            break
        try:
            state_dicts.append(load_checkpoint(other)["model"])
        except UserError as error:
            logging.getLogger(__name__).warning("skipping %s", error)
    return mean_weights(state_dicts)
