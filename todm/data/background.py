"""Sound without words in place of some utterances: silence, noise, hum, clicks, tones, recordings."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from todm.data.batch import Batch
from todm.data.recorded import SoundArchive
from todm.runtime.fbank import LOG_FLOOR

_DB = math.log(10) / 10
_KINDS = ("silence", "noise", "noise", "hum", "clicks", "tones")
_KINDS_WITH_RECORDINGS = (*_KINDS, *("recording",) * 6)

_LEVELS = (-16.0, 4.0)
"""Nepers of a bin's power: the floor to loud."""
_TILTS = (-6.0, 11.0)
"""Nepers from the lowest to the highest bin. White noise has 10.8, pink 5.7, brown 0.5."""


def replace_by_background(
    batch: Batch, prob: float, generator: torch.Generator, noise: SoundArchive | None = None
) -> Batch:
    """Replace some utterances by sound of the same length without words, and their labels by none.

    Kinds, drawn uniformly: digital silence, stationary noise of a random colour (twice as often), mains hum,
    clicks, and tones that change like music. If there is recorded noise, half of the sounds are excerpts of
    it. Levels are uniform from far below to about full scale.

    Args:
        batch: not changed.
        prob: share of the utterances.
        generator: draws who is replaced, kinds, levels and the sound.
        noise: recordings of noise and music.
    """
    device = generator.device
    names = _KINDS if noise is None else _KINDS_WITH_RECORDINGS
    chosen = torch.rand(len(batch), generator=generator, device=device) < prob
    kinds = torch.randint(len(names), (len(batch),), generator=generator, device=device)
    rows = chosen.nonzero().flatten().tolist()
    if not rows:
        return batch
    feats, labels, label_lens = batch.feats.clone(), batch.labels.clone(), batch.label_lens.clone()
    texts = list(batch.texts)
    lens = batch.feat_lens.tolist()
    for row in rows:
        kind = names[int(kinds[row])]
        if kind == "recording" and noise is not None:
            sound = _take_excerpt(noise, lens[row], generator)
        else:
            sound = _make(kind, lens[row], feats.shape[2], generator)
        feats[row, : lens[row]] = sound.to(feats.device, feats.dtype)
        labels[row], label_lens[row], texts[row] = 0, 0, ""
    longest = max(1, int(label_lens.max()))
    return replace(batch, feats=feats, labels=labels[:, :longest], label_lens=label_lens, texts=tuple(texts))


def _take_excerpt(noise: SoundArchive, num_frames: int, generator: torch.Generator) -> Tensor:
    """Log-mel features (T, C) of a part of a recording, at a random level."""
    choice, start, level = torch.rand(3, generator=generator, device=generator.device).tolist()
    sound = noise.read_excerpt(choice, start, num_frames)
    mean = max(float(sound.exp().mean()), math.exp(LOG_FLOOR))
    shift = _LEVELS[0] + (_LEVELS[1] - _LEVELS[0]) * level - math.log(mean)
    sounding = (sound > LOG_FLOOR + 1e-3).to(sound.dtype)  # digital silence stays
    return LOG_FLOOR + (sound + shift - LOG_FLOOR).clamp(min=0.0) * sounding


def _make(kind: str, num_frames: int, num_bins: int, generator: torch.Generator) -> Tensor:
    """Log-mel features (T, C) of one sound."""
    if kind == "silence":
        return torch.full((num_frames, num_bins), float(LOG_FLOOR))
    device = generator.device

    def uniform(low: float, high: float, *size: int) -> Tensor:
        return low + (high - low) * torch.rand(size, generator=generator, device=device)

    axis = torch.linspace(0, 1, num_bins, device=device)
    scatter = torch.empty(num_frames, num_bins, device=device).normal_(generator=generator)
    level = uniform(*_LEVELS)
    colour = uniform(*_TILTS) * (axis - 0.5) + uniform(0, 2.0) * torch.cos(
        math.pi * uniform(1, 5) * axis + uniform(0, 6.3)
    )
    noise = level + colour + _scatter_log_power(scatter, axis)
    if kind == "noise":
        sound = noise
    elif kind == "hum":
        num_low = int(uniform(4, 20))
        fall = uniform(0.1, 0.6) * torch.arange(num_bins, device=device)
        comb = 2.0 * torch.cos(uniform(0.8, 3.1) * torch.arange(num_bins, device=device))
        sound = torch.where(axis * num_bins < num_low, level + 4.0 - fall + comb, level - 8.0 - fall)
        sound = sound + 0.1 * scatter
    elif kind == "clicks":
        times = torch.rand(num_frames, 1, generator=generator, device=device) < float(uniform(0.005, 0.1))
        sound = torch.where(times, level + 2.0 + colour + 0.3 * scatter, noise - 6.0)
    else:
        length = int(uniform(5, 60))
        num_notes = -(-num_frames // length)
        bins = torch.randint(2, num_bins - 12, (num_notes, 3), generator=generator, device=device)
        peaks = torch.full((num_notes, num_bins), -8.0, device=device)
        for shift, drop in ((0, 0.0), (1, 1.0), (6, 1.0), (11, 2.0)):
            peaks.scatter_(1, (bins + shift).clamp(max=num_bins - 1), 2.0 - drop)
        decay = float(uniform(0.0, 0.05)) * (torch.arange(num_frames, device=device) % length)
        sound = level + peaks.repeat_interleave(length, 0)[:num_frames] - decay[:, None] + 0.2 * scatter
    return sound.clamp(min=float(LOG_FLOOR)).cpu()


def _scatter_log_power(normal: Tensor, axis: Tensor) -> Tensor:
    """Log power of white noise around its mean, as the features of such noise scatter.

    A bin's power follows a gamma distribution, computed from a normal variable by Wilson & Hilferty's cube
    (1931). Its shape, 1.3 in the lowest to 5.8 in the highest bin, and the correlation of 0.2 between
    neighbouring frames were fitted to the features of 20 s of white noise.

    Args:
        normal: standard normal variables, (T, C).
        axis: position of each bin, 0 to 1, (C,).
    """
    shape = 1.3 * torch.exp(1.5 * axis)
    smooth = (normal + 0.1 * (normal.roll(1, 0) + normal.roll(-1, 0))) / math.sqrt(1.0 + 2 * 0.1**2)
    cube_root = 1.0 - 1.0 / (9.0 * shape) + smooth / (3.0 * shape.sqrt())
    return 3.0 * cube_root.clamp(min=0.2).log()
