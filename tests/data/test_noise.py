"""Synthetic noise from white to brown, and hum, against noise and hum that were made as audio."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from tests.nets import make_batch
from todm.data.background import replace_by_background
from todm.data.noise import add_hum, add_noise
from todm.data.spectrum import bin_centres, coloured_spectra, hum_spectra, mel_filters
from todm.runtime.fbank import compute_fbank


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make_coloured(exponent: float) -> np.ndarray:
    """Twenty seconds of noise whose power falls as frequency to the power of -`exponent`."""
    white = np.random.default_rng(1).standard_normal(20 * 16000)
    hertz = np.fft.rfftfreq(len(white), 1 / 16000).clip(20)
    samples = np.fft.irfft(np.fft.rfft(white) * hertz ** (-exponent / 2))
    return (0.1 * samples / samples.std()).astype(np.float32)


@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0])
def test_spectra_are_those_of_coloured_noise(exponent: float) -> None:
    measured = np.log(np.exp(compute_fbank(make_coloured(exponent))).mean(0))
    difference = measured - coloured_spectra([exponent])[0]
    difference -= difference.mean()
    assert np.abs(difference[5:]).max() < 0.35
    assert np.abs(difference).max() < 1.6  # window and offset removal at the lowest frequencies


def test_mel_filters_are_those_of_the_features() -> None:
    tone = np.sin(2 * math.pi * 2000 * np.arange(8000) / 16000)
    assert compute_fbank(tone).mean(0).argmax() == mel_filters()[:, 64].argmax()
    assert np.abs(bin_centres() - 2000).argmin() == mel_filters()[:, 64].argmax()


def test_a_share_of_the_noises_is_white_to_brown() -> None:
    feats = torch.full((300, 40, 80), -20.0)
    valid = torch.ones(300, 40, dtype=torch.bool)
    noisy = add_noise(feats, valid, 1.0, (-60.0, -60.0), generator(), 1.0)
    mean = noisy.mean(1)
    ends = mean[:, 70:].mean(1) - mean[:, 5:15].mean(1)
    assert float(ends.max()) > 7.0 and float(ends.min()) < 1.6  # white has 8, brown 1.3
    assert 2.5 < float(ends.median()) < 5.5
    before = add_noise(feats, valid, 1.0, (-60.0, -60.0), generator())
    assert float((before.mean(1)[:, 70:].mean(1) - before.mean(1)[:, 5:15].mean(1)).max()) < 5.0


@pytest.mark.parametrize("snr", [0.0, 20.0])
def test_hum_is_low_and_has_the_ratio_that_was_drawn(snr: float) -> None:
    batch = make_batch([60, 50, 40, 60], [1, 1, 1, 1])
    valid = torch.arange(60) < batch.feat_lens[:, None]
    mixed = add_hum(batch.feats, valid, 1.0, (snr, snr), generator())
    added = (mixed.double().exp() - batch.feats.double().exp()).clamp(min=0.0)
    for row, length in enumerate(batch.feat_lens.tolist()):
        clean = batch.feats[row, :length].double().exp().sum()
        assert 10 * math.log10(float(clean / added[row, :length].sum())) == pytest.approx(snr, abs=0.1)
        assert float(added[row, :, 40:].sum()) < 0.01 * float(added[row].sum())
    assert torch.equal(add_hum(batch.feats, valid, 0.0, (snr, snr), generator()), batch.feats)


def test_hum_spectrum_is_that_of_a_sum_of_harmonics() -> None:
    time = np.arange(16000) / 16000
    strengths = np.exp(-0.3 * np.arange(12))
    phases = np.random.default_rng(0).uniform(0, 6.28, 12)
    samples = sum(
        math.sqrt(strength) * np.sin(2 * math.pi * 50 * (order + 1) * time + phase)
        for order, (strength, phase) in enumerate(zip(strengths, phases, strict=True))
    )
    measured = np.exp(compute_fbank(0.1 * np.asarray(samples))[10:-10].astype(np.float64)).mean(0)
    powers = 0.01 * (strengths[:, None] * hum_spectra()[0]).sum(0)
    assert np.abs(np.log(measured) - np.log(powers))[:25].mean() < 0.3


def test_wordless_noise_reaches_from_brown_to_white() -> None:
    batch = make_batch([50] * 300, [1] * 300)
    feats = replace_by_background(batch, 1.0, generator()).feats[:, :50]
    mean = feats.mean(1)
    steady = (feats.std(1).mean(1) < 0.9) & (mean.amin(1) > -14)  # white noise scatters by 0.75
    ends = (mean[:, 70:].mean(1) - mean[:, 5:15].mean(1))[steady]
    assert float(ends.max()) > 8.0 and float(ends.min()) < 0.0
