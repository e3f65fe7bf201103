"""Spectra of simple sounds in log-mel features, and the mel filters in numpy."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from todm.runtime.constants import SAMPLE_RATE
from todm.runtime.fbank import FbankSettings, compute_fbank

FFT_SIZE = 512
"""Points of the filter bank's Fourier transform: the power of two above its window of 400 samples."""

MAINS_HERTZ = (50.0, 60.0)
NUM_HARMONICS = 12

FloatArray = npt.NDArray[np.float64]


def _to_mel(hertz: npt.ArrayLike) -> FloatArray:
    mel: FloatArray = 1127.0 * np.log1p(np.asarray(hertz, dtype=np.float64) / 700.0)
    return mel


@lru_cache(maxsize=1)
def bin_centres() -> FloatArray:
    """Return the centres of the mel bins, (80,), hertz."""
    centres: FloatArray = 700.0 * np.expm1(_bin_edges()[1:-1] / 1127.0)
    return centres


@lru_cache(maxsize=1)
def mel_filters() -> FloatArray:
    """Return the weights (80, 257) of the mel filters over the points of the Fourier transform."""
    edges = _bin_edges()
    mel = _to_mel(np.arange(FFT_SIZE // 2 + 1) * SAMPLE_RATE / FFT_SIZE)
    rising = (mel - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - mel) / (edges[2:] - edges[1:-1])[:, None]
    weights: FloatArray = np.clip(np.minimum(rising, falling), 0.0, None)
    return weights


@lru_cache(maxsize=1)
def white_spectrum() -> FloatArray:
    """Return the log power (80,) of white noise, measured on ten seconds of it, with mean 0."""
    samples = 0.1 * np.random.default_rng(0).standard_normal(10 * SAMPLE_RATE)
    log_power = np.log(np.exp(compute_fbank(samples).astype(np.float64)).mean(0))
    spectrum: FloatArray = log_power - log_power.mean()
    return spectrum


def coloured_spectra(exponents: npt.ArrayLike) -> FloatArray:
    """Compute log powers (N, 80) of noise whose power falls as frequency to the power of -`exponent`.

    Args:
        exponents: (N,); 0 is white, 1 pink, 2 brown noise.
    """
    spectra = np.asarray(exponents, dtype=np.float64)[:, None] * -np.log(bin_centres() / 1000.0)
    coloured: FloatArray = white_spectrum() + spectra
    return coloured


@lru_cache(maxsize=1)
def hum_spectra() -> FloatArray:
    """Return mean powers (2, 12, 80) of the harmonics of 50 and 60 Hz, sinusoids of amplitude 1, measured."""
    time = np.arange(SAMPLE_RATE // 2) / SAMPLE_RATE
    spectra = np.empty((len(MAINS_HERTZ), NUM_HARMONICS, FbankSettings().num_mel_bins))
    for row, mains in enumerate(MAINS_HERTZ):
        for index in range(NUM_HARMONICS):
            tone = np.sin(2 * math.pi * mains * (index + 1) * time)
            spectra[row, index] = np.exp(compute_fbank(tone)[5:-5].astype(np.float64)).mean(0)
    return spectra


def _bin_edges() -> FloatArray:
    """Edges and centres of the mel bins, (82,), in mel."""
    settings = FbankSettings()
    high = settings.high_freq if settings.high_freq > 0 else SAMPLE_RATE / 2 + settings.high_freq
    edges: FloatArray = np.linspace(
        float(_to_mel(settings.low_freq)), float(_to_mel(high)), settings.num_mel_bins + 2
    )
    return edges
