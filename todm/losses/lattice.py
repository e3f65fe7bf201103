"""Distillation on the transducer lattice: how far a student's node posteriors are from the teacher's.

Letters: N batch, T frames, U labels, S symbols of one frame's window, V vocabulary.
Source of the collapsed lattice: Panchapagesan et al., arXiv 2011.06110. The full vocabulary on a
pruned lattice, and the normalisation, are this project's own.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from todm.errors import UserError
from todm.losses.band import Band
from todm.losses.divergence import alpha_divergence
from todm.nn.precision import at_least_float32

_LOWEST_REST = 1e-6
# A class that does not exist: equal in both nets, and exp(-80) is nothing beside 1.
_NO_CLASS = -80.0


def lattice_divergence(
    student_log_probs: Tensor,
    teacher_log_probs: Tensor,
    *,
    labels: Tensor,
    band: Band,
    encoder_lens: Tensor,
    label_lens: Tensor,
    lattice: str = "full",
    alpha_min: float = -1.0,
    alpha_max: float = 1.0,
    beta: float = 5.0,
) -> Tensor:
    """Per utterance: the sum over its frames of the mean divergence of the frame's own nodes.

    The branch of the alpha divergence is chosen per utterance; see
    `todm.losses.divergence.alpha_divergence` for the value and the gradient.

    Args:
        student_log_probs: (N, T, S, V) log-softmax of the student's joiner on ``band``.
        teacher_log_probs: the teacher's on the same band; treated as constant.
        labels: (N, U) int64; the padding may hold anything.
        band: the nodes that both joiners ran on.
        encoder_lens: (N,) int64 frames.
        label_lens: (N,) int64 labels.
        lattice: ``full`` compares all V classes, ``collapsed`` blank, next label and the rest
            (at the last position, where no label is left, blank and the rest).
        alpha_min: one branch.
        alpha_max: the other branch.
        beta: clip of the importance ratio, 1 or more.

    Returns:
        (N,) float32 (float64 for float64 input).

    Raises:
        UserError: ``lattice`` is neither ``full`` nor ``collapsed``.
    """
    if lattice not in ("full", "collapsed"):
        raise UserError(f"train.distill.lattice: {lattice!r} is unknown; use full, collapsed or none")
    with torch.autocast(student_log_probs.device.type, enabled=False):
        student = at_least_float32(student_log_probs)
        teacher = at_least_float32(teacher_log_probs.detach())
        valid = band.valid_nodes(encoder_lens, label_lens)
        weights = valid / valid.sum(-1, keepdim=True).clamp(min=1).to(student.dtype)
        if lattice == "collapsed":
            positions = band.indices()
            padding = torch.arange(labels.shape[1], device=labels.device) >= label_lens[:, None]
            padded = torch.nn.functional.pad(labels.masked_fill(padding, 0), (0, 1))
            next_labels = padded[:, None].expand(-1, positions.shape[1], -1).gather(2, positions)
            has_label = valid & (positions < label_lens[:, None, None])
            student = collapse(student, next_labels, valid, has_label)
            teacher = collapse(teacher, next_labels, valid, has_label)
        return alpha_divergence(
            student, teacher, weights, alpha_min=alpha_min, alpha_max=alpha_max, beta=beta
        )


def collapse(log_probs: Tensor, next_labels: Tensor, valid: Tensor, has_label: Tensor) -> Tensor:
    """Blank, next label and the rest of the vocabulary, as log-probabilities.

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
