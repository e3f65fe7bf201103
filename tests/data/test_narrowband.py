"""Telephone bandwidth on features against audio that was resampled."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from todm.data.narrowband import bandwidth_matrix, limit_bandwidth, narrow_band, unchanged_bins
from todm.data.spectrum import bin_centres
from todm.runtime.fbank import LOG_FLOOR, compute_fbank
from todm.runtime.resample import resample


def features_of_both(samples: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Features of audio resampled to 8 kHz and back, and those of the audio with its bandwidth limited."""
    narrow = resample(resample(samples, 16000, 8000), 8000, 16000)[: len(samples)]
    limited = limit_bandwidth(torch.from_numpy(compute_fbank(samples)))
    return torch.from_numpy(compute_fbank(narrow)), limited


def test_white_noise() -> None:
    samples = (0.1 * np.random.default_rng(0).standard_normal(80000)).astype(np.float32)
    real, limited = features_of_both(samples)
    difference = real - limited
    inside = torch.from_numpy(bin_centres() < 3000)
    assert float(difference[:, inside].abs().mean()) < 0.01
    # In every bin up to the highest, whose level has fallen by 15: the level within 0.3, a frame within 0.6.
    assert float(difference.mean(0).abs().max()) < 0.3
    assert float(difference.abs().mean(0).max()) < 0.6
    assert float(real.mean(0)[60] - real.mean(0)[-1]) > 10


def test_speech(digits: Path) -> None:
    paths = sorted(digits.glob("*/*/*/*.flac"))[::400][:10]
    pairs = [features_of_both(soundfile.read(str(path), dtype="float32")[0]) for path in paths]
    real, limited = (torch.cat(side) for side in zip(*pairs, strict=True))
    inside = torch.from_numpy(bin_centres() < 3000)
    assert float((real - limited)[:, inside].abs().mean()) < 0.01
    assert float((real - limited)[:, ~inside].abs().mean()) < 0.35


def test_low_bins_and_silence_stay_exactly() -> None:
    feats = torch.randn(5, 80, generator=torch.Generator().manual_seed(0)) * 2 - 5
    limited = limit_bandwidth(feats)
    same = torch.from_numpy(unchanged_bins())
    assert 45 < int(same.sum()) < 62
    assert torch.equal(limited[:, same], feats[:, same])
    assert float((feats - limited)[:, 72:].mean()) > 6
    silence = torch.full((3, 80), float(LOG_FLOOR))
    assert torch.equal(limit_bandwidth(silence), silence)
    assert bool((bandwidth_matrix() >= 0).all())


def test_a_share_of_the_utterances() -> None:
    feats = torch.randn(400, 3, 80, generator=torch.Generator().manual_seed(0)) * 2 - 5
    some = narrow_band(feats, 0.3, torch.Generator().manual_seed(1))
    changed = (some != feats).flatten(1).any(1)
    assert 0.2 < float(changed.float().mean()) < 0.4
    torch.testing.assert_close(some[changed], limit_bandwidth(feats[changed]))
    assert torch.equal(narrow_band(feats, 0.0, torch.Generator()), feats)
    with pytest.raises(AssertionError):
        torch.testing.assert_close(some, feats)
