"""Score and occupation of a transducer lattice in U + 1 vectorised steps.

The lattice recursion is usually run frame by frame. It is run label by label here: all frames of one
position u are a single `logcumsumexp` along time, because with C_u(t) = sum of the blanks (s, u) for
s < t,

    alpha(t, u) = C_u(t) + logcumsumexp_t(alpha(t, u-1) + label(t, u-1) - C_u(t)),

and utterances have far fewer labels than frames. Working with a_u = alpha_u - C_u leaves two tensor
operations per step. The backward recursion is the same one on the lattice turned round, so that both
run as one batch of 2 N rows. Sums of many log-probabilities are subtracted from each other, hence
float64; a lattice holds one number per node, which is negligible compared with the joiner's V.

A band is a lattice whose label moves outside the band are impossible; its blanks outside are set to
0, harmless because no path that has left the band by a blank can leave position u again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from todm.kernels import gpu
from todm.losses.band import Band

_NO_PATH = -torch.inf
# A blank of probability 0 must stay subtractable: exp(-1e6) is 0 at any precision.
_LOWEST_BLANK = -1e6


def lattice_score(
    blank: Tensor, label: Tensor, *, band: Band, num_labels: int, encoder_lens: Tensor, label_lens: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the log-probability of all paths through a band, and the posteriors of its moves.

    Args:
        blank: (N, T, S) log-probability of the blank at the band's nodes.
        label: (N, T, S) log-probability of the next label there; ignored at u >= U.
        band: the nodes.
        num_labels: U of the batch's padded label matrix.
        encoder_lens: (N,) int64 frames, 1 to T.
        label_lens: (N,) int64 labels, 0 to U.

    Returns:
        score (N,) with gradient to ``blank`` and ``label``; the posteriors of the blank and label
        moves, (N, T, S) each, without gradient. An utterance without any path has score -inf and
        zero occupations. Dtypes follow ``blank``.
    """
    score, occupied_blank, occupied_label = _LatticeScore.apply(  # type: ignore[no-untyped-call]
        blank, label, band, num_labels, (encoder_lens, label_lens)
    )
    return score, occupied_blank, occupied_label


class _LatticeScore(torch.autograd.Function):
    """The gradient of the score is the occupation: no graph through the recursion is kept."""

    @staticmethod
    def forward(
        ctx: Any,
        blank: Tensor,
        label: Tensor,
        band: Band,
        num_labels: int,
        lens: tuple[Tensor, Tensor],
    ) -> tuple[Tensor, Tensor, Tensor]:
        encoder_lens, label_lens = lens
        num_utterances, num_frames, size = blank.shape
        device = blank.device
        rows = torch.arange(num_labels + 1, device=device).unsqueeze(-1)
        node = torch.arange(num_frames, device=device) < encoder_lens[:, None, None]
        node = node & (rows <= label_lens[:, None, None])  # (N, U + 1, T)
        window = None
        if size <= num_labels:
            first = band.begin.unsqueeze(1)
            node &= (rows >= first) & (rows < first + size)
            window = first + torch.arange(size, device=device).unsqueeze(-1)  # (N, S, T)
        # A label move needs both its nodes; there is none out of the last position.
        move = torch.nn.functional.pad(node[:, :-1] & node[:, 1:], (0, 0, 0, 1))

        def spread(x: Tensor) -> Tensor:
            x = x.transpose(1, 2).double()
            if window is None:
                return x
            return x.new_zeros(node.shape).scatter_(1, window, x)

        def collect(x: Tensor) -> Tensor:
            x = x if window is None else x.gather(1, window)
            return x.transpose(1, 2).to(blank.dtype)

        blanks = spread(blank).clamp(min=_LOWEST_BLANK).masked_fill(~node, 0.0)
        labels = spread(label).masked_fill(~move, _NO_PATH)
        alpha, beta = _choose(blanks)(blanks, labels, encoder_lens, label_lens)

        end = (torch.arange(num_utterances, device=device), label_lens, encoder_lens - 1)
        score = alpha[end] + blanks[end]
        # Without any path everything is -inf: subtracting 0 instead keeps the occupations at 0.
        base = score.masked_fill(score == _NO_PATH, 0.0)[:, None, None]
        after_label = torch.nn.functional.pad(beta[:, 1:], (0, 0, 0, 1), value=_NO_PATH)
        after_blank = torch.nn.functional.pad(beta[:, :, 1:], (0, 1), value=_NO_PATH)
        after_blank[end] = 0.0
        occupied_label = collect((alpha + labels + after_label - base).exp())
        occupied_blank = collect((alpha + blanks + after_blank - base).exp())
        ctx.save_for_backward(occupied_blank, occupied_label)
        ctx.mark_non_differentiable(occupied_blank, occupied_label)
        return score.to(blank.dtype), occupied_blank, occupied_label

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        occupied_blank, occupied_label = ctx.saved_tensors
        grad = grad[:, None, None]
        return grad * occupied_blank, grad * occupied_label, None, None, None


