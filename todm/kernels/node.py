"""Triton kernels over the vocabulary of a lattice's nodes.

One node is a row of V classes. Each kernel reads its inputs once and writes its result once; torch's own
operations would move these tensors, the largest of a step, many times.
"""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

MAX_CLASSES = 16384
"""Largest V: a row is one block."""

_BLOCK_NUMEL = 4096


def pick(logits: Tensor, labels: Tensor, *, keep: bool) -> tuple[Tensor | None, Tensor, Tensor, Tensor]:
    """Compute the log-softmax and pick blank and label from it.

    Args:
        logits: (..., V) float, on a GPU.
        labels: (...) int64.
        keep: whether the log-probabilities themselves are wanted.

    Returns:
        log_probs (..., V) or None, blank (...), label (...) and the logits' log-sum-exp (...); float32.
    """
    logits = logits.contiguous()
    blank = torch.empty(labels.shape, device=logits.device)
    label, total = torch.empty_like(blank), torch.empty_like(blank)
    log_probs = torch.empty(logits.shape, device=logits.device) if keep else None
    grid, numbers, blocks = _arrange(logits)
    _pick[grid](
        logits,
        labels.contiguous(),
        logits if log_probs is None else log_probs,
        blank,
        label,
        total,
        *numbers,
        KEEP=keep,
        **blocks,
    )
    return log_probs, blank, label, total


def unpick(
    scores: Tensor,
    total: Tensor | None,
    labels: Tensor,
    dtype: torch.dtype,
    grad_all: Tensor | None,
    grad_blank: Tensor | None,
    grad_label: Tensor | None,
) -> Tensor:
    """Compute the gradient of `pick` with respect to the logits, (..., V) of `dtype`.

    Args:
        scores: the log-probabilities, or the logits.
        total: the logits' log-sum-exp; None if `scores` are log-probabilities.
        labels: (...) int64.
        dtype: type of the result.
        grad_all: gradient of the log-probabilities, (..., V); None for zeros.
        grad_blank: gradient of the blank's, (...); None for zeros.
        grad_label: gradient of the label's, (...); None for zeros.
    """
    out = torch.empty(scores.shape, dtype=dtype, device=scores.device)
    grid, numbers, blocks = _arrange(scores)
    given = [None if x is None else x.contiguous() for x in (total, grad_all, grad_blank, grad_label)]
    _unpick[grid](
        scores.contiguous(), labels.contiguous(), out, *(scores if x is None else x for x in given), *numbers,
        **{name: x is not None for name, x in zip(("TOTAL", "ALL", "BLANK", "LABEL"), given, strict=True)},
        **blocks,
    )  # fmt: skip
    return out


def divergences(
    student: Tensor, teacher: Tensor, weights: Tensor, alphas: tuple[float, ...], ratio_clip: float
) -> Tensor:
    """Compute weighted sums (A, N) of each utterance's nodes; see `todm.losses.divergence`.

    Args:
        student: (N, ..., V) float32 log-probabilities, on a GPU.
        teacher: same shape and type.
        weights: (N, ...) float32.
        alphas: one or two, exactly 1 or 0 for the Kullback-Leibler limits.
        ratio_clip: clip of the importance ratio.
    """
    values = weights.new_empty(len(alphas), *weights.shape)
    grid, numbers, blocks = _arrange(student)
    _divergences[grid](
        student.contiguous(), teacher.contiguous(), weights.contiguous(), values, *numbers,
        *_alphas(alphas), ratio_clip, math.log(ratio_clip), **_kinds(alphas), **blocks,
    )  # fmt: skip
    return values.reshape(len(alphas), len(weights), -1).sum(2)


def slopes(
    student: Tensor,
    teacher: Tensor,
    weights: Tensor,
    chosen: Tensor,
    grad: Tensor,
    alphas: tuple[float, ...],
    ratio_clip: float,
) -> Tensor:
    """Compute the gradient with respect to the student's log-probabilities, (N, ..., V).

    ``chosen`` (N,) int64 is the index of an utterance's alpha, ``grad`` (N,) the gradient of its divergence;
    for the others see `divergences`.
    """
    out = torch.empty_like(student, memory_format=torch.contiguous_format)
    grid, numbers, blocks = _arrange(student)
    _slopes[grid](
        student.contiguous(), teacher.contiguous(), weights.contiguous(), chosen, grad.contiguous(), out,
        *numbers, weights[0].numel(), *_alphas(alphas), ratio_clip, math.log(ratio_clip),
        **_kinds(alphas), **blocks,
    )  # fmt: skip
    return out


