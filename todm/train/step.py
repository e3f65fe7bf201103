"""The sandwich step: several specs on one batch, one teacher, the sum of their gradients.

In the sandwich phase, a step runs the max net, some corners and some random nets (sandwich rule; Yu & Huang,
arXiv 1903.05134), and the max net teaches the others (in-place distillation). `todm.space.sandwich`
draws the specs of a step and can leave students out::

    attached = net.share(batch)                    # independent of the spec: subsampling, predictor, SSM
    shared, leaves = attached.detached()           # gradients of all passes add up in the leaves
    teacher, *students = specs                     # drawn by todm.space.sandwich; the max net is first

    out  = net.encode(shared, teacher)
    loss = rnnt_loss(out)                          # smoothed loss -> band -> full joiner on the band
    (pruned_scale * loss.pruned + simple_scale * loss.simple).backward()

    for student in students:
        out   = net.encode(shared, student)
        own   = rnnt_loss(out, band=loss.band)     # on the teacher's band
        apart = divergence(own.log_probs, loss.log_probs.detach())
        (pruned_scale * own.pruned + distill_weight * apart).backward()

    backward(attached, leaves' gradients)          # once, with the summed gradients of all passes

The phases before it (`todm.train.phases`) run the largest net of each mode only, with losses of their own.

The offline max net may emit a label as soon as it begins, or even earlier, because it sees the whole
utterance. A streaming net learns on the same band and from the same node posteriors ``streaming_delay``
encoder frames later (dual-mode ASR, Yu et al., arXiv 2010.06030); as much silence is appended to the batch,
which offline nets do not use.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch.profiler import record_function

from todm.config import TrainConfig
from todm.data.batch import Batch
from todm.dropout import DropoutPolicy
from todm.losses import TransducerLoss
from todm.losses.band import feasible_size
from todm.nn.subsampling import subsampled_lens
from todm.nn.supernet import SharedPass, Supernet
from todm.space.spec import SubnetSpec
from todm.train.passes import SECTION, MicroBatchPasses, backward, carry_label_contexts, drop_label_contexts
from todm.train.phases import Phase, PhaseName, PhaseSchedule
from todm.train.step_losses import PassSums, StepLosses


class SandwichStep:
    """Forward and backward passes of one batch at several specs; adds up gradients in the parameters.

    Args:
        net: the supernet.
        config: weights of the losses, warm-ups, distillation.
        policy: dropout rates of a spec.
        total_steps: steps of the run, for dropout that changes over it; 0 keeps its initial strength.
    """

    def __init__(
        self, net: Supernet, config: TrainConfig, policy: DropoutPolicy, *, total_steps: int = 0
    ) -> None:
        self.net = net
        self.config = config
        self.policy = policy
        self.phases = PhaseSchedule(config, net.space, total_steps=total_steps)

    def __call__(
        self, batch: Batch, specs: Sequence[SubnetSpec], *, step: int, generator: torch.Generator
    ) -> StepLosses:
        """Run `specs` on `batch`, the teacher first, and add their gradients to the existing ones.

        The batch runs in ``grad_accum_steps`` micro-batches. Results differ from those of the whole batch
        only in what its utterances share: the size of the band, and the negatives of the contrastive loss.

        Args:
            batch: on the model's device; each utterance ends with `tail_frames` of silence.
            specs: result of `todm.space.sandwich.draw_specs`.
            step: batches trained so far.
            generator: random numbers of the dropout.

        Returns:
            losses of each pass that ran.
        """
        use_bf16 = self.config.precision == "bfloat16"
        with torch.autocast(batch.feats.device.type, torch.bfloat16, enabled=use_bf16):
            micro_batches = batch.split(self.config.grad_accum_steps)
            return StepLosses([self._run(part, specs, step, generator) for part in micro_batches])

    def _run(
        self, batch: Batch, specs: Sequence[SubnetSpec], step: int, generator: torch.Generator
    ) -> list[PassSums]:
        phase = self.phases.at(step)
        specs = phase.select_specs(self.net.space, specs)
        # Computing the size synchronises a GPU: do it before its work begins.
        band_size = self._band_size(batch, specs[0]) if phase.name == "sandwich" else None
        with record_function(f"{SECTION}share"):
            attached = self._share(batch, phase, generator)
        shared, leaves = attached.detached()
        passes = replace(self._passes(batch, shared, step, generator), band_size=band_size)
        sums = PHASE_LOSSES[phase.name](passes, specs)
        # SSM operators of layers that no spec ran have no gradient.
        with_grad = [(tensor, leaf.grad) for tensor, leaf in leaves if leaf.grad is not None]
        with record_function(f"{SECTION}backward of what is shared"):
            backward([tensor for tensor, _ in with_grad], [grad for _, grad in with_grad])
        return sums

    def _share(self, batch: Batch, phase: Phase, generator: torch.Generator) -> SharedPass:
        """Run the shared part, with the label contexts that the phase asks for."""
        net = self.net.full
        start = net.predictor.start(len(batch), batch.labels.device)
        context = start
        if phase.label_context_carry > 0.0:
            vocab_size = net.predictor.embedding.num_embeddings
            share = phase.label_context_carry
            context = carry_label_contexts(batch, start, vocab_size, share, generator)
        shared = self.net.share(batch, context)
        if phase.label_context_dropout > 0.0:
            without = net.predict_step(start)
            shared = drop_label_contexts(shared, without, phase.label_context_dropout, generator)
        return shared

    def _passes(
        self, batch: Batch, shared: SharedPass, step: int, generator: torch.Generator | None
    ) -> MicroBatchPasses:
        return MicroBatchPasses(
            net=self.net,
            config=self.config,
            policy=self.policy,
            phases=self.phases,
            batch=batch,
            shared=shared,
            step=step,
            generator=generator,
        )

    def _band_size(self, batch: Batch, spec: SubnetSpec) -> int:
        """Number of label positions per frame of the teacher's band."""
        lens = subsampled_lens(batch.feat_lens, self.net.config.subsampling_factor)
        if spec.mode == "offline":
            lens = (lens - self.phases.lag).clamp(min=1)
        return feasible_size(self.config.loss.prune_range, lens, batch.label_lens, batch.labels.shape[1])

    def tail_frames(self, step: int) -> int:
        """Return the feature frames of silence to append to a batch."""
        return self.phases.at(step).silence * self.net.config.subsampling_factor

    @torch.no_grad()
    def evaluate(self, batch: Batch, spec: SubnetSpec) -> float:
        """Compute the transducer loss of a batch (see `__call__`), summed, without dropout and gradients."""
        passes = self._passes(batch, self.net.share(batch), 0, None)
        encoder_out = passes.encode(spec)
        simple_inputs = (encoder_out, passes.shared.predictor_out)
        loss = passes.transducer_loss(encoder_out, spec, simple_inputs=simple_inputs)
        return loss.pruned.sum().item()