def _choose(blanks: Tensor) -> Callable[..., tuple[Tensor, Tensor]]:
    """One kernel on a GPU, where an operation per position would leave it idle; else `forward_backward`."""
    kernels = gpu.find_kernels("recursion", blanks.device)
    if kernels is None or blanks.shape[2] > kernels.MAX_FRAMES:
        return forward_backward
    found: Callable[..., tuple[Tensor, Tensor]] = kernels.forward_backward
    return found


def forward_backward(
    blanks: Tensor, labels: Tensor, encoder_lens: Tensor, label_lens: Tensor
) -> tuple[Tensor, Tensor]:
    """Compute the log-probability of reaching each node and of finishing from it.

    Args:
        blanks: (N, U + 1, T) float64, finite, 0 at padding.
        labels: (N, U + 1, T) float64, -inf wherever there is no move.
        encoder_lens: (N,) int64.
        label_lens: (N,) int64.

    Returns:
        alpha, beta: (N, U + 1, T) float64.
    """
    num_utterances, num_positions, _ = blanks.shape
    end = (torch.arange(num_utterances, device=blanks.device), label_lens, encoder_lens - 1)

    # Row k of the forward half is position k, entered by the label moves out of k - 1; the first is
    # entered at frame 0 only, from an imagined row of zeros before it.
    enter = torch.nn.functional.pad(labels[:, :-1], (0, 0, 1, 0), value=_NO_PATH)
    enter[:, 0, 0] = 0.0

    # Row k of the backward half is position U - k with time reversed, entered by the label moves out
    # of that position. An utterance's own last position is entered at its last frame, by the final
    # blank; rows above it only pass zeros on.
    rows = torch.arange(num_positions, device=blanks.device)
    leave = labels.clone()
    leave[..., -1].masked_fill_(rows > label_lens[:, None], 0.0)
    leave[end] = blanks[end]

    # Rows first, so that each row of both halves is one piece of memory.
    def pair(forward: Tensor, backward: Tensor) -> Tensor:
        halves = (forward.transpose(0, 1), backward.flip(1, 2).transpose(0, 1))
        return torch.cat(halves, dim=1)  # (U + 1, 2 N, T)

    step = pair(enter, leave)
    del enter, leave  # this is where a batch needs most memory
    passed = pair(blanks, blanks).cumsum_(-1)
    passed[:, :num_utterances] -= blanks.transpose(0, 1)
    step -= passed
    step[1:] += passed[:-1]
    states = torch.empty_like(step)
    state = torch.zeros_like(step[0])
    for k in range(num_positions):
        state = torch.logcumsumexp(step[k].add_(state), dim=-1, out=states[k])
    forward, backward = states.add_(passed).transpose(0, 1).split(num_utterances)
    return forward, backward.flip(1, 2)
