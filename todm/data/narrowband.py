"""Telephone bandwidth on log-mel features: audio at 8 kHz, resampled to 16 kHz.

Resampling is linear, so it maps the power spectrum S(f) of 16 kHz audio to that of the result: with the
response G of the resampling filter (`todm.runtime.resample`), f below and 8000 - f above 4 kHz,

    out(f) = |G(f)|^2 (|G(f)|^2 S(f) + |G(8000 - f)|^2 S(8000 - f))       (aliases)
    out(8000 - f) = |G(8000 - f)|^2 (same bracket)                        (images)

S is interpolated between mel bins, which makes the map a matrix of bins by bins. Phases are ignored.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from todm.data.spectrum import FFT_SIZE, FloatArray, mel_filters
from todm.runtime.constants import SAMPLE_RATE
from todm.runtime.fbank import LOG_FLOOR, FbankSettings
from todm.runtime.resample import Resampler

NARROW_RATE = 8000


def narrow_band(feats: Tensor, prob: float, generator: torch.Generator) -> Tensor:
    """Limit some utterances to the bandwidth of 8 kHz audio.

    Args:
        feats: (N, T, C) log power.
        prob: share of the utterances.
        generator: draws the utterances.
    """
    draws = torch.rand(len(feats), generator=generator, device=generator.device)
    rows = (draws < prob).nonzero().flatten().to(feats.device)
    if len(rows) == 0:
        return feats
    return feats.index_copy(0, rows, limit_bandwidth(feats[rows]))


def limit_bandwidth(feats: Tensor) -> Tensor:
    """Compute the features that audio has after resampling to 8 kHz and back, from its features (..., C)."""
    matrix = torch.from_numpy(bandwidth_matrix()).to(feats.device, torch.float32)
    floor = math.exp(LOG_FLOOR)
    power = (feats.float().exp() - floor).clamp_(min=0.0)
    narrow = (power @ matrix.T).clamp_(min=floor).log_()
    # Passbands and digital silence stay exactly as they are.
    same = torch.from_numpy(unchanged_bins()).to(feats.device)
    return torch.where(same, feats, narrow.to(feats.dtype)).clamp_(min=LOG_FLOOR)


@lru_cache(maxsize=1)
def bandwidth_matrix() -> FloatArray:
    """Return the matrix (C, C) that maps mel powers to those of the resampled audio."""
    gain = filter_gain()
    filters, pre = mel_filters(), _preemphasis_gain()
    area = filters.sum(1)
    # Column b: the power density of a sound that is spread over mel bin b, before pre-emphasis.
    density = (filters / area[:, None] / pre).T  # (F, C)
    kept = gain[:, None] * density  # after the filter before decimation
    folded = kept + kept[::-1]  # what has passed, and its alias, for f below and above 4 kHz alike
    window = _window_leakage()
    out = window @ (pre[:, None] * gain[:, None] * folded)
    matrix: FloatArray = filters @ out
    # The interpolation smooths; dividing by what it does without a filter keeps the pass band's level.
    smooth = filters @ window @ (pre[:, None] * density)
    return np.ascontiguousarray(matrix / smooth.sum(1, keepdims=True))


@lru_cache(maxsize=1)
def unchanged_bins() -> npt.NDArray[np.bool_]:
    """Return which bins (C,) bool the filter passes with less than 0.2 dB of loss everywhere."""
    inside = mel_filters() > 0
    flat: npt.NDArray[np.bool_] = np.where(inside, filter_gain() ** 2, 1.0).min(1) > 10 ** (-0.02)
    return flat


@lru_cache(maxsize=1)
def filter_gain() -> FloatArray:
    """Return the power response |G|^2 (257,) of the resampling filter at the points of the transform."""
    resampler = Resampler(NARROW_RATE, SAMPLE_RATE)
    impulse = np.zeros(1024, np.float32)
    impulse[512] = 1.0
    taps = np.concatenate([resampler.push(impulse), resampler.flush()]).astype(np.float64)
    response = np.abs(np.fft.rfft(taps[: 4 * FFT_SIZE], 4 * FFT_SIZE))[::4] / 2.0
    gain: FloatArray = response**2
    return gain


def _window_leakage() -> FloatArray:
    """Matrix (257, 257) that smears a power density as the window of a frame does."""
    length = round(FbankSettings().frame_length_ms * SAMPLE_RATE / 1000)
    window = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / (length - 1))) ** 0.85  # Povey's
    kernel = np.abs(np.fft.fft(window, FFT_SIZE)) ** 2
    kernel /= kernel.sum()
    points = np.arange(FFT_SIZE // 2 + 1)
    leakage: FloatArray = kernel[(points[:, None] - points) % FFT_SIZE]
    folded = kernel[(points[:, None] + points) % FFT_SIZE]  # from negative frequencies
    folded[:, [0, -1]] = 0.0
    return leakage + folded


def _preemphasis_gain() -> FloatArray:
    angle = 2 * np.pi * np.arange(FFT_SIZE // 2 + 1) / FFT_SIZE
    gain: FloatArray = np.abs(1 - FbankSettings().preemph * np.exp(-1j * angle)) ** 2
    return gain
