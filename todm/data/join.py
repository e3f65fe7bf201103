"""Joining of utterances in pairs, as training data for continuous streams."""

from __future__ import annotations

import torch
from torch import Tensor

from todm.data.batch import Batch
from todm.runtime.fbank import LOG_FLOOR


def join_pairs(batch: Batch, pause_frames: int, generator: torch.Generator) -> Batch:
    """Append the second half of a batch to its first half, each utterance after a pause of digital silence.

    Args:
        batch: N utterances; not modified. With odd N one utterance has no partner and is kept as it is.
        pause_frames: longest pause in frames; uniform from 0.
        generator: generator of the pauses.

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
    """Append rows of `tail` (M, T, ...), after gaps, to the first M of `head` (N, T, ...); adapt lengths."""
    lens = head_lens.clone()
    starts = (head_lens + gaps)[: len(tail)]
    lens[: len(tail)] = starts + tail_lens
    joined = head.new_full((len(head), int(lens.max()), *head.shape[2:]), fill)
    joined[:, : head.shape[1]] = head[:, : joined.shape[1]]
    for row, (start, length) in enumerate(zip(starts.tolist(), tail_lens.tolist(), strict=True)):
        joined[row, start : start + length] = tail[row, :length]
    return joined, lens
