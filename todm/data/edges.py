"""Utterances cut at the edge of their speech, as a voice activity detector cuts them."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from todm.data.batch import Batch
from todm.runtime.fbank import LOG_FLOOR

_NEAR, _FAR = 5.5, 9.2
"""Nepers of power, 24 and 40 dB, below the loudest frame at which speech is taken to end."""


def cut_edges(batch: Batch, prob: float, generator: torch.Generator) -> Batch:
    """Cut some utterances at random between the edges of their speech and their own edges.

    Speech reaches from the first to the last frame whose power is less than a drawn amount below the
    loudest frame's. Half of the cuts take all that is outside of it, the others a uniform share.

    Args:
        batch: not changed. Wordless utterances stay as they are.
        prob: share of beginnings, and of ends, that are cut.
        generator: draws who is cut and where.
    """
    feats, lens = batch.feats, batch.feat_lens
    num_frames = feats.shape[1]
    draws = torch.rand(5, len(batch), generator=generator, device=generator.device).to(feats.device)
    frames = torch.arange(num_frames, device=feats.device)
    inside = frames < lens[:, None]
    power = feats.logsumexp(2).masked_fill(~inside, -1e9)  # (N, T)
    threshold = power.amax(1) - (_NEAR + (_FAR - _NEAR) * draws[0])
    speech = power > threshold[:, None]
    first = speech.to(torch.uint8).argmax(1)
    last = num_frames - 1 - speech.flip(1).to(torch.uint8).argmax(1)
    share = torch.where(draws[1] < 0.5, torch.ones_like(draws[1]), draws[2])
    words = batch.label_lens > 0
    begin = (first * share * ((draws[3] < prob) & words)).long()
    end = lens - ((lens - 1 - last) * share * ((draws[4] < prob) & words)).long()
    return _keep(batch, begin, end)


def _keep(batch: Batch, begin: Tensor, end: Tensor) -> Batch:
    """Frames `begin` to before `end`, (N,) each, of every utterance."""
    lens = end - begin
    frames = torch.arange(int(lens.max()), device=lens.device)
    source = (begin[:, None] + frames).clamp(max=batch.feats.shape[1] - 1)
    moved = batch.feats.gather(1, source[:, :, None].expand(-1, -1, batch.feats.shape[2]))
    outside = (frames >= lens[:, None])[:, :, None]
    return replace(batch, feats=moved.masked_fill(outside, LOG_FLOOR), feat_lens=lens)