def _arrange(x: Tensor) -> tuple[tuple[int], tuple[int, int], dict[str, int]]:
    """Return the grid, the numbers of rows and classes, and the blocks of a program."""
    num_classes = x.shape[-1]
    num_rows = x.numel() // num_classes
    classes = triton.next_power_of_2(num_classes)
    rows = max(1, _BLOCK_NUMEL // classes)
    return (triton.cdiv(num_rows, rows),), (num_rows, num_classes), {"ROWS": rows, "CLASSES": classes}


def _alphas(alphas: tuple[float, ...]) -> tuple[float, float]:
    return float(alphas[0]), float(alphas[-1])


def _kinds(alphas: tuple[float, ...]) -> dict[str, int]:
    """Formula of each alpha: 1 and 0 for the Kullback-Leibler limits, 2 otherwise; -1 for no second alpha."""
    kinds = [int(alpha) if alpha in (0.0, 1.0) else 2 for alpha in alphas]
    return {"KIND": kinds[0], "OTHER": kinds[1] if len(kinds) > 1 else -1}


@triton.jit
def _rows(num_rows, num_classes, ROWS: tl.constexpr, CLASSES: tl.constexpr):
    """This program's rows, which of them there are, its classes, and where its elements lie."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    classes = tl.arange(0, CLASSES)
    inside = row < num_rows
    there = inside[:, None] & (classes[None, :] < num_classes)
    return row, inside, classes, row[:, None] * num_classes + classes[None, :], there


@triton.jit(do_not_specialize=["num_rows"])
def _pick(
    logits_ptr, labels_ptr, log_probs_ptr, blank_ptr, label_ptr, total_ptr, num_rows, num_classes,
    KEEP: tl.constexpr, ROWS: tl.constexpr, CLASSES: tl.constexpr,
):  # fmt: skip
    row, inside, classes, at, there = _rows(num_rows, num_classes, ROWS, CLASSES)
    logits = tl.load(logits_ptr + at, there, float("-inf")).to(tl.float32)
    next_label = tl.load(labels_ptr + row, inside, 0)
    largest = tl.where(inside, tl.max(logits, 1), 0.0)
    total = tl.sum(tl.exp(logits - largest[:, None]), 1)
    total = largest + tl.log(tl.where(inside, total, 1.0))
    log_probs = logits - total[:, None]
    if KEEP:
        tl.store(log_probs_ptr + at, log_probs, there)
    first = classes[None, :] == 0
    tl.store(blank_ptr + row, tl.sum(tl.where(first, log_probs, 0.0), 1), inside)
    picked = classes[None, :] == next_label[:, None]
    tl.store(label_ptr + row, tl.sum(tl.where(picked, log_probs, 0.0), 1), inside)
    tl.store(total_ptr + row, total, inside)


@triton.jit(do_not_specialize=["num_rows"])
def _unpick(
    scores_ptr, labels_ptr, out_ptr, total_ptr, grad_all_ptr, grad_blank_ptr, grad_label_ptr,
    num_rows, num_classes,
    TOTAL: tl.constexpr, ALL: tl.constexpr, BLANK: tl.constexpr, LABEL: tl.constexpr,
    ROWS: tl.constexpr, CLASSES: tl.constexpr,
):  # fmt: skip
    row, inside, classes, at, there = _rows(num_rows, num_classes, ROWS, CLASSES)
    log_probs = tl.load(scores_ptr + at, there, float("-inf")).to(tl.float32)
    if TOTAL:
        log_probs -= tl.load(total_ptr + row, inside, 0.0)[:, None]
    grad = tl.zeros((ROWS, CLASSES), tl.float32)
    if ALL:
        grad += tl.load(grad_all_ptr + at, there, 0.0)
    if BLANK:
        blank = tl.load(grad_blank_ptr + row, inside, 0.0)
        grad += tl.where(classes[None, :] == 0, blank[:, None], 0.0)
    if LABEL:
        label = tl.load(grad_label_ptr + row, inside, 0.0)
        picked = classes[None, :] == tl.load(labels_ptr + row, inside, 0)[:, None]
        grad += tl.where(picked, label[:, None], 0.0)
    grad -= tl.exp(log_probs) * tl.sum(grad, 1)[:, None]
    tl.store(out_ptr + at, grad.to(out_ptr.dtype.element_ty), there)


@triton.jit
def _value(student, teacher, there, alpha, ratio_clip, log_clip, KIND: tl.constexpr):
    """Clipped divergence of each row."""
    gap = tl.where(there, student - teacher, 0.0)
    if KIND == 1:
        return -tl.sum(tl.where(there, tl.exp(teacher), 0.0) * gap, 1)
    q = tl.where(there, tl.exp(student), 0.0)
    if KIND == 0:
        return tl.sum(q * tl.maximum(gap, -log_clip), 1)
    return (tl.sum(q * tl.minimum(tl.exp(-alpha * gap), ratio_clip), 1) - 1.0) / (alpha * (alpha - 1.0))


@triton.jit
def _slope(student, teacher, there, alpha, ratio_clip, log_clip, KIND: tl.constexpr):
    """-q rho of each class of each row."""
    if KIND == 1:
        return -tl.exp(teacher)
    gap = tl.where(there, student - teacher, 0.0)
    if KIND == 0:
        return tl.exp(student) * (tl.maximum(gap, -log_clip) + 1.0)
    return tl.exp(student) * tl.minimum(tl.exp(-alpha * gap), ratio_clip) / -alpha


@triton.jit(do_not_specialize=["num_rows"])
def _divergences(
    student_ptr, teacher_ptr, weights_ptr, values_ptr, num_rows, num_classes,
    alpha, other_alpha, ratio_clip, log_clip,
    KIND: tl.constexpr, OTHER: tl.constexpr, ROWS: tl.constexpr, CLASSES: tl.constexpr,
):  # fmt: skip
    row, inside, _, at, there = _rows(num_rows, num_classes, ROWS, CLASSES)
    weight = tl.load(weights_ptr + row, inside, 0.0)
    there = there & (weight != 0.0)[:, None]  # the others may hold anything
    student = tl.load(student_ptr + at, there, 0.0)
    teacher = tl.load(teacher_ptr + at, there, 0.0)
    value = weight * _value(student, teacher, there, alpha, ratio_clip, log_clip, KIND)
    tl.store(values_ptr + row, tl.where(weight == 0.0, 0.0, value), inside)
    if OTHER >= 0:
        value = weight * _value(student, teacher, there, other_alpha, ratio_clip, log_clip, OTHER)
        tl.store(values_ptr + num_rows + row, tl.where(weight == 0.0, 0.0, value), inside)


@triton.jit(do_not_specialize=["num_rows", "rows_of_one"])
def _slopes(
    student_ptr, teacher_ptr, weights_ptr, chosen_ptr, grad_ptr, out_ptr, num_rows, num_classes, rows_of_one,
    alpha, other_alpha, ratio_clip, log_clip,
    KIND: tl.constexpr, OTHER: tl.constexpr, ROWS: tl.constexpr, CLASSES: tl.constexpr,
):  # fmt: skip
    row, inside, _, at, written = _rows(num_rows, num_classes, ROWS, CLASSES)
    utterance = row // rows_of_one
    weight = tl.load(weights_ptr + row, inside, 0.0) * tl.load(grad_ptr + utterance, inside, 0.0)
    there = written & (weight != 0.0)[:, None]
    student = tl.load(student_ptr + at, there, 0.0)
    teacher = tl.load(teacher_ptr + at, there, 0.0)
    slope = _slope(student, teacher, there, alpha, ratio_clip, log_clip, KIND)
    if OTHER >= 0:
        second = tl.load(chosen_ptr + utterance, inside, 0) == 1
        other = _slope(student, teacher, there, other_alpha, ratio_clip, log_clip, OTHER)
        slope = tl.where(second[:, None], other, slope)
    tl.store(out_ptr + at, tl.where(there, slope * weight[:, None], 0.0), written)
