"""Rooms and other voices, on log-mel features: reverberation and babble from the batch itself.

Both work on powers, which add where sounds are not correlated.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from todm.runtime.constants import FRAMES_PER_SECOND
from todm.runtime.fbank import LOG_FLOOR

_DB = math.log(10) / 10
_REVERB_FRAMES = 50  # half a second
_NUM_VOICES = 3


def reverberate(feats: Tensor, valid: Tensor, prob: float, generator: torch.Generator) -> Tensor:
    """Add the decaying tail of a room to some utterances.

    The power of each bin is convolved with an exponential decay. Reverberation times are uniform in 0.15 to
    0.8 s, ratios of direct to reverberant power in 0 to 18 dB.

    Args:
        feats: (N, T, C) log power.
        valid: (N, T) bool, false in the padding.
        prob: share of utterances that are reverberated.
        generator: draws the utterances and their rooms.
    """
    draws = torch.rand(3, len(feats), generator=generator, device=generator.device).to(feats.device)
    rows = (draws[0] < prob).nonzero().flatten()
    if len(rows) == 0:
        return feats
    seconds = 0.15 + 0.65 * draws[1, rows]
    ratio = (18.0 * draws[2, rows] * -_DB).exp()
    delay = torch.arange(1, _REVERB_FRAMES + 1, device=feats.device)
    decay = (-6.0 * math.log(10) / FRAMES_PER_SECOND * delay / seconds[:, None]).exp()  # (R, K)
    decay = decay / decay.sum(1, keepdim=True) * ratio[:, None]
    taps = torch.cat((decay.flip(1), torch.zeros_like(decay[:, :1])), dim=1)
    # Digital silence has no power to reverberate.
    power = (feats[rows].exp() - math.exp(LOG_FLOOR)).clamp(min=0.0) * valid[rows, :, None]
    padded = torch.nn.functional.pad(power.permute(2, 0, 1), (_REVERB_FRAMES, 0))  # (C, R, K + T)
    tail = torch.nn.functional.conv1d(padded, taps[:, None], groups=len(rows)).permute(1, 2, 0)
    return feats.index_copy(0, rows, torch.logaddexp(feats[rows], tail.clamp(min=1e-12).log()))


def mix_babble(
    feats: Tensor, lens: Tensor, prob: float, snr_db: tuple[float, float], generator: torch.Generator
) -> Tensor:
    """Mix several other utterances of the batch, repeated, into some utterances.

    Args:
        feats: (N, T, C) log power; at least two utterances, otherwise nothing is mixed.
        lens: (N,) frames.
        prob: share of utterances that get babble.
        snr_db: range of the ratio of mean powers in decibels.
        generator: draws the utterances, voices and ratios.
    """
    num_utterances, num_frames, _ = feats.shape
    device = generator.device
    draws = torch.rand(2, num_utterances, generator=generator, device=device).to(feats.device)
    shifts = torch.randint(1, max(2, num_utterances), (_NUM_VOICES,), generator=generator, device=device)
    starts = torch.rand(_NUM_VOICES, num_utterances, generator=generator, device=device).to(feats.device)
    rows = (draws[0] < prob).nonzero().flatten()
    if len(rows) == 0 or num_utterances < 2:
        return feats
    frames = torch.arange(num_frames, device=feats.device)
    clean = feats[rows].exp()
    noise = torch.zeros_like(clean)
    for shift, start in zip(shifts.tolist(), starts, strict=True):
        other = (rows + shift) % num_utterances
        place = (frames + (start[rows] * lens[other])[:, None].long()) % lens[other][:, None]
        noise += feats[other[:, None], place].exp()
    inside = (frames < lens[rows][:, None])[:, :, None]
    ratio = (snr_db[0] + (snr_db[1] - snr_db[0]) * draws[1, rows]) * _DB
    scale = ((clean * inside).sum((1, 2)) / (noise * inside).sum((1, 2)).clamp(min=1e-12)) / ratio.exp()
    return feats.index_copy(0, rows, (clean + scale[:, None, None] * noise * inside).log())
