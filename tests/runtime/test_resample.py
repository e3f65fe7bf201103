from __future__ import annotations

import numpy as np
import pytest

from todm.runtime.fbank import compute_fbank
from todm.runtime.resample import Resampler, resample


def tone(frequency: float, rate: int, length: int) -> np.ndarray:
    return np.sin(2 * np.pi * frequency * np.arange(length) / rate)


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 32000, 44100, 48000, 96000, 16001])
def test_tones_well_below_both_nyquists_pass_unchanged(rate: int) -> None:
    frequency = 0.3 * min(rate, 16000)
    out = resample(tone(frequency, rate, rate), rate, 16000)
    assert len(out) == 16000
    inner = slice(500, -500)  # the signal starts and ends abruptly
    assert np.abs(out - tone(frequency, 16000, 16000))[inner].max() < 5e-3


@pytest.mark.parametrize(("rate", "frequency"), [(44100, 10000), (48000, 12000), (96000, 30000)])
def test_tones_above_nyquist_do_not_come_back_as_aliases(rate: int, frequency: float) -> None:
    out = resample(tone(frequency, rate, rate), rate, 16000)
    assert np.abs(out[500:-500]).max() < 6e-3  # -44 dB: the filter is short, as that of the training


@pytest.mark.parametrize("rate", [8000, 44100, 48000])
def test_a_constant_stays_constant(rate: int) -> None:
    out = resample(np.full(rate, 0.5), rate, 16000)
    assert np.abs(out[500:-500] - 0.5).max() < 5e-4


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 32000, 44100, 48000])
def test_the_filter_is_that_of_torchaudio(rate: int) -> None:
    torch = pytest.importorskip("torch")
    torchaudio = pytest.importorskip("torchaudio")
    samples = np.random.default_rng(rate).uniform(-1, 1, rate // 2 + 7).astype(np.float32)
    wanted = torchaudio.functional.resample(torch.from_numpy(samples), rate, 16000).numpy()
    out = resample(samples, rate, 16000)
    assert out.shape == wanted.shape
    # Rates without a large common divisor: torchaudio computes their filter in float32.
    assert np.abs(out - wanted).max() < (2e-4 if rate % 1000 else 2e-6)
    pytest.importorskip("kaldi_native_fbank")
    assert np.abs(compute_fbank(out) - compute_fbank(wanted)).max() < 0.02


@pytest.mark.parametrize("rate", [8000, 44100, 47999, 192000])
def test_pieces_of_any_size_give_the_same_signal(rate: int) -> None:
    rng = np.random.default_rng(rate)
    samples = rng.standard_normal(rate // 3).astype(np.float32)
    whole = resample(samples, rate, 16000)
    resampler = Resampler(rate, 16000)
    pieces, at = [], 0
    while at < len(samples):
        size = int(rng.integers(0, 3000))
        pieces.append(resampler.push(samples[at : at + size]))
        at += size
    pieces.append(resampler.flush())
    joined = np.concatenate(pieces)
    assert joined.shape == whole.shape == (-(-len(samples) * 16000 // rate),)
    assert np.abs(joined - whole).max() < 1e-5


def test_a_long_stream_takes_no_more_memory_than_a_short_one() -> None:
    resampler = Resampler(48000, 16000)
    for _ in range(100):
        resampler.push(np.zeros(4800))
    assert len(resampler._buffer) < 4800


@pytest.mark.parametrize("length", [0, 1, 2, 5])
def test_very_short_signals(length: int) -> None:
    assert len(resample(np.ones(length), 44100, 16000)) == -(-length * 16000 // 44100)
    assert len(resample(np.ones(length), 8000, 16000)) == 2 * length