def run_sandwich(passes: MicroBatchPasses, specs: Sequence[SubnetSpec]) -> list[PassSums]:
    """Train the first spec, the teacher, with labels, and the others on its band and its posteriors."""
    teacher_spec, *student_specs = specs
    teacher, sums = train_teacher(passes, teacher_spec)
    return [sums, *(train_student(passes, spec, teacher, teacher_spec) for spec in student_specs)]


def train_teacher(passes: MicroBatchPasses, spec: SubnetSpec) -> tuple[TransducerLoss, PassSums]:
    """Train the max net with the smoothed and the pruned transducer loss."""
    config = passes.config
    encoder_out = passes.encode(spec)
    simple_inputs = (encoder_out, passes.shared.predictor_out)
    loss = passes.transducer_loss(encoder_out, spec, simple_inputs=simple_inputs)
    simple, pruned = loss.simple.sum(), loss.pruned.sum()
    sums = {"rnnt": pruned.detach(), "simple": simple.detach()}
    total = (
        passes.scale(config.loss.pruned_scales) * pruned + passes.scale(config.loss.simple_scales) * simple
    )
    if config.contrastive.weight > 0.0:
        contrastive = passes.contrast(encoder_out, spec)
        sums["contrastive"] = contrastive.detach()
        total = total + config.contrastive.weight * contrastive
    with record_function(f"{SECTION}backward"):
        backward([total])
    return loss, PassSums(spec=spec, sums=sums)


