"""What training says of itself: an interval's losses, rates and times, in one line and in the files."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from todm.data.batch import Batch
from todm.runtime.constants import FRAME_SECONDS
from todm.train.metrics import Mean, Report
from todm.train.step_losses import PassLoss
from todm.train.sync import sum_over_processes

if TYPE_CHECKING:
    from todm.train.loop import Run


class Meter:
    """Collects an interval's losses and says them in one line."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.epoch_start, self.first_batch = time.monotonic(), run.batch
        self._clear()

    def _clear(self) -> None:
        self.losses, self.extras = Mean(), Mean()
        self.seconds, self.num_steps, self.num_skipped, self.grad_norm = 0.0, 0, 0, 0.0
        self.clipped_before = self.run.optimizer.clipper.num_clipped
        self.interval_start = time.monotonic()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What is done in the block, a validation say, counts neither for pace nor for speed."""
        begun = time.monotonic()
        yield
        lost = time.monotonic() - begun
        self.interval_start += lost
        self.epoch_start += lost

    def add(self, batch: Batch, losses: list[PassLoss], grad_norm: float) -> None:
        """Add one step."""
        frames = float(batch.feat_lens.sum())
        self.seconds += frames * FRAME_SECONDS
        self.num_steps += 1
        self.grad_norm = grad_norm
        if not math.isfinite(grad_norm):  # such losses would hide those of all other steps
            self.num_skipped += 1
            return
        ladder = {spec: name for name, spec in self.run.space.ladder().items()}
        for loss in losses:
            name = ladder.get(loss.spec, f"random-{loss.spec.mode}")
            # Per encoder frame, the unit in which losses of different corpora can be compared.
            weight = frames / self.run.config.model.subsampling_factor
            if loss.rnnt is not None:
                self.losses.add(name, total=loss.rnnt, weight=weight)
            for part, total in loss.parts.items():
                self.extras.add(part, total=total, weight=weight)

    def report(self, epoch: int) -> None:
        """Write the line, metrics.jsonl and TensorBoard, and begin the next interval."""
        if self.num_steps == 0:
            return
        run = self.run
        losses = Mean.from_sums(sum_over_processes(self.losses.to_sums())).means()
        extras = Mean.from_sums(sum_over_processes(self.extras.to_sums())).means()
        elapsed = time.monotonic() - self.interval_start
        done = (run.batch or run.num_batches) - self.first_batch
        pace = (time.monotonic() - self.epoch_start) / max(1, done)
        report = Report(
            epoch=epoch + 1,
            batch=run.batch or run.num_batches,
            num_batches=run.num_batches,
            step=run.step,
            subnets=losses,
            losses=extras,
            lr=run.optimizer.param_groups[0]["lr"],
            grad_norm=self.grad_norm,
            clipped=(run.optimizer.clipper.num_clipped - self.clipped_before) / self.num_steps,
            dropout=run.dropout_strengths(),
            seconds=elapsed,
            hours_per_hour=self.seconds * run.world.size / max(elapsed, 1e-9),
            eta=pace * max(0, (run.last_step or run.total_steps) - run.step),
            skipped=self.num_skipped,
        )
        if run.world.is_main:
            logging.getLogger(__name__).info("%s", report.line())
            assert run.metrics is not None and run.tensorboard is not None
            run.metrics.write(report.to_dict())
            run.tensorboard.write(report.scalars(), run.step)
        self._clear()
