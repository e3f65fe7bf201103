"""The band: nodes of the transducer lattice that the full joiner runs on.

Letters: N batch, T frames, U labels, S symbols of one frame's window, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Band:
    """A window of label positions for every frame: ``begin[n, t] .. begin[n, t] + size - 1``.

    Within an utterance the windows start at 0, never move back, move at most ``size - 1`` positions
    per frame and hold position U of the utterance in its last frame. Positions beyond an utterance's
    own U may lie in a window; they carry no probability.

    Args:
        begin: (N, T) int64, first position of each frame's window, 0 to the batch's U + 1 - size.
        size: positions in a window, 1 to the batch's U + 1.
    """

    begin: Tensor
    size: int

    def indices(self) -> Tensor:
        """Return the positions u of all windows, (N, T, S) int64."""
        return self.begin.unsqueeze(-1) + torch.arange(self.size, device=self.begin.device)

    def valid_nodes(self, encoder_lens: Tensor, label_lens: Tensor) -> Tensor:
        """Whether a node lies within its utterance's own frames and labels, (N, T, S) bool."""
        frames = torch.arange(self.begin.shape[1], device=self.begin.device)
        in_frames = frames < encoder_lens.unsqueeze(-1)
        return in_frames.unsqueeze(-1) & (self.indices() <= label_lens[:, None, None])

    def delayed(self, num_frames: int) -> Band:
        """Shift the band right by `num_frames`, filling with 0."""
        begin = torch.nn.functional.pad(self.begin, (num_frames, 0))[:, : self.begin.shape[1]]
        return Band(begin=begin, size=self.size)


def full_band(num_utterances: int, num_frames: int, num_labels: int, device: torch.device) -> Band:
    """Make the band of the whole lattice: every window is 0 .. ``num_labels``."""
    begin = torch.zeros(num_utterances, num_frames, dtype=torch.int64, device=device)
    return Band(begin=begin, size=num_labels + 1)


def feasible_size(prune_range: int, encoder_lens: Tensor, label_lens: Tensor, num_labels: int) -> int:
    """Compute the window size of a batch: ``prune_range``, changed only where necessary.

    It is at most U + 1 of the batch, and at least what the utterance with most labels per frame needs
    to reach its end: T frames pass at most T (S - 1) labels.

    Args:
        prune_range: the size asked for, at least 2.
        encoder_lens: (N,) int64 frames.
        label_lens: (N,) int64 labels.
        num_labels: U of the batch's padded label matrix.
    """
    assert prune_range >= 2, prune_range
    frames = encoder_lens.clamp(min=1)
    needed = int(((label_lens + frames - 1) // frames).max()) + 1
    return min(max(prune_range, needed), num_labels + 1)


def choose_band(
    blank_occupation: Tensor, label_occupation: Tensor, encoder_lens: Tensor, label_lens: Tensor, size: int
) -> Band:
    """Pick each frame's window of ``size`` positions by occupation (pruned RNN-T, section 3.2).

    A window that begins at p keeps the paths that leave the frame (by blank) from inside it, less
    those that only came in from below, by the label from p - 1 to p. The best windows are then bent
    into a band: monotonic, at most ``size - 1`` positions per frame, from 0 to the utterance's end.

    Args:
        blank_occupation: (N, T, U + 1) posterior of leaving frame t at position u.
        label_occupation: (N, T, U + 1) posterior of the label move u to u + 1 in frame t.
        encoder_lens: (N,) int64 frames.
        label_lens: (N,) int64 labels.
        size: positions in a window; see `feasible_size`.

    Source: Kuang et al., arXiv 2206.13236, section 3.2.
    """
    num_positions = blank_occupation.shape[2]
    num_begins = num_positions - size + 1
    assert num_begins >= 1, (num_positions, size)
    device = blank_occupation.device
    total = torch.nn.functional.pad(blank_occupation.cumsum(-1), (1, 0))
    kept = total[..., size:] - total[..., :num_begins]
    kept[..., 1:] -= label_occupation[..., : num_begins - 1]

    last = (label_lens + 1 - size).clamp(min=0).unsqueeze(-1)
    beyond = torch.arange(num_begins, device=device) > last.unsqueeze(-1)
    begin = kept.masked_fill(beyond, -torch.inf).argmax(-1)
    return _bend(begin, encoder_lens, last, size)


def make_diagonal_band(
    encoder_lens: Tensor,
    label_lens: Tensor,
    size: int,
    *,
    num_frames: int,
    num_labels: int,
    delay: int = 0,
) -> Band:
    """Make windows of ``size`` positions around the straight line from frame `delay` to the last label.

    It spreads an utterance's labels evenly over its frames, as guided attention does for attention
    models (Tachibana et al., arXiv 1710.08969): speech at a steady pace lies near it.

    Args:
        encoder_lens: (N,) int64 frames.
        label_lens: (N,) int64 labels.
        size: positions in a window; see `feasible_size`.
        num_frames: T of the batch.
        num_labels: U of the batch's padded label matrix.
        delay: frames at the beginning in which the line stays at 0, fewer in an utterance that has no more.
    """
    frames = torch.arange(num_frames, device=encoder_lens.device)
    spread = (encoder_lens - delay).clamp(min=1).unsqueeze(-1)  # frames that the labels lie in
    passed = (frames - encoder_lens.unsqueeze(-1) + spread).clamp(min=0)
    share = (2 * passed + 1) * (label_lens + 1).unsqueeze(-1)
    nearest = share.div(2 * spread, rounding_mode="floor")
    last = (label_lens + 1 - size).clamp(min=0).unsqueeze(-1)
    begin = (nearest - (size - 1) // 2).clamp(min=0).minimum(last)
    return _bend(begin, encoder_lens, last, size)


def _bend(begin: Tensor, encoder_lens: Tensor, last: Tensor, size: int) -> Band:
    """Move windows by the smallest distance that makes them a `Band`.

    Args:
        begin: (N, T) int64, any positions.
        encoder_lens: (N,) int64 frames.
        last: (N, 1) int64, where the window of an utterance's last frame begins.
        size: positions in a window.
    """
    frames = torch.arange(begin.shape[1], device=begin.device)
    begin = torch.where(frames < encoder_lens.unsqueeze(-1) - 1, begin, last)
    begin = _reverse_cumulative_min(begin)
    # In coordinates that fall by size - 1 per frame, "at most size - 1 up per frame" reads "never up":
    # raise what is too low to reach a later window, then start at 0.
    fall = (size - 1) * frames
    begin = -_reverse_cumulative_min(fall - begin) + fall
    return Band(begin=torch.minimum(begin, fall), size=size)


def _reverse_cumulative_min(x: Tensor) -> Tensor:
    """``y[t] = min(x[t:])`` along the last dimension."""
    return x.flip(-1).cummin(-1).values.flip(-1)
