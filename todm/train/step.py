"""The sandwich step: several specs on one batch, the sum of their gradients, one teacher.

Every step runs the max net, some corners and some random nets (sandwich rule). The max net runs first; its
pruning band and its log-probabilities, detached, serve all the others, which learn from it on the same band
(in-place distillation). What no spec changes is computed once and its gradient is taken once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from todm.config import TrainConfig
from todm.data.batch import Batch
from todm.dropout import DropoutPolicy
from todm.losses.lattice import lattice_divergence
from todm.losses.rnnt import TransducerLoss, rnnt_loss
from todm.nn.supernet import SharedPass, Supernet
from todm.space.spec import SubnetSpec


@dataclass(frozen=True, kw_only=True)
class PassLoss:
    """What one spec's pass cost, sums over the batch as plain numbers.

    Args:
        spec: what ran.
        rnnt: transducer loss.
        simple: smoothed loss of the additive joiner; 0 for students.
        divergence: from the teacher; 0 for the teacher.
    """

    spec: SubnetSpec
    rnnt: float
    simple: float
    divergence: float


class SandwichStep:
    """Forward and backward of one batch at several specs; the gradients stand in the parameters afterwards.

    Args:
        net: the supernet.
        config: weights of the losses, warm-ups, distillation.
        policy: drop rates of a spec.
    """

    def __init__(self, net: Supernet, config: TrainConfig, policy: DropoutPolicy) -> None:
        self.net = net
        self.config = config
        self.policy = policy

    def __call__(
        self, batch: Batch, specs: Sequence[SubnetSpec], *, step: int, generator: torch.Generator
    ) -> list[PassLoss]:
        """Run `specs` on `batch`, the teacher first; gradients are added to those already there.

        Args:
            batch: on the model's device.
            specs: of `todm.space.sandwich.draw_specs`.
            step: batches seen so far, for the warm-ups.
            generator: of the dropout.
        """
        whole = self.net.share(batch)
        shared, pending = whole.detached()
        teacher_spec, *student_specs = specs
        teacher, teacher_loss = self._teach(batch, shared, teacher_spec, step, generator)
        losses = [teacher_loss]
        for spec in student_specs:
            losses.append(self._learn(batch, shared, spec, teacher, step, generator))
        # Operators of layers that no spec ran have no gradient.
        flowing = [(tensor, leaf.grad) for tensor, leaf in pending if leaf.grad is not None]
        torch.autograd.backward([tensor for tensor, _ in flowing], [grad for _, grad in flowing])
        return losses

    def _teach(
        self, batch: Batch, shared: SharedPass, spec: SubnetSpec, step: int, generator: torch.Generator
    ) -> tuple[TransducerLoss, PassLoss]:
        encoder_out = self.net.encode(shared, spec, self.policy.plan(spec), generator)
        config = self.config.loss
        loss = rnnt_loss(
            encoder_out=encoder_out,
            predictor_out=shared.predictor_out,
            join=self.net.join,
            labels=batch.labels,
            encoder_lens=shared.lens,
            label_lens=batch.label_lens,
            am=self.net.simple_am(encoder_out),
            lm=self.net.simple_lm(shared.predictor_out),
            prune_range=config.prune_range,
            lm_scale=config.lm_scale,
            am_scale=config.am_scale,
            backend=config.backend,
        )
        simple, pruned = loss.simple.sum(), loss.pruned.sum()
        simple_scale, pruned_scale = self._scales(step)
        (simple_scale * simple + pruned_scale * pruned).backward()
        return loss, PassLoss(spec=spec, rnnt=pruned.item(), simple=simple.item(), divergence=0.0)

    def _learn(
        self,
        batch: Batch,
        shared: SharedPass,
        spec: SubnetSpec,
        teacher: TransducerLoss,
        step: int,
        generator: torch.Generator,
    ) -> PassLoss:
        config = self.config
        encoder_out = self.net.encode(shared, spec, self.policy.plan(spec), generator)
        student = rnnt_loss(
            encoder_out=encoder_out,
            predictor_out=shared.predictor_out,
            join=self.net.join,
            labels=batch.labels,
            encoder_lens=shared.lens,
            label_lens=batch.label_lens,
            band=teacher.band,
            prune_range=config.loss.prune_range,
            backend=config.loss.backend,
        )
        pruned = student.pruned.sum()
        distill_weight = self._distill_weight(step)
        _, pruned_scale = self._scales(step)
        divergence = pruned.new_zeros(())
        if distill_weight > 0.0:
            divergence = self._divergence(batch, shared, student, teacher)
        # Until the teacher has something to say, its students learn from the labels whatever the objective.
        distill_only = config.distill.objective == "distill_only" and distill_weight >= config.distill.weight
        rnnt_scale = 0.0 if distill_only and config.distill.lattice != "none" else pruned_scale
        (rnnt_scale * pruned + distill_weight * divergence).backward()
        return PassLoss(spec=spec, rnnt=pruned.item(), simple=0.0, divergence=divergence.item())

    def _divergence(
        self, batch: Batch, shared: SharedPass, student: TransducerLoss, teacher: TransducerLoss
    ) -> Tensor:
        config = self.config.distill
        assert config.lattice != "none"
        return lattice_divergence(
            student.log_probs,
            teacher.log_probs.detach(),
            labels=batch.labels,
            band=teacher.band,
            encoder_lens=shared.lens,
            label_lens=batch.label_lens,
            lattice=config.lattice,
            alpha_min=config.alpha_min,
            alpha_max=config.alpha_max,
            beta=config.beta,
        ).sum()

    def _scales(self, step: int) -> tuple[float, float]:
        """Weights of the smoothed and the pruned loss, moved linearly over the warm-up (Yao et al., 2023)."""
        config = self.config.loss
        done = min(1.0, step / config.warmup_steps) if config.warmup_steps else 1.0
        return 1.0 + done * (config.simple_scale - 1.0), 0.1 + done * 0.9

    def _distill_weight(self, step: int) -> float:
        config = self.config.distill
        if config.lattice == "none":
            return 0.0
        done = min(1.0, step / config.warmup_steps) if config.warmup_steps else 1.0
        return config.weight * done
