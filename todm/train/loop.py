"""The training loop.

``train(config, exp_dir)`` reads a prepared run folder (``todm prepare``) and writes checkpoints, logs and
metrics to it::

    build the net, its optimizer and schedules; resume the latest checkpoint
    for each epoch:
        for each batch:
            draw specs; augment; forward and backward passes of all specs (todm.train.step)
            sum the gradients over the processes; update; average the weights
            report, roll back after a collapse, validate, save, stop on SIGTERM
        validate and save

One process or many (``torchrun -m todm train ...``): every process draws the same specs, loads its own
batches, and the gradients are summed once per step.

All random numbers of a step come from a generator seeded with (seed, step, rank), and the order of batches
from (seed, epoch): a resumed run is bit-identical to an uninterrupted one, within an epoch too, without any
generator state to restore. SIGTERM saves after the current batch and ends the run with exit code 143; the
same command resumes it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from todm.config import Config, save_config
from todm.config.check import check
from todm.data.augment import append_silence, augment, scale_strength
from todm.data.batch import Batch
from todm.data.loader import make_train_loader
from todm.data.recorded import open_sounds
from todm.data.tokenizer import Tokenizer
from todm.dropout import build_policy
from todm.envinfo import collect_env
from todm.errors import UserError
from todm.files import append_line, write_json
from todm.layout import DataFolder, RunFolder
from todm.space.sandwich import draw_specs
from todm.space.space import SearchSpace
from todm.train.checkpoint import CheckpointStore, check_same_architecture, check_same_settings
from todm.train.memory_scan import scan_longest_batches
from todm.train.meter import Meter
from todm.train.metrics import RunLogs
from todm.train.rollback import CollapseRecovery
from todm.train.state import build_net, build_state
from todm.train.step import SandwichStep
from todm.train.step_losses import PassLoss
from todm.train.stopping import EXIT_CODE, StopRequest
from todm.train.sync import (
    World,
    broadcast_weights,
    choose_device,
    find_differences,
    process_group,
    reduce_gradients,
    sum_tensor,
)
from todm.train.validation import Validator

log = logging.getLogger(__name__)

MAX_BAD_STEPS = 50
"""Consecutive steps without a finite gradient after which the weights are considered lost."""


@dataclass(frozen=True, kw_only=True)
class WarmStart:
    """Start of a training from a trained net (see `todm.train.finetune`).

    Args:
        space: specs to train, in place of the config's.
        weights: state dict of a `Supernet` of that space.
        data_dir: prepared data, in place of ``exp_dir/data``.
        origin: digest of the source of the weights; checkpoints of another origin are not resumed.
    """

    space: SearchSpace
    weights: Mapping[str, Tensor]
    data_dir: Path
    origin: str


def train(config: Config, exp_dir: Path, start: WarmStart | None = None, *, until: int = 0) -> None:
    """Train the supernet that `config` describes on the data in `exp_dir`.

    Args:
        config: the resolved config; it is written to ``exp_dir/config.yaml`` and into every checkpoint.
        exp_dir: run folder with ``data/`` from ``todm prepare``.
        start: trained weights to start with; None starts with random ones.
        until: end after this many batches of the run without changing its schedules, so that the same call
            without it continues as if uninterrupted; 0 for the whole run.

    Raises:
        UserError: missing data, a checkpoint of another architecture, an impossible setting, or a setting
            that a finished training would not read.
    """
    check(config)
    world = World.from_env()
    device = choose_device(config.train.device, world)
    if config.train.num_threads:
        torch.set_num_threads(config.train.num_threads)
    with process_group(world, device=device), StopRequest() as stop:
        trainer = Trainer(config, exp_dir, world, device, stop, start)
        try:
            trainer.resume()
            if world.is_main:
                trainer.folder.finished.unlink(missing_ok=True)
            scan_longest_batches(trainer.step_fn, trainer.loader, config.train, device)
            trainer.run(until=until)
            if world.is_main and not trainer.ends_early:
                state = trainer.state
                write_json(trainer.folder.finished, {"step": state.step, "epochs": state.epoch})
        finally:
            trainer.close()


class Trainer:
    """Trains one run.

    Args:
        config: resolved settings.
        exp_dir: run folder.
        world: this process among its peers.
        device: device of the model.
        stop: request to save and end.
        start: see `train`.
    """

    def __init__(
        self,
        config: Config,
        exp_dir: Path,
        world: World,
        device: torch.device,
        stop: StopRequest,
        start: WarmStart | None = None,
    ) -> None:
        self.config, self.world, self.device, self.stop = config, world, device, stop
        self.folder = RunFolder(exp_dir)
        space = SearchSpace.from_config(config) if start is None else start.space
        data = DataFolder(self.folder.data if start is None else start.data_dir)
        self.tokenizer = Tokenizer.load(data.lang)
        self.sounds = open_sounds(config.data, data)
        dropout = build_policy(config.train.dropout, space)
        weights = None if start is None else start.weights
        net = build_net(config, space, self.tokenizer.vocab_size, data, weights).to(device)
        broadcast_weights(net)

        self.loader = make_train_loader(
            config,
            data.path,
            self.tokenizer,
            seed=config.train.seed,
            rank=world.rank,
            world_size=world.size,
        )
        self.num_batches = self.loader.count_batches(0)  # in the current epoch
        self.total_steps = self.num_batches + self.loader.count_batches(1) * (config.train.num_epochs - 1)
        if config.train.max_steps:
            self.total_steps = min(self.total_steps, config.train.max_steps)
        self.until = config.train.max_steps  # last step of this call; 0 for none

        self.state = build_state(config, net, dropout.schedule, self.total_steps)
        self.step_fn = SandwichStep(net, config.train, dropout, total_steps=self.total_steps)
        self.store = CheckpointStore(
            self.folder.checkpoints,
            keep=config.train.keep_checkpoints,
            origin="" if start is None else start.origin,
        )
        self.recovery = CollapseRecovery(self.state, self.store, self.step_fn.phases)
        self.validator = Validator(config, data, self.tokenizer)
        self.logs = RunLogs()
        self.num_bad = 0  # consecutive steps whose gradient was not finite

    @property
    def finished(self) -> bool:
        """Whether the last step of the run, or of this call, is done."""
        return bool(self.until) and self.state.step >= self.until

    @property
    def ends_early(self) -> bool:
        """Whether this call ends here, but not the run."""
        return self.finished and self.state.step < self.total_steps

    def resume(self) -> None:
        """Load the checkpoint that ``train.resume`` selects, if any, and open the logs at its step."""
        state = self.state
        found = self.store.find(self.config.train.resume)
        if found is not None:
            path, saved = found
            check_same_architecture(
                saved["config"],
                self.config,
                saved_vocab_size=saved["vocab_size"],
                vocab_size=self.tokenizer.vocab_size,
                source=path,
            )
            state.load_state_dict(saved)
            training = self.config.train
            if state.epoch >= training.num_epochs or 0 < training.max_steps <= state.step:
                check_same_settings(saved["config"], self.config, self.folder.path)
            log.info("resumed %s: epoch %d, batch %d, step %d", path, state.epoch, state.batch, state.step)
            if state.epoch >= self.config.train.num_epochs:
                log.info("all %d epochs are trained; a larger train.num_epochs trains on", state.epoch)
        self._check_same_files()
        if self.world.is_main:
            save_config(self.config, self.folder.config)
            self.logs = RunLogs.open(self.folder, step=state.step)
            log.info(
                "%.2f M parameters, vocabulary %d, %d batches per epoch, %d steps, on %s",
                sum(parameter.numel() for parameter in state.net.parameters()) / 1e6,
                self.tokenizer.vocab_size, self.num_batches, self.total_steps, self.device,
            )  # fmt: skip

    def _check_same_files(self) -> None:
        """Check that all processes have found the same data and the same checkpoint."""
        state = self.state
        place = {"checkpoint's step": state.step, "batch": state.batch, "total steps": self.total_steps}
        different = find_differences(place)
        if different:
            listed = "; ".join(f"{name} {values}" for name, values in different.items())
            raise UserError(
                f"{self.folder.path}: the processes do not see the same files there ({listed}, by rank); put "
                "the run folder on storage that all machines share"
            )

    def run(self, *, until: int = 0) -> None:
        """Train epoch by epoch to the end of the run, or to step `until` if it is not 0."""
        self.until = min(filter(None, (self.config.train.max_steps, until)), default=0)
        while self.state.epoch < self.config.train.num_epochs and not self.finished:
            self._train_epoch(self.state.epoch)
        sum_tensor(torch.zeros((), device=self.device))  # wait until the last checkpoint is written

    def _train_epoch(self, epoch: int) -> None:
        """Train on all training cuts once (or on the rest of a resumed epoch), then validate and save."""
        config, state = self.config.train, self.state
        self.num_batches = self.loader.count_batches(epoch)
        meter = Meter(
            state,
            self.step_fn,
            self.world,
            self.logs,
            num_batches=self.num_batches,
            end_step=self.until or self.total_steps,
        )
        for batch in self._batches(epoch):
            losses, grad_norm = self._train_batch(batch)
            meter.add(batch, losses, grad_norm)
            if state.step % config.log_interval == 0:
                meter.report(epoch)
            if self.recovery.has_collapsed(batch, losses):
                self._roll_back()
                return
            if config.valid_interval > 0 and state.step % config.valid_interval == 0:
                with meter.paused():
                    self._validate(epoch)
            if config.save_interval and state.step % config.save_interval == 0:
                self._save()
            if self._must_stop():
                self._save()
                log.info(
                    "stopped by SIGTERM after step %d; the same command resumes the training", state.step
                )
                raise SystemExit(EXIT_CODE)
            if self.finished:
                break
        else:
            state.batch, state.epoch = 0, epoch + 1
        meter.report(epoch)
        # A run that is to be continued must not have validated more often than an uninterrupted one.
        if config.valid_interval >= 0 and not self.ends_early:
            self._validate(epoch)
        self._save()

    def _batches(self, epoch: int) -> Iterator[Batch]:
        self.loader.set_epoch(epoch, self.state.batch)
        yield from tqdm(
            self.loader,
            desc=f"epoch {epoch + 1}/{self.config.train.num_epochs}",
            total=self.num_batches,
            initial=self.state.batch,
            unit="batch",
            disable=None if self.world.is_main else True,
            leave=False,
        )

    def _train_batch(self, batch: Batch) -> tuple[list[PassLoss], float]:
        """Run all specs of a step on a batch and update the weights; returns losses and gradient norm."""
        config, state, phases = self.config, self.state, self.step_fn.phases
        epochs = state.epoch + state.batch / self.num_batches
        state.schedule.set(state.step, epochs, scale=state.guard.lr_scale)
        specs = draw_specs(state.net.space, config.train.sandwich, seed=config.train.seed, step=state.step)
        generator = seed_generator(self.device, config.train.seed, state.step, self.world.rank)
        batch = batch.to(self.device)
        if phases.at(state.step).augments:
            strength = phases.warmup_progress(state.step, config.augment.warmup_steps)
            batch = augment(batch, scale_strength(config.augment, strength), generator, self.sounds)
        batch = append_silence(batch, self.step_fn.tail_frames(state.step))
        pending = self.step_fn(batch, specs, step=state.step, generator=generator)
        reduce_gradients(state.net.parameters())
        state.optimizer.step()
        grad_norm = state.optimizer.clipper.last_norm
        self._check_finite(grad_norm, batch)
        state.optimizer.zero_grad(set_to_none=True)
        state.step += 1
        state.batch += 1
        state.average.update(state.net, state.step)
        return pending.on_host(), grad_norm

    def _check_finite(self, grad_norm: float, batch: Batch) -> None:
        """Record the utterances of a step that the optimizer skipped; end a run that skips every step."""
        if math.isfinite(grad_norm):
            self.num_bad = 0
            return
        self.num_bad += 1
        path = self.folder.skipped_batches(self.world.rank)
        append_line(path, json.dumps({"step": self.state.step, "ids": batch.ids}))
        log.warning(
            "step %d skipped: its gradient is not finite; its utterances are listed in %s",
            self.state.step, path,
        )  # fmt: skip
        if self.num_bad >= MAX_BAD_STEPS:
            raise UserError(
                f"{path}: the last {MAX_BAD_STEPS} steps had no finite gradient; lower train.optim.lr, "
                "resume an earlier checkpoint (train.resume), or check these utterances"
            )

    def _roll_back(self) -> None:
        rollback = self.recovery.roll_back()
        sum_tensor(torch.zeros((), device=self.device))  # wait until all processes have read the checkpoint
        log.warning(
            "the loss jumped and stayed high after step %d: rolled back from step %d to %d, with %g of the "
            "learning rate",
            rollback.good_step, rollback.from_step, rollback.to_step, rollback.lr_scale,
        )  # fmt: skip
        if self.world.is_main:
            steps = {"step": rollback.from_step, "to": rollback.to_step}
            self.logs.write({"kind": "rollback", **steps, "lr_scale": rollback.lr_scale})
            self.store.remove_after(rollback.to_step)
        self._save()

    def _must_stop(self) -> bool:
        """Whether any process was asked to stop; all must end after the same batch."""
        if self.world.size == 1:  # no need to wait for the device
            return self.stop.requested
        requested = torch.tensor(float(self.stop.requested), device=self.device)
        return bool(sum_tensor(requested) > 0)

    def _validate(self, epoch: int) -> None:
        """Log the WER of the largest and smallest nets, and the dev loss if the dropout schedule needs it."""
        state = self.state
        if state.dropout.watches_dev_loss and state.step > self.step_fn.phases.sandwich_begin:
            self._observe_dev_loss()
        if not self.world.is_main:
            return
        wers = self.validator.compute_wers(state.net, state.average)
        log.info(
            "epoch %d step %d dev WER | %s",
            epoch + 1, state.step, " ".join(f"{name} {wer:.2f}%" for name, wer in wers.items()),
        )  # fmt: skip
        self.logs.write(
            {"kind": "valid", "step": state.step, "epoch": epoch + 1, "wer": wers},
            {f"dev_wer/{name}": wer for name, wer in wers.items()},
        )

    def _observe_dev_loss(self) -> None:
        """Pass the dev loss, computed in the main process, to the dropout schedule of every process."""
        step, loss = self.state.step, 0.0
        if self.world.is_main:
            loss = self.validator.compute_dev_loss(self.step_fn, step, self.device)
        loss = float(sum_tensor(torch.tensor(loss, device=self.device)))
        self.state.dropout.observe(loss)
        self.logs.write({"kind": "dev_loss", "step": step, "loss": loss}, {"dev_loss/max": loss})

    def _save(self) -> None:
        if self.world.is_main:
            config = self.config.to_dict()
            about = {"config": config, "vocab_size": self.tokenizer.vocab_size, "env": collect_env()}
            self.store.save({**self.state.state_dict(), **about})

    def close(self) -> None:
        """Close the log files."""
        self.logs.close()


def seed_generator(device: torch.device, seed: int, step: int, rank: int) -> torch.Generator:
    """Make a generator on `device` that depends on (seed, step, rank) only."""
    digest = hashlib.sha256(f"step-{seed}-{step}-{rank}".encode()).digest()
    return torch.Generator(device=device).manual_seed(int.from_bytes(digest[:8], "little") >> 1)
