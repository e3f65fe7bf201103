"""The alpha divergence between two categorical distributions, with AlphaNet's clip and adaptive alpha.

p is the teacher, q the student, r = p / q, both given as log-probabilities over V classes.

    D_a(p || q) = (sum q r^a - 1) / (a (a - 1)),   D_1 = KL(p || q),   D_0 = KL(q || p)

The gradient of the formula with respect to log q is -q rho with rho = r^a / a (a = 0: log r - 1);
AlphaNet clips r^a at its beta in it, here ``ratio_clip``, which keeps single classes from blowing the
gradient up. Its constant 1 / (a (a - 1)) is left out, because sum q d(log q) = d(sum q) = 0 takes any
constant away.

Source: Wang et al., AlphaNet, ICML 2021, arXiv 2102.07954, section 3.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from todm.kernels import gpu

SAME_ALPHA = 1e-3
"""Alphas closer to 0 or 1 than this use the Kullback-Leibler limit of the divergence."""

# Elements of one block of utterances: temporaries of this size stay in the cache.
_BLOCK_NUMEL = 1 << 19


class Branches(NamedTuple):
    """Parameters of the divergence.

    Args:
        alphas: the branches, one or two; exactly 0 or 1 where the limit is used.
        ratio_clip: clip of r^a, 1 or more.
    """

    alphas: tuple[float, ...]
    ratio_clip: float


def alpha_divergence(
    student_log_probs: Tensor,
    teacher_log_probs: Tensor,
    weights: Tensor,
    *,
    alpha_min: float,
    alpha_max: float,
    ratio_clip: float,
) -> Tensor:
    """Compute the weighted sum of each utterance's divergences, in the branch that is larger for it.

    The value is the divergence, clipped like its gradient (from -1 <= alpha <= 1 and ratio_clip >= 2 follows
    a value of 0 or more); the gradient to ``student_log_probs`` is AlphaNet's surrogate -q rho, equal
    to that of the formula where nothing is clipped. An alpha of 1 is never clipped.

    Args:
        student_log_probs: (N, ..., V) float, finite, normalised over V.
        teacher_log_probs: same shape; treated as constant.
        weights: (N, ...) float, 0 or more, without gradient. Nodes of weight 0 may hold anything.
        alpha_min: alpha of one branch.
        alpha_max: alpha of the other branch; equal to ``alpha_min`` for a fixed alpha.
        ratio_clip: clip of r^a, 1 or more; ``inf`` switches it off.

    Returns:
        (N,) in the student's dtype.
    """
    assert student_log_probs.shape == teacher_log_probs.shape, teacher_log_probs.shape
    assert weights.shape == student_log_probs.shape[:-1], weights.shape
    assert ratio_clip >= 1.0, ratio_clip
    alphas = (alpha_min,) if alpha_min == alpha_max else (alpha_min, alpha_max)
    branches = Branches(tuple(map(_snap, alphas)), ratio_clip)
    divergence: Tensor = _AlphaDivergence.apply(  # type: ignore[no-untyped-call]
        student_log_probs, teacher_log_probs.detach(), weights.detach(), branches
    )
    return divergence


def _snap(alpha: float) -> float:
    """Alphas near 0 or 1 become exactly that."""
    return next((limit for limit in (0.0, 1.0) if abs(alpha - limit) < SAME_ALPHA), alpha)


class _AlphaDivergence(torch.autograd.Function):
    """Recomputes q rho in the backward pass rather than keeping a tensor of V classes per node."""

    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor, weights: Tensor, branches: Branches) -> Tensor:
        kernels = _find_kernels(student)
        compute = _divergences if kernels is None else kernels.divergences
        value, chosen = compute(student, teacher, weights, *branches).max(0)
        ctx.save_for_backward(student, teacher, weights, chosen)
        ctx.branches = branches
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        student, teacher, weights, chosen = ctx.saved_tensors
        kernels = _find_kernels(student)
        if kernels is None:
            out = _slopes(student, teacher, weights, chosen, grad, ctx.branches)
        else:
            out = kernels.slopes(student, teacher, weights, chosen, grad, *ctx.branches)
        return out, None, None, None


def _find_kernels(student: Tensor) -> Any:
    """Module of the kernels if they support this tensor, else None."""
    kernels = gpu.find_kernels("node", student.device) if student.dtype == torch.float32 else None
    return kernels if kernels is not None and student.shape[-1] <= kernels.MAX_CLASSES else None


def _divergences(
    student: Tensor, teacher: Tensor, weights: Tensor, alphas: tuple[float, ...], ratio_clip: float
) -> Tensor:
    """Weighted sums (A, N) of every utterance's nodes, for each of A alphas."""
    values = student.new_zeros(len(alphas), student.shape[0])
    for block in _blocks(student):
        weight = weights[block]
        gap = student[block] - teacher[block]
        for i, alpha in enumerate(alphas):
            nodes = _node_values(student[block], teacher[block], gap, alpha, ratio_clip)
            nodes = (nodes * weight).masked_fill(weight == 0.0, 0.0)
            values[i, block] = nodes.reshape(nodes.shape[0], -1).sum(1)
    return values


