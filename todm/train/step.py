"""The sandwich step: several specs on one batch, the sum of their gradients, one teacher.

Every step runs the max net, some corners and some random nets (sandwich rule). The max net runs first; its
pruning band and its log-probabilities, detached, serve all the others, which learn from it on the same band
(in-place distillation). What no spec changes is computed once and its gradient is taken once.

The offline max net may say a label as soon as it begins, or sooner: it has heard all of it. A streaming net
learns on the same band and from the same node posteriors ``streaming_delay`` encoder frames later (dual-mode
ASR, Yu et al., arXiv 2010.06030); the batch ends with as much silence, which offline nets do not count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.profiler import record_function

from todm.config import Mode, TrainConfig
from todm.data.batch import Batch
from todm.dropout import DropoutPolicy
from todm.losses import (
    Band,
    DivergenceOptions,
    LatticeNodes,
    TransducerInputs,
    TransducerLoss,
    TransducerLossOptions,
    lattice_divergence,
    rnnt_loss,
)
from todm.losses.band import feasible_size, make_diagonal_band
from todm.losses.contrastive import info_nce, pool
from todm.nn.subsampling import subsampled_lens
from todm.nn.supernet import SharedPass, Supernet
from todm.space.spec import SubnetSpec

PART = "step: "
"""Begins the names under which a profiler shows the parts of a step."""


@dataclass(frozen=True, kw_only=True)
class PassLoss:
    """What one spec's pass cost, sums over the batch as plain numbers.

    Args:
        spec: what ran.
        rnnt: transducer loss; None in the contrastive stage, which has none.
        parts: what else was computed, by name: ``simple`` (teacher), ``distill`` (students), ``contrastive``.
    """

    spec: SubnetSpec
    rnnt: float | None
    parts: dict[str, float]

    def plus(self, other: PassLoss) -> PassLoss:
        """Over both batches."""
        assert self.spec == other.spec and self.parts.keys() == other.parts.keys()
        parts = {name: value + other.parts[name] for name, value in self.parts.items()}
        rnnt = None if self.rnnt is None or other.rnnt is None else self.rnnt + other.rnnt
        return PassLoss(spec=self.spec, rnnt=rnnt, parts=parts)


@dataclass(frozen=True, kw_only=True)
class _PassSums:
    """What becomes a `PassLoss`, still on the device, where it may not be computed yet.

    Args:
        spec: what ran.
        sums: scalars by name: ``rnnt`` and the names of `PassLoss.parts`.
    """

    spec: SubnetSpec
    sums: dict[str, Tensor]


class StepLosses:
    """What the passes of a step cost, still where they ran.

    Whoever asks for the numbers waits for a GPU, which then waits for work: better late than early.

    Args:
        parts: for each part of the batch the sums of all passes.
    """

    def __init__(self, parts: list[list[_PassSums]]) -> None:
        self._parts = parts

    def on_host(self) -> list[PassLoss]:
        """A `PassLoss` for each pass that ran, over the whole batch; all numbers in one transfer."""
        numbers = [x for passes in self._parts for one in passes for x in one.sums.values()]
        rest = iter(torch.stack(numbers).tolist())

        def convert(one: _PassSums) -> PassLoss:
            parts = {name: next(rest) for name in one.sums}
            return PassLoss(spec=one.spec, rnnt=parts.pop("rnnt", None), parts=parts)

        whole, *others = [[convert(one) for one in passes] for passes in self._parts]
        for other in others:
            whole = [one.plus(more) for one, more in zip(whole, other, strict=True)]
        return whole


class SandwichStep:
    """Forward and backward of one batch at several specs; the gradients stand in the parameters afterwards.

    Args:
        net: the supernet.
        config: weights of the losses, warm-ups, distillation.
        policy: what a spec drops.
        total_steps: length of the run, for dropout that changes over it; 0 leaves it at its beginning.
    """

    def __init__(
        self, net: Supernet, config: TrainConfig, policy: DropoutPolicy, *, total_steps: int = 0
    ) -> None:
        self.net = net
        self.config = config
        self.policy = policy
        self.total_steps = total_steps
        # Steps before the whole sandwich runs: the contrastive stage, then the diagonal start.
        self.num_start_steps = config.contrastive.steps + config.loss.alignment_warmup_steps
        both = len(net.space.modes) > 1
        self.lag = config.loss.streaming_delay if both else 0  # encoder frames

    def __call__(
        self, batch: Batch, specs: Sequence[SubnetSpec], *, step: int, generator: torch.Generator
    ) -> StepLosses:
        """Run `specs` on `batch`, the teacher first; gradients are added to those already there.

        In ``grad_accum_steps`` parts, which is the same but for what a batch shares: the size of the
        band, and the others that a contrastive term tells an utterance from.

        Args:
            batch: on the model's device; each utterance ends with `tail_frames` of silence.
            specs: of `todm.space.sandwich.draw_specs`.
            step: batches seen so far, for the warm-ups.
            generator: of the dropout.

        Returns:
            what each pass that ran cost, on a GPU perhaps not yet computed.
        """
        half = self.config.precision == "bfloat16"
        with torch.autocast(batch.feats.device.type, torch.bfloat16, enabled=half):
            parts = [
                self._run(part, specs, step, generator) for part in batch.split(self.config.grad_accum_steps)
            ]
        return StepLosses(parts)

    def _run(
        self, batch: Batch, specs: Sequence[SubnetSpec], step: int, generator: torch.Generator
    ) -> list[_PassSums]:
        loss = self.config.loss
        contrasting = step < self.config.contrastive.steps
        starting = step < self.num_start_steps
        hidden = loss.alignment_warmup_label_context_dropout if starting else loss.label_context_dropout
        band_size = 0 if starting else self._band_size(batch, specs[0])
        with record_function(f"{PART}share"):
            whole = hide_contexts(self.net.share(batch), hidden, generator)
        shared, pending = whole.detached()
        if starting:
            largest = [self.net.space.max(mode) for mode in self.net.space.modes]
            if contrasting:
                ran = [self._contrast(shared, spec, step, generator) for spec in largest]
            else:
                ran = [self._start(batch, shared, spec) for spec in largest]
        else:
            teacher_spec, *student_specs = specs
            teacher, teacher_sums = self._teach(batch, shared, teacher_spec, band_size, step, generator)
            ran = [teacher_sums]
            for spec in student_specs:
                ran.append(self._learn(batch, shared, spec, teacher, teacher_spec.mode, step, generator))
        # What no spec ran has no gradient: the SSM of layers left out.
        flowing = [(tensor, leaf.grad) for tensor, leaf in pending if leaf.grad is not None]
        with record_function(f"{PART}backward of what is shared"):
            _backward([tensor for tensor, _ in flowing], [grad for _, grad in flowing])
        return ran

    def tail_frames(self, step: int) -> int:
        """Feature frames of silence that a batch must be lengthened by."""
        config = self.config.loss
        delay = config.alignment_warmup_delay if step < self.num_start_steps else 0
        return (delay + self.lag) * self.net.config.subsampling_factor

    def _lens(self, lens: Tensor, spec: SubnetSpec) -> Tensor:
        """Of `lens` (N,) the encoder frames that a net of this spec has for its labels."""
        return (lens - self.lag).clamp(min=1) if spec.mode == "offline" else lens

    def _band_size(self, batch: Batch, spec: SubnetSpec) -> int:
        """The teacher's, found before anything is under way: a GPU is waited for here."""
        lens = self._lens(subsampled_lens(batch.feat_lens, self.net.config.subsampling_factor), spec)
        return feasible_size(self.config.loss.prune_range, lens, batch.label_lens, batch.labels.shape[1])

    def dropout_progress(self, step: int) -> float:
        """Share, 0 to 1, of the run behind its start that is done: what the dropout policy is told."""
        whole = self.total_steps - self.num_start_steps
        return warmup_progress(step - self.num_start_steps, whole) if whole > 0 else 0.0

    def _encode(
        self, shared: SharedPass, spec: SubnetSpec, step: int = 0, generator: torch.Generator | None = None
    ) -> Tensor:
        """The encoder at `spec`, with the policy's dropout where there is a generator."""
        plan = None if generator is None else self.policy.plan(spec, self.dropout_progress(step))
        with record_function(f"{PART}encoder"):
            return self.net.encode(shared, spec, plan, generator)

    def _contrast(
        self, shared: SharedPass, spec: SubnetSpec, step: int, generator: torch.Generator
    ) -> _PassSums:
        """Two views of each utterance and nothing else, see `todm.config.ContrastiveConfig`."""
        loss = self._two_views(self._encode(shared, spec, step, generator), shared, spec, step, generator)
        with record_function(f"{PART}backward"):
            _backward([loss])
        return _PassSums(spec=spec, sums={"contrastive": loss.detach()})

    def _two_views(
        self, view: Tensor, shared: SharedPass, spec: SubnetSpec, step: int, generator: torch.Generator
    ) -> Tensor:
        """InfoNCE of a pass's encoder output (N, T', J) and that of one more with other masks."""
        other = self._encode(shared, spec, step, generator)
        views = (pool(out, shared.lens) for out in (view, other))
        return info_nce(*views, temperature=self.config.contrastive.temperature)

    def measure(self, batch: Batch, spec: SubnetSpec) -> float:
        """Transducer loss of a pass without dropout, summed over the batch (see `__call__`); no gradient."""
        with torch.no_grad():
            shared = self.net.share(batch)
            encoder_out = self._encode(shared, spec)
            am, lm = self.net.simple_am_proj(encoder_out), self.net.simple_lm_proj(shared.predictor_out)
            lens = self._lens(shared.lens, spec)
            loss = self._transducer_loss(encoder_out, lens, batch, shared, am=am, lm=lm)
            return loss.pruned.sum().item()

    def _start(self, batch: Batch, shared: SharedPass, spec: SubnetSpec) -> _PassSums:
        """On the diagonal band and without dropout, see `todm.config.LossConfig`."""
        config = self.config.loss
        encoder_out, lens = self._encode(shared, spec), self._lens(shared.lens, spec)
        size = feasible_size(config.alignment_warmup_range, lens, batch.label_lens, batch.labels.shape[1])
        band = make_diagonal_band(
            lens,
            batch.label_lens,
            size,
            num_frames=encoder_out.shape[1],
            num_labels=batch.labels.shape[1],
            delay=config.alignment_warmup_delay + (self.lag if spec.mode == "streaming" else 0),
        )
        # The smoothed loss sees the whole lattice: it would pull the encoder to the plateau.
        am = self.net.simple_am_proj(encoder_out.detach())
        lm = self.net.simple_lm_proj(shared.predictor_out.detach())
        loss = self._transducer_loss(
            encoder_out, lens, batch, shared, band=band, am=am, lm=lm, path_power=1.0
        )
        simple, pruned = loss.simple.sum(), loss.pruned.sum()
        with record_function(f"{PART}backward"):
            _backward([pruned + simple])
        return _PassSums(spec=spec, sums={"rnnt": pruned.detach(), "simple": simple.detach()})

    def _teach(
        self,
        batch: Batch,
        shared: SharedPass,
        spec: SubnetSpec,
        band_size: int,
        step: int,
        generator: torch.Generator,
    ) -> tuple[TransducerLoss, _PassSums]:
        encoder_out = self._encode(shared, spec, step, generator)
        config = self.config.loss
        am, lm = self.net.simple_am_proj(encoder_out), self.net.simple_lm_proj(shared.predictor_out)
        lens = self._lens(shared.lens, spec)
        loss = self._transducer_loss(encoder_out, lens, batch, shared, band_size=band_size, am=am, lm=lm)
        simple, pruned = loss.simple.sum(), loss.pruned.sum()
        pruned_scale = self._warm(config.pruned_scales, step)
        simple_scale = self._warm(config.simple_scales, step)
        sums = {"rnnt": pruned.detach(), "simple": simple.detach()}
        total = pruned_scale * pruned + simple_scale * simple
        if self.config.contrastive.weight > 0.0:
            contrastive = self._two_views(encoder_out, shared, spec, step, generator)
            sums["contrastive"] = contrastive.detach()
            total = total + self.config.contrastive.weight * contrastive
        with record_function(f"{PART}backward"):
            _backward([total])
        return loss, _PassSums(spec=spec, sums=sums)

    def _transducer_loss(
        self,
        encoder_out: Tensor,
        encoder_lens: Tensor,
        batch: Batch,
        shared: SharedPass,
        *,
        band: Band | None = None,
        band_size: int | None = None,
        am: Tensor | None = None,
        lm: Tensor | None = None,
        path_power: float | None = None,
    ) -> TransducerLoss:
        """`rnnt_loss` as the config says; see there for the rest."""
        config = self.config.loss
        with record_function(f"{PART}loss"):
            inputs = TransducerInputs(
                encoder_out=encoder_out,
                predictor_out=shared.predictor_out,
                join=self.net.join,
                labels=batch.labels,
                encoder_lens=encoder_lens,
                label_lens=batch.label_lens,
                am=am,
                lm=lm,
                band=band,
                band_size=band_size,
            )
            options = TransducerLossOptions.from_config(
                config if path_power is None else replace(config, path_power=path_power),
                with_log_probs=self.config.distill.lattice != "none",
            )
            return rnnt_loss(inputs, options)

    def _learn(
        self,
        batch: Batch,
        shared: SharedPass,
        spec: SubnetSpec,
        teacher: TransducerLoss,
        teacher_mode: Mode,
        step: int,
        generator: torch.Generator,
    ) -> _PassSums:
        config = self.config
        encoder_out = self._encode(shared, spec, step, generator)
        lag = self.lag if spec.mode != teacher_mode else 0
        lens = self._lens(shared.lens, spec)
        student = self._transducer_loss(encoder_out, lens, batch, shared, band=teacher.band.delayed(lag))
        pruned = student.pruned.sum()
        distill_weight = self._distill_weight(step, across_modes=spec.mode != teacher_mode)
        divergence = pruned.new_zeros(())
        if distill_weight > 0.0:
            with record_function(f"{PART}distillation"):
                divergence = self._divergence(batch, lens - lag, student, teacher, lag)
        # Until the teacher has something to say, its students learn from the labels whatever the objective.
        distill_only = config.distill.objective == "distill_only" and distill_weight >= config.distill.weight
        rnnt_scale = (
            0.0
            if distill_only and config.distill.lattice != "none"
            else self._warm(config.loss.pruned_scales, step)
        )
        with record_function(f"{PART}backward"):
            _backward([rnnt_scale * pruned + distill_weight * divergence])
        sums = {"rnnt": pruned.detach()}
        if distill_weight > 0.0:
            sums["distill"] = divergence.detach()
        return _PassSums(spec=spec, sums=sums)

    def _divergence(
        self, batch: Batch, encoder_lens: Tensor, student: TransducerLoss, teacher: TransducerLoss, lag: int
    ) -> Tensor:
        """Node by node, the student's `lag` frames later; `encoder_lens` are the teacher's."""
        config = self.config.distill
        assert config.lattice != "none"
        num_frames = teacher.log_probs.shape[1] - lag
        return lattice_divergence(
            student.log_probs[:, lag:],
            teacher.log_probs[:, :num_frames].detach(),
            LatticeNodes(
                band=replace(teacher.band, begin=teacher.band.begin[:, :num_frames]),
                labels=batch.labels,
                encoder_lens=encoder_lens,
                label_lens=batch.label_lens,
            ),
            DivergenceOptions.from_config(config),
        ).sum()

    def _warm(self, scales: tuple[float, float], step: int) -> float:
        """A loss's weight: from the first of `scales` to the second over the warm-up (Yao et al., 2023)."""
        first, last = scales
        return first + self._progress(step, self.config.loss.warmup_steps) * (last - first)

    def _distill_weight(self, step: int, *, across_modes: bool) -> float:
        config = self.config.distill
        if config.lattice == "none" or (across_modes and not config.across_modes):
            return 0.0
        return config.weight * self._progress(step, config.warmup_steps)

    def _progress(self, step: int, num_steps: int) -> float:
        """Share of a warm-up that is done; it begins where the diagonal start ends."""
        return warmup_progress(step - self.num_start_steps, num_steps)


def _backward(tensors: list[Tensor], grads: list[Tensor] | None = None) -> None:
    """Every product in the precision of its forward pass."""
    with torch.autocast(tensors[0].device.type, enabled=False):
        torch.autograd.backward(tensors, grads)


def hide_contexts(shared: SharedPass, share: float, generator: torch.Generator) -> SharedPass:
    """At a `share` of the label positions, the predictor's output before the first label in place of theirs.

    Args:
        shared: not changed.
        share: 0 to 1.
        generator: draws the positions, one by one.
    """
    if share <= 0.0:
        return shared
    out = shared.predictor_out  # (N, U + 1, J)
    draws = torch.empty(out.shape[:2], device=generator.device).uniform_(generator=generator).to(out.device)
    hidden = (draws < share)[:, :, None]
    return replace(shared, predictor_out=torch.where(hidden, out[:, :1], out))


def warmup_progress(done: int, num_steps: int) -> float:
    """Share of a warm-up of `num_steps` batches after `done` of them, 0 to 1."""
    return min(1.0, max(0, done) / num_steps) if num_steps else 1.0
