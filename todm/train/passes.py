"""Parts of a training step: encoder, transducer loss and divergence of one spec on one micro-batch."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.profiler import record_function

from todm.config import TrainConfig
from todm.data.batch import Batch
from todm.data.tokenizer import SPECIAL_PIECES
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
from todm.nn.supernet import SharedPass, Supernet
from todm.space.spec import SubnetSpec
from todm.train.phases import PhaseSchedule

SECTION = "step: "
"""Prefix of the names under which a profiler shows the sections of a step."""


@dataclass(frozen=True, kw_only=True)
class MicroBatchPasses:
    """Computes passes of several specs on one micro-batch.

    Args:
        net: the supernet.
        config: weights of the losses, warm-ups, distillation.
        policy: dropout rates of a spec.
        phases: phases of the run.
        batch: micro-batch on the model's device.
        shared: output of `Supernet.share` for it, detached.
        step: batches trained so far.
        generator: random numbers of the dropout; None disables dropout.
        band_size: label positions per frame of the teacher's band; None computes it when needed.
    """

    net: Supernet
    config: TrainConfig
    policy: DropoutPolicy
    phases: PhaseSchedule
    batch: Batch
    shared: SharedPass
    step: int
    generator: torch.Generator | None
    band_size: int | None = None

    def encode(self, spec: SubnetSpec) -> Tensor:
        """Run the encoder at `spec`, (N, T', J), with the policy's dropout where the phase applies it."""
        plan, generator = None, self.generator
        if generator is not None and self.phases.at(self.step).applies_dropout:
            plan = self.policy.plan(spec, self.phases.dropout_progress(self.step))
        with record_function(f"{SECTION}encoder"):
            return self.net.encode(self.shared, spec, plan, generator)

    def encoder_lens(self, spec: SubnetSpec) -> Tensor:
        """Return the encoder frames (N,) in which a net of this spec may emit labels.

        Offline nets do not use the silence that is appended for streaming nets.
        """
        lens = self.shared.lens
        return (lens - self.phases.lag).clamp(min=1) if spec.mode == "offline" else lens

    def transducer_loss(
        self,
        encoder_out: Tensor,
        spec: SubnetSpec,
        *,
        band: Band | None = None,
        simple_inputs: tuple[Tensor, Tensor] | None = None,
        path_power: float | None = None,
    ) -> TransducerLoss:
        """Compute the transducer loss of a pass.

        Args:
            encoder_out: output of `encode`.
            spec: spec of the pass.
            band: nodes of the joiner; None lets the smoothed loss choose them.
            simple_inputs: encoder and predictor output of the smoothed loss; None omits it.
            path_power: replaces the configured one.
        """
        net, loss = self.net, self.config.loss
        am = lm = None
        if simple_inputs is not None:
            am, lm = net.simple_am_proj(simple_inputs[0]), net.simple_lm_proj(simple_inputs[1])
        inputs = TransducerInputs(
            encoder_out=encoder_out,
            predictor_out=self.shared.predictor_out,
            join=net.join,
            labels=self.batch.labels,
            encoder_lens=self.encoder_lens(spec),
            label_lens=self.batch.label_lens,
            am=am,
            lm=lm,
            band=band,
            band_size=self.band_size if band is None else None,
        )
        options = TransducerLossOptions.from_config(
            loss if path_power is None else replace(loss, path_power=path_power),
            with_log_probs=self.config.distill.lattice != "none",
        )
        with record_function(f"{SECTION}loss"):
            return rnnt_loss(inputs, options)

    def make_diagonal_band(self, spec: SubnetSpec, num_frames: int) -> Band:
        """Make the band of the alignment warm-up, around the line that spreads the labels evenly."""
        config, batch, lens = self.config.loss, self.batch, self.encoder_lens(spec)
        num_labels = batch.labels.shape[1]
        size = feasible_size(config.alignment_warmup_range, lens, batch.label_lens, num_labels)
        lag = self.phases.lag if spec.mode == "streaming" else 0
        return make_diagonal_band(
            lens,
            batch.label_lens,
            size,
            num_frames=num_frames,
            num_labels=num_labels,
            delay=config.alignment_warmup_delay + lag,
        )

    def contrast(self, view: Tensor, spec: SubnetSpec) -> Tensor:
        """Compute InfoNCE between a pass's encoder output (N, T', J) and a second pass with other masks."""
        other = self.encode(spec)
        views = (pool(out, self.shared.lens) for out in (view, other))
        return info_nce(*views, temperature=self.config.contrastive.temperature)

    def divergence(
        self, spec: SubnetSpec, student: TransducerLoss, teacher: TransducerLoss, lag: int
    ) -> Tensor:
        """Compute the student's divergence from the teacher, summed over the batch.

        Args:
            spec: the student's.
            student: its loss, with log-probabilities.
            teacher: the teacher's.
            lag: encoder frames by which the student's nodes are later.
        """
        num_frames = teacher.log_probs.shape[1] - lag
        nodes = LatticeNodes(
            band=replace(teacher.band, begin=teacher.band.begin[:, :num_frames]),
            labels=self.batch.labels,
            encoder_lens=self.encoder_lens(spec) - lag,
            label_lens=self.batch.label_lens,
        )
        with record_function(f"{SECTION}distillation"):
            return lattice_divergence(
                student.log_probs[:, lag:],
                teacher.log_probs[:, :num_frames].detach(),
                nodes,
                DivergenceOptions.from_config(self.config.distill),
            ).sum()

    def scale(self, scales: tuple[float, float]) -> float:
        """Interpolate a loss's weight over the warm-up, from the first to the second (Yao et al., 2023)."""
        first, last = scales
        progress = self.phases.warmup_progress(self.step, self.config.loss.warmup_steps)
        return first + progress * (last - first)

    def distill_weight(self, *, across_modes: bool) -> float:
        """Return the weight of the divergence at this step; 0 where the student is not distilled."""
        config = self.config.distill
        if config.lattice == "none" or (across_modes and not config.across_modes):
            return 0.0
        return config.weight * self.phases.warmup_progress(self.step, config.warmup_steps)


