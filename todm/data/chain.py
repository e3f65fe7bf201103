"""Chains of utterances: a stream that carries its state from one utterance to the next."""

from __future__ import annotations

import torch
from torch import Tensor

from todm.data.batch import Batch
from todm.runtime.fbank import LOG_FLOOR


def join_chains(batch: Batch, most: int, pause_frames: int, generator: torch.Generator) -> Batch:
    """Join the utterances of a batch into chains of equal length, with pauses between them.

    The number of utterances of a chain is uniform in 2 to `most` for the whole batch, and all chains pause
    equally long after their first, second, ... utterance, so that chains of similar utterances need little
    padding. Half of the pauses are uniform in 0 to `pause_frames`, the others in 0 to a tenth of it.

    Args:
        batch: N utterances; not modified. Of M chains, chain r holds the utterances r, r + M, r + 2 M, ...
        most: utterances of a chain at most, 2 or more.
        pause_frames: frames of digital silence between two utterances at most.
        generator: draws the length of the chains and the pauses.

    Returns:
        M = ceil(N / length) chains; a batch of one utterance comes back as it is.
    """
    device = generator.device
    length = int(torch.randint(2, most + 1, (), generator=generator, device=device))
    num_chains = -(-len(batch) // length)
    draws = torch.rand(2, length, generator=generator, device=device)
    limit = torch.where(draws[0] < 0.5, pause_frames, pause_frames // 10)
    pauses = (draws[1] * (limit + 1)).long().minimum(limit).to(batch.feats.device)
    if num_chains == len(batch):
        return batch
    pauses = pauses.repeat_interleave(num_chains)[: len(batch)]  # before each utterance
    rows = [list(range(chain, len(batch), num_chains)) for chain in range(num_chains)]
    feats, feat_lens = _concatenate(batch.feats, batch.feat_lens, rows, pauses, float(LOG_FLOOR))
    labels, label_lens = _concatenate(batch.labels, batch.label_lens, rows, torch.zeros_like(pauses), 0)
    return Batch(
        feats=feats,
        feat_lens=feat_lens,
        labels=labels,
        label_lens=label_lens,
        texts=tuple(" ".join(text for row in chain if (text := batch.texts[row])) for chain in rows),
        ids=tuple("+".join(batch.ids[row] for row in chain) for chain in rows),
    )


def _concatenate(
    source: Tensor, lens: Tensor, chains: list[list[int]], gaps: Tensor, fill: float
) -> tuple[Tensor, Tensor]:
    """Concatenate rows of `source` (N, T, ...) with gaps between them; also the lengths (M,)."""
    sizes, spaces = lens.tolist(), gaps.tolist()
    totals = [sum(sizes[row] for row in chain) + sum(spaces[row] for row in chain[1:]) for chain in chains]
    joined = source.new_full((len(chains), max(totals), *source.shape[2:]), fill)
    for target, chain in zip(joined, chains, strict=True):
        at = 0
        for index, row in enumerate(chain):
            at += spaces[row] if index else 0
            target[at : at + sizes[row]] = source[row, : sizes[row]]
            at += sizes[row]
    return joined, torch.tensor(totals, device=lens.device)