def _slopes(
    student: Tensor, teacher: Tensor, weights: Tensor, chosen: Tensor, grad: Tensor, branches: Branches
) -> Tensor:
    """Gradient with respect to the student's log-probabilities."""
    out = torch.empty_like(student)
    for block in _blocks(student):
        weight = weights[block] * grad[block].reshape(-1, *[1] * (weights.ndim - 1))
        picked = chosen[block].reshape(-1, *[1] * (student.ndim - 1))
        # Reading what was chosen would synchronise a GPU: computing both branches is cheaper there.
        alone = None if chosen.is_cuda or picked.amin() != picked.amax() else int(picked.amax())
        rows = None
        for i, alpha in enumerate(branches.alphas):
            if alone in (None, i):
                slope = _node_slopes(student[block], teacher[block], alpha, branches.ratio_clip)
                rows = slope if rows is None else torch.where(picked == i, slope, rows)
        assert rows is not None
        rows *= weight.unsqueeze(-1)
        out[block] = rows.masked_fill_((weight == 0.0).unsqueeze(-1), 0.0)
    return out


def _blocks(x: Tensor) -> Iterator[slice]:
    """Slices of utterances whose elements fit the block size; on a GPU the whole batch."""
    step = x.shape[0] if x.is_cuda else max(1, _BLOCK_NUMEL // max(1, x[0].numel()))
    for start in range(0, x.shape[0], max(1, step)):
        yield slice(start, start + step)


def _node_values(student: Tensor, teacher: Tensor, gap: Tensor, alpha: float, ratio_clip: float) -> Tensor:
    """Clipped D_alpha of every node, (n, ...); ``gap`` is student - teacher, that is -log r."""
    if alpha == 1.0:
        return -(teacher.exp().mul_(gap)).sum(-1)
    q = student.exp()
    if alpha == 0.0:
        return q.mul_(gap.clamp(min=-math.log(ratio_clip))).sum(-1)
    total = q.mul_(gap.mul(-alpha).exp_().clamp_(max=ratio_clip)).sum(-1)
    return (total - 1.0) / (alpha * (alpha - 1.0))


def _node_slopes(student: Tensor, teacher: Tensor, alpha: float, ratio_clip: float) -> Tensor:
    """-q rho of every class of every node, (n, ..., V): the gradient with respect to log q."""
    if alpha == 1.0:
        return teacher.exp().neg_()
    gap = student - teacher
    q = student.exp()
    if alpha == 0.0:
        return gap.clamp_(min=-math.log(ratio_clip)).add_(1.0).mul_(q)
    return gap.mul_(-alpha).exp_().clamp_(max=ratio_clip).mul_(q).div_(-alpha)
