"""Distillation on the transducer lattice: divergence of a student's node posteriors from the teacher's.

Letters: N batch, T frames, U labels, S symbols of one frame's window, V vocabulary.
Source of the collapsed lattice: Panchapagesan et al., arXiv 2011.06110. The full vocabulary on a
pruned lattice, and the normalisation, are this project's own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from todm.config import DistillConfig
from todm.errors import UserError
from todm.losses.band import Band
from todm.losses.divergence import alpha_divergence
from todm.nn.precision import at_least_float32

_LOWEST_REST = 1e-6
# Log-probability of a class that does not exist: equal in both nets, and exp(-80) is negligible.
_NO_CLASS = -80.0


@dataclass(frozen=True, kw_only=True)
class DivergenceOptions:
    """Settings of the distillation (`todm.config.DistillConfig`).

    Args:
        lattice: ``full`` compares all V classes, ``collapsed`` blank, next label and the rest (at the last
            position, which has no next label, blank and the rest).
        alpha_min: alpha of one branch.
        alpha_max: alpha of the other branch.
        ratio_clip: largest r^alpha, r the ratio of the probabilities, 1 or more.
    """

    lattice: str
    alpha_min: float
    alpha_max: float
    ratio_clip: float

    @classmethod
    def from_config(cls, config: DistillConfig) -> DivergenceOptions:
        """Take the options from section ``train.distill`` of the settings."""
        return cls(
            lattice=config.lattice,
            alpha_min=config.alpha_min,
            alpha_max=config.alpha_max,
            ratio_clip=config.ratio_clip,
        )


@dataclass(frozen=True, kw_only=True)
class LatticeNodes:
    """The nodes of a batch that two joiners ran on.

    Args:
        band: windows of label positions.
        labels: (N, U) int64; the padding may hold any value.
        encoder_lens: (N,) int64 frames.
        label_lens: (N,) int64 labels.
    """

    band: Band
    labels: Tensor
    encoder_lens: Tensor
    label_lens: Tensor

    @property
    def valid(self) -> Tensor:
        """Whether a node lies within its utterance, (N, T, S) bool."""
        return self.band.valid_nodes(self.encoder_lens, self.label_lens)


_DEFAULTS = DivergenceOptions.from_config(DistillConfig())


def lattice_divergence(
    student_log_probs: Tensor,
    teacher_log_probs: Tensor,
    nodes: LatticeNodes,
    options: DivergenceOptions = _DEFAULTS,
) -> Tensor:
    """Sum, over an utterance's frames, the mean divergence of the frame's nodes.

    The branch of the alpha divergence is chosen per utterance; see
    `todm.losses.divergence.alpha_divergence` for the value and the gradient.

    Args:
        student_log_probs: (N, T, S, V) log-softmax of the student's joiner on the nodes.
        teacher_log_probs: the teacher's on the same nodes; treated as constant.
        nodes: where both joiners ran.
        options: settings of the divergence.

    Returns:
        (N,) float32 (float64 for float64 input).

    Raises:
        UserError: ``lattice`` is neither ``full`` nor ``collapsed``.
    """
    if options.lattice not in ("full", "collapsed"):
        raise UserError(f"train.distill.lattice: {options.lattice!r} is unknown; use full, collapsed or none")
    with torch.autocast(student_log_probs.device.type, enabled=False):
        student = at_least_float32(student_log_probs)
        teacher = at_least_float32(teacher_log_probs.detach())
        valid = nodes.valid
        weights = valid / valid.sum(-1, keepdim=True).clamp(min=1).to(student.dtype)
        if options.lattice == "collapsed":
            labels, label_lens = nodes.labels, nodes.label_lens
            positions = nodes.band.indices()
            padding = torch.arange(labels.shape[1], device=labels.device) >= label_lens[:, None]
            padded = torch.nn.functional.pad(labels.masked_fill(padding, 0), (0, 1))
            next_labels = padded[:, None].expand(-1, positions.shape[1], -1).gather(2, positions)
            has_label = valid & (positions < label_lens[:, None, None])
            student = collapse(student, next_labels, valid, has_label)
            teacher = collapse(teacher, next_labels, valid, has_label)
        return alpha_divergence(
            student,
            teacher,
            weights,
            alpha_min=options.alpha_min,
            alpha_max=options.alpha_max,
            ratio_clip=options.ratio_clip,
        )


def collapse(log_probs: Tensor, next_labels: Tensor, valid: Tensor, has_label: Tensor) -> Tensor:
    """Reduce the vocabulary to blank, next label and the rest, as log-probabilities.

    The rest is at least 1e-6; below that it passes no gradient.

    Args:
        log_probs: (N, T, S, V).
        next_labels: (N, T, S) int64.
        valid: (N, T, S) bool; other nodes get constants.
        has_label: (N, T, S) bool; elsewhere the label class counts for nothing.

    Returns:
        (N, T, S, 3).
    """
    index = torch.stack((torch.zeros_like(next_labels), next_labels), dim=-1)
    blank, label = log_probs.gather(-1, index).unbind(-1)
    blank = torch.where(valid, blank, -1.0)
    label = torch.where(has_label, label, _NO_CLASS)
    named = torch.logaddexp(blank, label).clamp(max=math.log1p(-_LOWEST_REST))
    # log(1 - exp(x)) in whichever form does not cancel.
    near_one = named > -math.log(2.0)
    rest = torch.where(near_one, torch.log(-torch.expm1(named)), torch.log1p(-named.exp()))
    return torch.stack((blank, label, rest), dim=-1)
