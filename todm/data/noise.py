"""Synthetic noise and mains hum on log-mel features."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from todm.data.spectrum import MAINS_HERTZ, NUM_HARMONICS, coloured_spectra, hum_spectra

_DB = math.log(10) / 10
"""Nepers of power per decibel."""


def add_noise(
    feats: Tensor,
    valid: Tensor,
    prob: float,
    snr_db: tuple[float, float],
    generator: torch.Generator,
    colour_prob: float = 0.0,
) -> Tensor:
    """Add the power of stationary noise of a random spectrum to some utterances.

    The spectrum is a random tilt with slow ripples over the mel axis, near that of brown noise, or, for a
    share of the noises, one between white and brown. The energies of the frames vary as those of Gaussian
    noise, more in narrow filters.

    Args:
        feats: (N, T, C).
        valid: (N, T) bool, false in the padding.
        prob: probability of noise, per utterance.
        snr_db: range of the signal-to-noise ratio, decibels of mean powers summed over bins; uniform.
        generator: see `todm.data.augment.augment`.
        colour_prob: share of the noises whose power falls by 0 to 6 dB per octave.
    """
    num_utterances, num_frames, num_bins = feats.shape
    # Drawn for every utterance, so that no later number depends on which ones get noise.
    chosen = draw_uniform(feats, num_utterances, generator) < 2 * prob - 1
    snr = draw_uniform(feats, num_utterances, generator) / 2 + 0.5
    shape = draw_uniform(feats, (num_utterances, 7), generator)
    tints = draw_uniform(feats, (2, num_utterances), generator) / 2 + 0.5 if colour_prob > 0 else None
    rows = chosen.nonzero().flatten()
    if len(rows) == 0:
        return feats
    axis = torch.linspace(0, 1, num_bins, device=feats.device)
    waves = [axis - 0.5]
    for order in (1, 2, 3):
        waves += [
            torch.cos(2 * math.pi * order * axis) / order,
            torch.sin(2 * math.pi * order * axis) / order,
        ]
    scale = torch.tensor([3.0] + [1.0] * 6, device=feats.device)  # tilt up to 13 dB from end to end, ripples
    colour = (shape[rows] * scale) @ torch.stack(waves)  # (R, C) nepers
    if tints is not None:
        tinted = torch.from_numpy(coloured_spectra(2 * tints[1, rows].cpu().numpy())).to(colour)
        colour = torch.where((tints[0, rows] < colour_prob)[:, None], tinted, colour)
    # A mel filter of width b averages about b * 25 ms independent Gaussian pairs, which reduces the variance.
    width = 55.0 * torch.exp(3.3 * axis)  # Hz, about 55 to 1500
    spread = (width * 0.025).clamp(min=1.0).rsqrt()
    scatter = torch.empty(len(rows), num_frames, num_bins, device=generator.device).normal_(
        generator=generator
    )
    clean = feats[rows]
    speech_power = _mean_power(clean, valid[rows])
    ratio = (snr_db[0] + (snr_db[1] - snr_db[0]) * snr[rows]) * _DB
    level = speech_power.log() - colour.logsumexp(1) - ratio  # (R,)
    noise = scatter.to(feats.device).mul_(spread).add_((colour + level[:, None])[:, None])
    return feats.index_copy(0, rows, torch.logaddexp(clean, noise))


def add_hum(
    feats: Tensor, valid: Tensor, prob: float, snr_db: tuple[float, float], generator: torch.Generator
) -> Tensor:
    """Add mains hum to some utterances: harmonics of 50 or 60 Hz with random strengths.

    Args:
        feats: (N, T, C).
        valid: (N, T) bool, false in the padding.
        prob: share of utterances that get hum.
        snr_db: range of the signal-to-noise ratio, decibels of mean powers summed over bins; uniform.
        generator: see `todm.data.augment.augment`.
    """
    num_utterances, device = len(feats), generator.device
    draws = torch.rand(4, num_utterances, generator=generator, device=device).to(feats.device)
    jitter = torch.empty(num_utterances, NUM_HARMONICS, device=device).normal_(generator=generator)
    rows = (draws[0] < prob).nonzero().flatten()
    if len(rows) == 0:
        return feats
    spectra = torch.from_numpy(hum_spectra()).to(feats.device, feats.dtype)
    mains = (draws[1, rows] * len(MAINS_HERTZ)).long()
    order = torch.arange(NUM_HARMONICS, device=feats.device)
    strength = (jitter.to(feats.device)[rows] - draws[2, rows, None] * order).exp()  # falls by 0 to 4 dB each
    hum = torch.einsum("rh,rhc->rc", strength, spectra[mains]).log()
    clean = feats[rows]
    ratio = (snr_db[0] + (snr_db[1] - snr_db[0]) * draws[3, rows]) * _DB
    level = _mean_power(clean, valid[rows]).log() - hum.logsumexp(1) - ratio  # (R,)
    return feats.index_copy(0, rows, torch.logaddexp(clean, (hum + level[:, None])[:, None]))


def _mean_power(feats: Tensor, valid: Tensor) -> Tensor:
    """Compute powers (R,) summed over bins, means of the valid frames, of log powers (R, T, C)."""
    weight = valid.to(feats.dtype)
    return (feats.exp().sum(2) * weight).sum(1) / weight.sum(1)


def draw_uniform(like: Tensor, shape: int | tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Draw uniform float32 in [-1, 1] on the generator's device and move them to the device of ``like``."""
    size = (shape,) if isinstance(shape, int) else shape
    return torch.empty(size, device=generator.device).uniform_(-1, 1, generator=generator).to(like.device)
