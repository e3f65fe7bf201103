"""Collects losses, rates and times of a log interval and reports them."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager

from todm.data.batch import Batch
from todm.runtime.constants import FRAME_SECONDS
from todm.train.metrics import Mean, Report, RunLogs
from todm.train.state import TrainState
from todm.train.step import SandwichStep
from todm.train.step_losses import PassLoss
from todm.train.sync import World, sum_over_processes

log = logging.getLogger(__name__)


class Meter:
    """Collects an epoch's losses and times, one log interval after the other.

    Args:
        state: state of the run at the start of the epoch (or where it is resumed).
        step_fn: step of the run, for names of specs and strengths of dropout.
        world: this process among its peers.
        logs: files to write to.
        num_batches: batches of the epoch.
        end_step: last step of the run, for the remaining time.
    """

    def __init__(
        self,
        state: TrainState,
        step_fn: SandwichStep,
        world: World,
        logs: RunLogs,
        *,
        num_batches: int,
        end_step: int,
    ) -> None:
        self.state, self.step_fn, self.world, self.logs = state, step_fn, world, logs
        self.num_batches, self.end_step = num_batches, end_step
        self.names = {spec: name for name, spec in state.net.space.ladder().items()}
        self.epoch_start, self.first_batch = time.monotonic(), state.batch
        self._start_interval()

    def _start_interval(self) -> None:
        self.losses, self.extras = Mean(), Mean()
        self.seconds, self.num_steps, self.num_skipped, self.grad_norm = 0.0, 0, 0, 0.0
        self.clipped_before = self.state.optimizer.clipper.num_clipped
        self.interval_start = time.monotonic()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave out the time of the block (a validation, for example)."""
        start = time.monotonic()
        yield
        elapsed = time.monotonic() - start
        self.interval_start += elapsed
        self.epoch_start += elapsed

    def add(self, batch: Batch, losses: list[PassLoss], grad_norm: float) -> None:
        """Add the losses and the gradient norm of one step.

        Args:
            batch: batch of the step.
            losses: losses of its passes.
            grad_norm: norm before clipping; a step whose norm is not finite counts as skipped.
        """
        frames = float(batch.feat_lens.sum())
        self.seconds += frames * FRAME_SECONDS
        self.num_steps += 1
        self.grad_norm = grad_norm
        if not math.isfinite(grad_norm):  # the means of all other steps would be lost
            self.num_skipped += 1
            return
        for loss in losses:
            name = self.names.get(loss.spec, f"random-{loss.spec.mode}")
            # Losses of different corpora can be compared per encoder frame.
            weight = frames / self.state.net.config.subsampling_factor
            if loss.rnnt is not None:
                self.losses.add(name, total=loss.rnnt, weight=weight)
            for part, total in loss.parts.items():
                self.extras.add(part, total=total, weight=weight)

    def report(self, epoch: int) -> None:
        """Write the interval to the log, metrics.jsonl and TensorBoard, and start the next one.

        Args:
            epoch: index of the current epoch, from 0.
        """
        if self.num_steps == 0:
            return
        state, step_fn = self.state, self.step_fn
        losses = Mean.from_sums(sum_over_processes(self.losses.to_sums())).means()
        extras = Mean.from_sums(sum_over_processes(self.extras.to_sums())).means()
        elapsed = time.monotonic() - self.interval_start
        batch = state.batch or self.num_batches  # 0 after the last batch
        pace = (time.monotonic() - self.epoch_start) / max(1, batch - self.first_batch)
        progress = step_fn.phases.dropout_progress(state.step)
        plan = step_fn.policy.plan(state.net.space.max(), progress)
        report = Report(
            epoch=epoch + 1,
            batch=batch,
            num_batches=self.num_batches,
            step=state.step,
            subnets=losses,
            losses=extras,
            lr=state.optimizer.param_groups[0]["lr"],
            grad_norm=self.grad_norm,
            clipped=(state.optimizer.clipper.num_clipped - self.clipped_before) / self.num_steps,
            dropout={"factor": state.dropout.factor(progress), **plan.strengths()},
            seconds=elapsed,
            hours_per_hour=self.seconds * self.world.size / max(elapsed, 1e-9),
            eta=pace * max(0, self.end_step - state.step),
            skipped=self.num_skipped,
        )
        if self.world.is_main:
            log.info("%s", report.line())
            self.logs.write(report.to_dict(), report.scalars())
        self._start_interval()