def train_student(
    passes: MicroBatchPasses, spec: SubnetSpec, teacher: TransducerLoss, teacher_spec: SubnetSpec
) -> PassSums:
    """Train a smaller net on the teacher's band, with labels and the teacher's posteriors."""
    distill = passes.config.distill
    across_modes = spec.mode != teacher_spec.mode
    lag = passes.phases.lag if across_modes else 0
    student = passes.transducer_loss(passes.encode(spec), spec, band=teacher.band.delayed(lag))
    pruned = student.pruned.sum()
    sums = {"rnnt": pruned.detach()}
    distill_weight = passes.distill_weight(across_modes=across_modes)
    divergence = pruned.new_zeros(())
    if distill_weight > 0.0:
        divergence = passes.divergence(spec, student, teacher, lag)
        sums["distill"] = divergence.detach()
    # Until the weight of the divergence is reached, students learn from the labels with either objective.
    distill_only = distill.objective == "distill_only" and distill_weight >= distill.weight
    uses_labels = not distill_only or distill.lattice == "none"
    pruned_scale = passes.scale(passes.config.loss.pruned_scales) if uses_labels else 0.0
    with record_function(f"{SECTION}backward"):
        backward([pruned_scale * pruned + distill_weight * divergence])
    return PassSums(spec=spec, sums=sums)


def run_alignment(passes: MicroBatchPasses, specs: Sequence[SubnetSpec]) -> list[PassSums]:
    """Train each spec near the diagonal (alignment warm-up)."""
    return [train_aligned(passes, spec) for spec in specs]


def train_aligned(passes: MicroBatchPasses, spec: SubnetSpec) -> PassSums:
    """Train a net on the diagonal band (alignment warm-up, see `todm.config.LossConfig`)."""
    encoder_out = passes.encode(spec)
    # The smoothed loss covers the whole lattice: its gradient would pull the encoder to the plateau.
    simple_inputs = (encoder_out.detach(), passes.shared.predictor_out.detach())
    band = passes.make_diagonal_band(spec, encoder_out.shape[1])
    loss = passes.transducer_loss(encoder_out, spec, band=band, simple_inputs=simple_inputs, path_power=1.0)
    simple, pruned = loss.simple.sum(), loss.pruned.sum()
    with record_function(f"{SECTION}backward"):
        backward([pruned + simple])
    return PassSums(spec=spec, sums={"rnnt": pruned.detach(), "simple": simple.detach()})


def run_contrastive(passes: MicroBatchPasses, specs: Sequence[SubnetSpec]) -> list[PassSums]:
    """Train each spec with the contrastive loss alone."""
    return [train_contrastive(passes, spec) for spec in specs]


def train_contrastive(passes: MicroBatchPasses, spec: SubnetSpec) -> PassSums:
    """Train a net on two dropout views of each utterance (see `todm.config.ContrastiveConfig`)."""
    loss = passes.contrast(passes.encode(spec), spec)
    with record_function(f"{SECTION}backward"):
        backward([loss])
    return PassSums(spec=spec, sums={"contrastive": loss.detach()})


PHASE_LOSSES: dict[PhaseName, Callable[[MicroBatchPasses, Sequence[SubnetSpec]], list[PassSums]]] = {
    "contrastive": run_contrastive,
    "alignment": run_alignment,
    "sandwich": run_sandwich,
}
"""Forward and backward passes of each phase."""
