"""Utterances of a batch joined in pairs: what a stream that goes on looks like."""

from __future__ import annotations

import torch
from torch import Tensor

from todm.data.batch import Batch
from todm.runtime.fbank import LOG_FLOOR


def join_pairs(batch: Batch, pause_frames: int, generator: torch.Generator) -> Batch:
    """The second half of the utterances behind the first, each after a pause of digital silence.

    Args:
        batch: N utterances; not changed. One that is left without a partner stays alone.
        pause_frames: frames of silence between two at most, uniform from 0.
        generator: draws the pauses.

    Returns:
        ceil(N / 2) utterances.
    """
    half = (len(batch) + 1) // 2
    if half == len(batch):
        return batch
    draws = torch.rand(half, device=generator.device, generator=generator).to(batch.feats.device)
    pauses = (draws * (pause_frames + 1)).long().clamp(max=pause_frames)
    first, second = slice(0, half), slice(half, None)
    pairs = range(len(batch) - half)
    texts, ids = list(batch.texts[first]), list(batch.ids[first])
    for row in pairs:
        texts[row] += f" {batch.texts[half + row]}"
        ids[row] += f"+{batch.ids[half + row]}"
    feats, feat_lens = _append(
        batch.feats[first], batch.feat_lens[first], pauses, batch.feats[second], batch.feat_lens[second],
        float(LOG_FLOOR),
    )  # fmt: skip
    labels, label_lens = _append(
        batch.labels[first], batch.label_lens[first], torch.zeros_like(pauses), batch.labels[second],
        batch.label_lens[second], 0,
    )  # fmt: skip
    return Batch(
        feats=feats,
        feat_lens=feat_lens,
        labels=labels,
        label_lens=label_lens,
        texts=tuple(texts),
        ids=tuple(ids),
    )


def _append(
    head: Tensor, head_lens: Tensor, gaps: Tensor, tail: Tensor, tail_lens: Tensor, fill: float
) -> tuple[Tensor, Tensor]:
    """Rows of `tail` (M, T, ...) behind the first M of `head` (N, T, ...), gaps between; and the lengths."""
    lens = head_lens.clone()
    starts = (head_lens + gaps)[: len(tail)]
    lens[: len(tail)] = starts + tail_lens
    joined = head.new_full((len(head), int(lens.max()), *head.shape[2:]), fill)
    joined[:, : head.shape[1]] = head[:, : joined.shape[1]]
    for row, (start, length) in enumerate(zip(starts.tolist(), tail_lens.tolist(), strict=True)):
        joined[row, start : start + length] = tail[row, :length]
    return joined, lens