def drop_label_contexts(
    shared: SharedPass, start: Tensor, share: float, generator: torch.Generator
) -> SharedPass:
    """Replace the predictor's output at random label positions by its output at the start of a stream.

    Args:
        shared: left unchanged.
        start: (N, J), the predictor's output before the first label of a stream.
        share: probability of each position, 0 to 1.
        generator: draws the positions.
    """
    out = shared.predictor_out  # (N, U + 1, J)
    draws = torch.empty(out.shape[:2], device=generator.device).uniform_(generator=generator).to(out.device)
    hidden = (draws < share)[:, :, None]
    return replace(shared, predictor_out=torch.where(hidden, start[:, None], out))


def carry_label_contexts(
    batch: Batch, start: Tensor, vocab_size: int, share: float, generator: torch.Generator
) -> Tensor:
    """Choose the labels that precede each utterance: none, the last ones of the row before, or random ones.

    A host that resets nothing at a pause decodes an utterance with the last labels of the one before it as
    context. The utterances of a batch are of similar length, so half of the contexts are random labels.

    Args:
        batch: N utterances.
        start: (N, K) int64, the context at the start of a stream.
        vocab_size: V, above that of `SPECIAL_PIECES`, which no context contains.
        share: probability of each utterance to follow another one, 0 to 1.
        generator: draws the utterances and the labels.

    Returns:
        (N, K) int64.
    """
    size = start.shape[1]
    draws = torch.rand(2, len(batch), generator=generator, device=generator.device).to(start.device)
    random = torch.randint(
        len(SPECIAL_PIECES), vocab_size, start.shape, generator=generator, device=generator.device
    )
    labels = torch.cat((start, batch.labels), dim=1).roll(1, 0)
    ends = batch.label_lens.to(start.device).roll(1, 0)
    previous = labels.gather(1, ends[:, None] + torch.arange(size, device=start.device))
    context = torch.where(draws[1, :, None] < 0.5, previous, random.to(start.device))
    return torch.where(draws[0, :, None] < share, context, start)


def backward(tensors: list[Tensor], grads: list[Tensor] | None = None) -> None:
    """Run the backward pass outside autocast: every product in the precision of its forward pass."""
    with torch.autocast(tensors[0].device.type, enabled=False):
        torch.autograd.backward(tensors, grads)
