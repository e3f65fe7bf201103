"""A whole training run, top to bottom.

``train(config, exp_dir)`` reads a prepared run folder (``todm prepare``) and leaves checkpoints, logs and
metrics in it. One process or many (``torchrun -m todm train ...``): every process draws the same specs, takes
its own batches, and the gradients are summed once per step.

Everything random in a step is drawn from a generator seeded by (seed, step, rank), and the order of batches
by (seed, epoch); so a resumed run goes on bit for bit, mid-epoch too, without any generator state to restore.
SIGTERM saves after the batch at hand and ends the run with exit code 143; the same command then goes on.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from todm.config import Config, save_config
from todm.data.augment import append_silence, augment, scale_strength
from todm.data.batch import Batch
from todm.data.loader import load_cuts, make_eval_loader, make_train_loader
from todm.data.tokenizer import Tokenizer
from todm.decode.evaluate import transcribe_batches
from todm.decode.streaming import make_streaming_view
from todm.decode.wer import Utterance, compute_wer
from todm.dropout import build_policy
from todm.dropout.reweighted import sparsify
from todm.envinfo import collect_env
from todm.errors import UserError
from todm.extract import extract
from todm.files import write_json
from todm.layout import DataFolder, RunFolder, checkpoint_path
from todm.nn.ssm import is_ssm_parameter
from todm.nn.supernet import Supernet
from todm.runtime.constants import BLANK_ID
from todm.space.sandwich import draw_specs
from todm.space.space import SearchSpace
from todm.train.average import RunningAverage
from todm.train.checkpoint import (
    check_same_architecture,
    find_checkpoint,
    list_checkpoints,
    load_checkpoint,
    prune_checkpoints,
    save_checkpoint,
)
from todm.train.collapse import CollapseGuard
from todm.train.memory_scan import scan_longest_batches
from todm.train.meter import Meter
from todm.train.metrics import JsonLines, Mean, TensorBoard
from todm.train.optim import build_optimizer
from todm.train.schedule import Schedule
from todm.train.step import SandwichStep
from todm.train.step_losses import PassLoss
from todm.train.stopping import EXIT_CODE, StopRequest
from todm.train.sync import (
    World,
    broadcast_weights,
    choose_device,
    differing,
    process_group,
    reduce_gradients,
    sum_over_processes,
    sum_tensor,
)

log = logging.getLogger(__name__)

MAX_BAD_STEPS = 50
"""In a row; more than a few bad utterances, so the weights themselves are lost."""


@dataclass(frozen=True, kw_only=True)
class WarmStart:
    """Where a training begins that goes on from a trained net (see `todm.train.finetune`).

    Args:
        space: the specs to train, in place of the config's.
        weights: state dict of a `Supernet` of that space.
        data_dir: prepared data, in place of ``exp_dir/data``.
        origin: a digest of what the weights come from; checkpoints of another origin are not continued.
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
        start: trained weights to begin with; None begins with random ones.
        until: end after so many batches of the run, its schedules left as they are, so that the same call
            without it goes on as if nothing had been; 0 for the whole run.

    Raises:
        UserError: missing data, a checkpoint of another architecture, an impossible setting.
    """
    world = World.from_env()
    device = choose_device(config.train.device, world)
    if config.train.num_threads:
        torch.set_num_threads(config.train.num_threads)
    with process_group(world, device=device), StopRequest() as stop:
        run = Run(config, exp_dir, world, device, stop, start, until)
        try:
            run.resume()
            if world.is_main:
                RunFolder(exp_dir).finished.unlink(missing_ok=True)
            scan_longest_batches(run.step_fn, run.loader, config.train, device)
            while run.epoch < config.train.num_epochs and not run.finished:
                run.train_epoch(run.epoch)
            if world.is_main and not run.ends_early:
                write_json(RunFolder(exp_dir).finished, {"step": run.step, "epochs": run.epoch})
        finally:
            run.close()


class Run:
    """The state of a training run and what happens to it, epoch by epoch.

    Args:
        config: resolved.
        exp_dir: run folder.
        world: this process among its peers.
        device: where the model lives.
        stop: asks the run to save and end.
        start: see `train`.
        until: see `train`.
    """

    def __init__(
        self,
        config: Config,
        exp_dir: Path,
        world: World,
        device: torch.device,
        stop: StopRequest,
        start: WarmStart | None = None,
        until: int = 0,
    ) -> None:
        self.config, self.exp_dir, self.world, self.device = config, exp_dir, world, device
        self.folder = RunFolder(exp_dir)
        self.stop = stop
        self.space = SearchSpace.from_config(config) if start is None else start.space
        self.data_dir = self.folder.data if start is None else start.data_dir
        self.origin = "" if start is None else start.origin
        self.tokenizer = Tokenizer.load(DataFolder(self.data_dir).lang)
        self.dropout = build_policy(config.train.dropout, self.space)

        torch.manual_seed(config.train.seed)  # initialisation only; steps have generators of their own
        net = Supernet(config.model, self.space, self.tokenizer.vocab_size)
        set_feature_stats(net, DataFolder(self.data_dir).stats)
        if start is not None:
            net.load_state_dict(start.weights)
        self.net = net.to(device)
        broadcast_weights(self.net)
        self.optimizer = build_optimizer(config.train.optim, self.net.named_parameters(), is_ssm_parameter)

        self.loader = make_train_loader(
            config,
            self.data_dir,
            self.tokenizer,
            seed=config.train.seed,
            rank=world.rank,
            world_size=world.size,
        )
        self.num_batches = self.loader.count_batches(0)  # of the present epoch
        self.total_steps = self.num_batches + self.loader.count_batches(1) * (config.train.num_epochs - 1)
        if config.train.max_steps:
            self.total_steps = min(self.total_steps, config.train.max_steps)
        self.step_fn = SandwichStep(self.net, config.train, self.dropout, total_steps=self.total_steps)
        self.schedule = Schedule(self.optimizer, config.train.optim, total_steps=self.total_steps)
        self.average = RunningAverage(
            start_step=int(config.train.average_from * self.total_steps),
            period=config.train.average_period,
            window=config.train.average_window,
        )

        self.last_step = min(filter(None, (config.train.max_steps, until)), default=0)  # 0: none
        self.step = 0  # batches done in the run
        self.epoch = 0  # epochs done
        self.batch = 0  # batches done in the present epoch
        self.num_bad = 0  # steps in a row whose gradient was not finite
        self.guard = CollapseGuard(config.train.collapse)
        self.outdated: list[Path] = []  # checkpoints of a run that this one replaces
        self.metrics: JsonLines | None = None
        self.tensorboard: TensorBoard | None = None

    @property
    def finished(self) -> bool:
        """Whether ``max_steps`` is reached, or the batch that this call was to end at."""
        return bool(self.last_step) and self.step >= self.last_step

    @property
    def ends_early(self) -> bool:
        """Whether this call ends here, but not the run."""
        return self.finished and self.step < self.total_steps

    def resume(self) -> None:
        """Continue a checkpoint, as ``train.resume`` says, and open the logs at that step."""
        folder = self.folder.checkpoints
        found = find_checkpoint(self.config.train.resume, folder)
        if found is not None and found[1].get("origin", "") != self.origin:
            log.info("%s began with other weights; beginning anew", found[0])
            found = None
        if found is None:
            # They stay until there is a new one; then their higher steps must not pass for newer.
            self.outdated = list_checkpoints(folder)
        else:
            path, state = found
            check_same_architecture(
                state["config"],
                self.config,
                saved_vocab_size=state["vocab_size"],
                vocab_size=self.tokenizer.vocab_size,
                source=path,
            )
            self._load(state)
            if "guard" in state:  # a checkpoint of 0.1.0 has none
                self.guard.load_state_dict(state["guard"])
            log.info("resumed %s: epoch %d, batch %d, step %d", path, self.epoch, self.batch, self.step)
        self._check_together()
        if self.world.is_main:
            save_config(self.config, self.folder.config)
            self.metrics = JsonLines(self.folder.metrics, step=self.step)
            self.tensorboard = TensorBoard(self.folder.tensorboard, step=self.step)
            params = sum(parameter.numel() for parameter in self.net.parameters())
            log.info(
                "%.2f M parameters, vocabulary %d, %d batches per epoch, %d steps, on %s",
                params / 1e6, self.tokenizer.vocab_size, self.num_batches, self.total_steps, self.device,
            )  # fmt: skip

    def _check_together(self) -> None:
        """All processes must have found the same data and the same checkpoint."""
        place = {"checkpoint's step": self.step, "batch": self.batch, "steps in all": self.total_steps}
        different = differing(place)
        if different:
            listed = "; ".join(f"{name} {values}" for name, values in different.items())
            raise UserError(
                f"{self.exp_dir}: the processes do not see the same files there ({listed}, by rank); put the "
                "run folder on storage that all machines share"
            )

    def _load(self, state: dict[str, Any]) -> None:
        """Take over a checkpoint's weights, optimiser and place in the run."""
        self.net.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.dropout.schedule.load_state_dict(state.get("dropout", {}))
        if state["step"] > self.average.start_step:
            # Otherwise the run was made longer: what was averaged at its old end is no end any more.
            self.average.load_state_dict(state["average"])
        self.step, self.epoch, self.batch = state["step"], state["epoch"], state["batch"]

    def train_epoch(self, epoch: int) -> None:
        """One pass over the training cuts, then validation and a checkpoint."""
        config = self.config.train
        self.num_batches = self.loader.count_batches(epoch)
        meter = Meter(self)
        for batch in self._batches(epoch):
            losses, grad_norm = self._train_batch(batch, epoch)
            meter.add(batch, losses, grad_norm)
            if self.step % config.log_interval == 0:
                meter.report(epoch)
            if self._has_collapsed(batch, losses):
                self._roll_back()
                return
            if config.valid_interval > 0 and self.step % config.valid_interval == 0:
                with meter.paused():
                    self._validate(epoch)
            if config.save_interval and self.step % config.save_interval == 0:
                self._save()
            if self._must_stop():
                self._save()
                log.info("stopped by SIGTERM after step %d; the same command goes on from there", self.step)
                raise SystemExit(EXIT_CODE)
            if self.finished:
                break
        else:
            self.batch, self.epoch = 0, epoch + 1
        meter.report(epoch)
        # A run that is to go on must not have seen a validation more than it would have by itself.
        if config.valid_interval >= 0 and not self.ends_early:
            self._validate(epoch)
        self._save()

    def _batches(self, epoch: int) -> Iterator[Batch]:
        self.loader.set_epoch(epoch, self.batch)
        bar = tqdm(
            self.loader,
            desc=f"epoch {epoch + 1}/{self.config.train.num_epochs}",
            total=self.num_batches,
            initial=self.batch,
            unit="batch",
            disable=None if self.world.is_main else True,
            leave=False,
        )
        yield from bar

    def _train_batch(self, batch: Batch, epoch: int) -> tuple[list[PassLoss], float]:
        """Draw specs, run them all, add up, update once."""
        config = self.config
        self.schedule.set(self.step, epoch + self.batch / self.num_batches, scale=self.guard.lr_scale)
        phases = self.step_fn.phases
        specs = draw_specs(self.space, config.train.sandwich, seed=config.train.seed, step=self.step)
        generator = seeded_generator(self.device, config.train.seed, self.step, self.world.rank)
        batch = batch.to(self.device)
        if phases.at(self.step).augments:
            strength = phases.warmup_progress(self.step, config.augment.warmup_steps)
            batch = augment(batch, scale_strength(config.augment, strength), generator)
        batch = append_silence(batch, self.step_fn.tail_frames(self.step))
        pending = self.step_fn(batch, specs, step=self.step, generator=generator)
        reduce_gradients(self.net.parameters())
        self.optimizer.step()
        grad_norm = self.optimizer.clipper.last_norm
        self._check_finite(grad_norm, batch)
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self.batch += 1
        self.average.update(self.net, self.step)
        return pending.on_host(), grad_norm

    def _check_finite(self, grad_norm: float, batch: Batch) -> None:
        """Note which utterances the optimiser skipped; a run that only skips is ended."""
        if math.isfinite(grad_norm):
            self.num_bad = 0
            return
        self.num_bad += 1
        path = self.folder.skipped_batches(self.world.rank)
        with path.open("a") as file:
            file.write(json.dumps({"step": self.step, "ids": batch.ids}) + "\n")
        log.warning("step %d skipped: its gradient is not finite; its utterances are in %s", self.step, path)
        if self.num_bad >= MAX_BAD_STEPS:
            raise UserError(
                f"{path}: the last {MAX_BAD_STEPS} steps had no finite gradient; lower train.optim.lr, go on "
                "from an earlier checkpoint (train.resume), or look at these utterances"
            )

    def _has_collapsed(self, batch: Batch, losses: list[PassLoss]) -> bool:
        """Whether the losses of the largest or the smallest nets jumped and stayed."""
        if self.step <= self.step_fn.phases.sandwich_begin:
            return False  # losses on other bands than later
        watched = {self.space.max(mode): "max" for mode in self.space.modes}
        watched |= {self.space.min(mode): "min" for mode in self.space.modes}
        for loss in losses:
            if loss.spec in watched and loss.rnnt is not None:
                name = f"{watched[loss.spec]}-{loss.spec.mode}"
                self.guard.add(name, total=loss.rnnt, weight=float(batch.feat_lens.sum()))
        if not self.guard.end_step():
            return False
        sums = sum_over_processes(self.guard.losses.to_sums())
        return self.guard.close_window(Mean.from_sums(sums).means(), self.step)

    def _roll_back(self) -> None:
        """Go on from the newest checkpoint from before the collapse, with a lower learning rate."""
        folder = self.folder.checkpoints
        before, collapsed_at = self.guard.good_step, self.step
        paths = [path for path in list_checkpoints(folder) if path not in self.outdated]
        good = [path for path in paths if path <= checkpoint_path(folder, before)]
        if not good:
            raise UserError(
                f"{folder}: the loss jumped and stayed after step {before}, and no checkpoint is as old; "
                "lower train.optim.lr, or set train.save_interval so that a run can go back"
            )
        self._load(load_checkpoint(good[0]))
        self.guard.roll_back()
        sum_tensor(torch.zeros((), device=self.device))  # all have read it before any file goes
        log.warning(
            "the loss jumped and stayed after step %d: back from step %d to %d, at %g of the learning rate",
            before, collapsed_at, self.step, self.guard.lr_scale,
        )  # fmt: skip
        if self.metrics is not None:
            places = {"step": collapsed_at, "to": self.step}
            self.metrics.write({"kind": "rollback", **places, "lr_scale": self.guard.lr_scale})
        if self.world.is_main:
            for path in paths:
                if path > good[0]:
                    path.unlink(missing_ok=True)
        self._save()

    def _must_stop(self) -> bool:
        """Whether any process was asked to; all must leave after the same batch."""
        if self.world.size == 1:  # no need to wait for the device
            return self.stop.requested
        requested = torch.tensor(float(self.stop.requested), device=self.device)
        return bool(sum_tensor(requested) > 0)

    def _validate(self, epoch: int) -> None:
        """WER of the ladder's corners on the dev parts, with the present weights or their average."""
        self._show_dev_loss()
        if not self.world.is_main:
            return
        results: dict[str, float] = {}
        heard = self.net
        if self.config.train.valid_average and self.average.num_samples:
            heard = deepcopy(self.net)
            heard.load_state_dict(self.average.weights())
        ladder = self.space.ladder().items()
        ends = {spec: name for name, spec in ladder if name.startswith(("min", "max"))}
        for spec, name in ends.items():
            net = extract(heard, spec)
            sparsify(net.state_dict(), self.config.train.dropout)
            with torch.no_grad():
                net.joiner.output.bias[BLANK_ID] -= self.config.train.valid_blank_penalty
            chunks = make_streaming_view(net, self.config.export.chunk_ms)
            scored: list[Utterance] = []
            for part in self.config.data.dev_parts:
                loader = make_eval_loader(load_cuts(self.data_dir, part), self.tokenizer)
                scored += transcribe_batches(net, loader, self.tokenizer, chunks=chunks)
            results[name] = compute_wer(scored, replications=1).wer
        log.info(
            "epoch %d step %d dev WER | %s",
            epoch + 1, self.step, " ".join(f"{name} {wer:.2f}%" for name, wer in results.items()),
        )  # fmt: skip
        assert self.metrics is not None and self.tensorboard is not None
        self.metrics.write({"kind": "valid", "step": self.step, "epoch": epoch + 1, "wer": results})
        self.tensorboard.write({f"dev_wer/{name}": wer for name, wer in results.items()}, self.step)

    def _show_dev_loss(self) -> None:
        """Show the dropout's schedule the max net's loss per encoder frame on the dev parts, if it asks."""
        if not self.dropout.schedule.watches_dev_loss or self.step <= self.step_fn.phases.sandwich_begin:
            return
        loss = 0.0
        if self.world.is_main:
            frames = 0
            for part in self.config.data.dev_parts:
                for batch in make_eval_loader(load_cuts(self.data_dir, part), self.tokenizer):
                    batch = batch.to(self.device)
                    frames += int(batch.feat_lens.sum()) // self.config.model.subsampling_factor
                    longer = append_silence(batch, self.step_fn.tail_frames(self.step))
                    loss += self.step_fn.evaluate(longer, self.space.max())
            loss /= max(1, frames)
        loss = float(sum_tensor(torch.tensor(loss, device=self.device)))  # to all processes
        self.dropout.schedule.observe(loss)
        if self.metrics is not None and self.tensorboard is not None:
            self.metrics.write({"kind": "dev_loss", "step": self.step, "loss": loss})
            self.tensorboard.write({"dev_loss/max": loss}, self.step)

    def dropout_strengths(self) -> dict[str, float]:
        """What the largest net drops at present, by site, and the schedule's factor."""
        progress = self.step_fn.phases.dropout_progress(self.step)
        strengths = self.dropout.plan(self.space.max(), progress).strengths()
        return {"factor": self.dropout.schedule.factor(progress), **strengths}

    def _save(self) -> None:
        if not self.world.is_main:
            return
        folder = self.folder.checkpoints
        state = {
            "model": self.net.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "dropout": self.dropout.schedule.state_dict(),
            "average": self.average.state_dict(),
            "guard": self.guard.state_dict(),
            "step": self.step,
            "epoch": self.epoch,
            "batch": self.batch,
            "origin": self.origin,
            "config": self.config.to_dict(),
            "vocab_size": self.tokenizer.vocab_size,
            "env": collect_env(),
            "metrics": {},
        }
        path = checkpoint_path(folder, self.step)
        save_checkpoint(path, state)
        for old in self.outdated:
            if old != path:
                old.unlink(missing_ok=True)
        self.outdated = []
        prune_checkpoints(folder, self.config.train.keep_checkpoints)

    def close(self) -> None:
        """Close the logs."""
        if self.metrics is not None:
            self.metrics.close()
        if self.tensorboard is not None:
            self.tensorboard.close()


def seeded_generator(device: torch.device, seed: int, step: int, rank: int) -> torch.Generator:
    """A generator on `device` that (seed, step, rank) determine."""
    digest = hashlib.sha256(f"step-{seed}-{step}-{rank}".encode()).digest()
    return torch.Generator(device=device).manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def set_feature_stats(net: Supernet, path: Path) -> None:
    """Put the training features' mean and deviation per mel bin into the subsampling."""
    if not path.is_file():
        raise UserError(f"{path}: missing; run 'todm prepare' first")
    stats = json.loads(path.read_text())
    net.full.subsampling.mean.copy_(torch.tensor(stats["mean"]))
    net.full.subsampling.inv_std.copy_(1.0 / torch.tensor(stats["std"]))
