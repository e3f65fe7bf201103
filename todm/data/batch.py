"""Batch of padded features and labels, the input of a training or decoding step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from todm.runtime.fbank import LOG_FLOOR


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Padded utterances with labels and transcripts.

    Args:
        feats: (N, T, 80) float32 log-mel energies; frames past an utterance's end hold `LOG_FLOOR`.
        feat_lens: (N,) int64 frames, 1 to T.
        labels: (N, U) int64 token ids, padded with 0.
        label_lens: (N,) int64 labels, 0 to U.
        texts: N transcripts, as in the corpus.
        ids: N utterance ids.
    """

    feats: Tensor
    feat_lens: Tensor
    labels: Tensor
    label_lens: Tensor
    texts: tuple[str, ...]
    ids: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.ids)

    def split(self, count: int) -> list[Batch]:
        """Split into at most `count` batches of consecutive utterances, each padded to its longest one."""
        if count == 1:
            return [self]
        size = -(-len(self) // count)
        return [self._rows(slice(start, start + size)) for start in range(0, len(self), size)]

    def _rows(self, rows: slice) -> Batch:
        feat_lens, label_lens = self.feat_lens[rows], self.label_lens[rows]
        return Batch(
            feats=self.feats[rows, : int(feat_lens.max())],
            feat_lens=feat_lens,
            labels=self.labels[rows, : int(label_lens.max())],
            label_lens=label_lens,
            texts=self.texts[rows],
            ids=self.ids[rows],
        )

    def pin_memory(self) -> Batch:
        """Copy to page-locked memory, so that transfers to a GPU are asynchronous."""
        return Batch(
            feats=self.feats.pin_memory(),
            feat_lens=self.feat_lens.pin_memory(),
            labels=self.labels.pin_memory(),
            label_lens=self.label_lens.pin_memory(),
            texts=self.texts,
            ids=self.ids,
        )

    def to(self, device: torch.device | str) -> Batch:
        """Move the tensors to `device`."""
        return Batch(
            feats=self.feats.to(device, non_blocking=True),
            feat_lens=self.feat_lens.to(device, non_blocking=True),
            labels=self.labels.to(device, non_blocking=True),
            label_lens=self.label_lens.to(device, non_blocking=True),
            texts=self.texts,
            ids=self.ids,
        )


def collate(
    feats: Sequence[np.ndarray],
    labels: Sequence[Sequence[int]],
    *,
    texts: Sequence[str],
    ids: Sequence[str],
) -> Batch:
    """Pad N utterances into a `Batch`.

    Args:
        feats: N arrays (T_n, 80), float, T_n at least 1.
        labels: N lists of token ids.
        texts: N transcripts.
        ids: N utterance ids.
    """
    assert len(feats) == len(labels) == len(texts) == len(ids) > 0
    feat_lens = torch.tensor([len(item) for item in feats])
    label_lens = torch.tensor([len(item) for item in labels])
    padded_feats = np.full((len(feats), int(feat_lens.max()), feats[0].shape[1]), LOG_FLOOR, dtype=np.float32)
    padded_labels = np.zeros((len(labels), int(label_lens.max())), dtype=np.int64)
    for row, (item, item_labels) in enumerate(zip(feats, labels, strict=True)):
        padded_feats[row, : len(item)] = item
        padded_labels[row, : len(item_labels)] = item_labels
    return Batch(
        feats=torch.from_numpy(padded_feats),
        feat_lens=feat_lens,
        labels=torch.from_numpy(padded_labels),
        label_lens=label_lens,
        texts=tuple(texts),
        ids=tuple(ids),
    )
