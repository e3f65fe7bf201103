"""Sound without words in place of some utterances: silence, noise, hum, clicks, tones, recordings.

Synthetic sounds are made as audio and go through the filter bank of the features, so that they scatter as
real ones.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from lhotse import Fbank
from torch import Tensor

from todm.data.batch import Batch
from todm.data.features import compute_features, make_extractor
from todm.data.recorded import SoundArchive
from todm.runtime.constants import SAMPLE_RATE
from todm.runtime.fbank import DEFAULT_FBANK, LOG_FLOOR

Samples = npt.NDArray[np.float64]
Sound = Callable[[int, np.random.Generator], Samples]
"""Number of samples at 16 kHz and random numbers to samples (S,), at any level."""

_RECORDED_LEVELS = (-16.0, 4.0)
"""Nepers of a bin's power in recordings: the floor to loud."""
_LEVELS_DB = (-75.0, -3.0)
"""Root mean square of a synthetic sound in decibels below full scale."""
_SLOPES = (-1.0, 2.5)
"""Power of noise falls with this power of the frequency: 0 is white, 1 pink, 2 brown, -1 blue."""


def replace_by_background(
    batch: Batch, prob: float, generator: torch.Generator, noise: SoundArchive | None = None
) -> Batch:
    """Replace some utterances by sound of the same length without words, and their labels by none.

    Kinds, drawn uniformly: digital silence, noise of a random colour (three times as often), mains hum,
    clicks, and tones that change like music. If there is recorded noise, half of the sounds are excerpts of
    it. Levels are uniform in decibels, from far below speech to full scale.

    Args:
        batch: not changed.
        prob: share of the utterances.
        generator: draws who is replaced, kinds, levels and the sound.
        noise: recordings of noise and music.
    """
    device = generator.device
    num_kinds = len(_SOUNDS) if noise is None else 2 * len(_SOUNDS)
    chosen = torch.rand(len(batch), generator=generator, device=device) < prob
    drawn = torch.randint(num_kinds, (len(batch),), generator=generator, device=device)
    seeds = torch.randint(2**62, (len(batch),), generator=generator, device=device)
    rows = chosen.nonzero().flatten().tolist()
    if not rows:
        return batch
    feats, labels, label_lens = batch.feats.clone(), batch.labels.clone(), batch.label_lens.clone()
    texts = list(batch.texts)
    lens = batch.feat_lens.tolist()
    for row in rows:
        kind = int(drawn[row])
        if noise is not None and kind >= len(_SOUNDS):
            sound = _take_excerpt(noise, lens[row], generator)
        else:
            sound = make_sound(_SOUNDS[kind], lens[row], np.random.default_rng(int(seeds[row])))
        feats[row, : lens[row]] = sound.to(feats.device, feats.dtype)
        labels[row], label_lens[row], texts[row] = 0, 0, ""
    longest = max(1, int(label_lens.max()))
    return replace(batch, feats=feats, labels=labels[:, :longest], label_lens=label_lens, texts=tuple(texts))


def make_sound(kind: Sound, num_frames: int, rng: np.random.Generator) -> Tensor:
    """Make the features of one synthetic sound.

    Args:
        kind: makes its samples at any level.
        num_frames: T, at least 1.
        rng: draws the sound and its level.

    Returns:
        log-mel features (T, 80) float32.
    """
    num_samples = num_frames * DEFAULT_FBANK.frame_shift
    samples = kind(num_samples, rng)
    rms = math.sqrt(float(np.mean(samples**2)))
    level = 10.0 ** (rng.uniform(*_LEVELS_DB) / 20.0)
    if rms > 0.0:
        samples = np.clip(samples * (level / rms), -1.0, 1.0)
    return torch.from_numpy(compute_features(samples.astype(np.float32), _extractor()))


def _take_excerpt(noise: SoundArchive, num_frames: int, generator: torch.Generator) -> Tensor:
    """Log-mel features (T, C) of a part of a recording, at a random level."""
    choice, start, level = torch.rand(3, generator=generator, device=generator.device).tolist()
    sound = noise.read_excerpt(choice, start, num_frames)
    mean = max(float(sound.exp().mean()), math.exp(LOG_FLOOR))
    low, high = _RECORDED_LEVELS
    shift = low + (high - low) * level - math.log(mean)
    sounding = (sound > LOG_FLOOR + 1e-3).to(sound.dtype)  # digital silence stays
    return LOG_FLOOR + (sound + shift - LOG_FLOOR).clamp(min=0.0) * sounding


@functools.cache
def _extractor() -> Fbank:
    return make_extractor()


def _make_silence(num_samples: int, rng: np.random.Generator) -> Samples:
    return np.zeros(num_samples)


def _make_noise(num_samples: int, rng: np.random.Generator) -> Samples:
    """Noise whose spectrum has a random slope and, half of the time, a ripple and slow changes of level."""
    spectrum = np.fft.rfft(rng.standard_normal(num_samples))
    freqs = np.fft.rfftfreq(num_samples, 1.0 / SAMPLE_RATE)
    shape = np.maximum(freqs, 20.0) ** (-0.5 * rng.uniform(*_SLOPES))
    if rng.random() < 0.5:
        octaves = np.log2(np.maximum(freqs, 20.0) / 20.0)
        shape *= np.exp(
            rng.uniform(0.0, 1.5) * np.cos(rng.uniform(0.3, 2.0) * octaves + rng.uniform(0.0, 6.3))
        )
    samples = np.fft.irfft(spectrum * shape, num_samples)
    if rng.random() < 0.5:
        times = np.arange(num_samples) / SAMPLE_RATE
        swell = np.cos(2.0 * math.pi * rng.uniform(0.1, 4.0) * times + rng.uniform(0.0, 6.3))
        samples *= np.exp(rng.uniform(0.0, 1.0) * swell)
    return samples


def _make_hum(num_samples: int, rng: np.random.Generator) -> Samples:
    """Harmonics of 50 or 60 Hz with random falls, over faint noise."""
    base = rng.choice((50.0, 60.0)) * (1.0 + 0.002 * rng.standard_normal())
    times = np.arange(num_samples) / SAMPLE_RATE
    samples = np.zeros(num_samples)
    fall = rng.uniform(0.5, 2.0)
    for harmonic in range(1, int(rng.integers(2, 20))):
        amplitude = harmonic**-fall * rng.uniform(0.2, 1.0)
        samples += amplitude * np.sin(2.0 * math.pi * base * harmonic * times + rng.uniform(0.0, 6.3))
    return _over_faint_noise(samples, rng)


def _make_clicks(num_samples: int, rng: np.random.Generator) -> Samples:
    """Impulses at random times, some of which ring, over faint noise."""
    rate = 10.0 ** rng.uniform(-0.3, 1.3)  # per second
    count = 1 + rng.poisson(rate * num_samples / SAMPLE_RATE)
    impulses = np.zeros(num_samples)
    impulses[rng.integers(0, num_samples, count)] = rng.uniform(0.2, 1.0, count) * rng.choice(
        (-1.0, 1.0), count
    )
    if rng.random() < 0.5:
        times = np.arange(SAMPLE_RATE // 20) / SAMPLE_RATE
        ringing = np.exp(-times * rng.uniform(50.0, 1000.0)) * np.cos(
            2.0 * math.pi * rng.uniform(200.0, 6000.0) * times
        )
        size = num_samples + len(times)
        impulses = np.fft.irfft(np.fft.rfft(impulses, size) * np.fft.rfft(ringing, size), size)[:num_samples]
    return _over_faint_noise(impulses, rng)


def _make_tones(num_samples: int, rng: np.random.Generator) -> Samples:
    """Chords of two to four notes with harmonics, changed every 0.05 to 0.6 s."""
    length = int(rng.uniform(0.05, 0.6) * SAMPLE_RATE)
    samples = np.zeros(num_samples)
    for start in range(0, num_samples, length):
        times = np.arange(min(length, num_samples - start)) / SAMPLE_RATE
        for _ in range(int(rng.integers(2, 5))):
            base = 110.0 * 2.0 ** (rng.integers(0, 48) / 12.0)
            for harmonic in range(1, 5):
                wave = np.sin(2.0 * math.pi * base * harmonic * times + rng.uniform(0.0, 6.3))
                samples[start : start + len(times)] += (
                    wave * np.exp(-rng.uniform(0.5, 8.0) * times) / harmonic
                )
    return _over_faint_noise(samples, rng)


def _over_faint_noise(samples: Samples, rng: np.random.Generator) -> Samples:
    """Add noise 20 to 60 dB below `samples`."""
    rms = math.sqrt(float(np.mean(samples**2)))
    noise = _make_noise(len(samples), rng)
    return samples + noise * (rms * 10.0 ** rng.uniform(-3.0, -1.0) / max(float(np.std(noise)), 1e-12))


_SOUNDS: tuple[Sound, ...] = (
    _make_silence,
    *(_make_noise,) * 3,
    _make_hum,
    _make_clicks,
    _make_tones,
)
"""The kinds of sound; each entry is equally likely."""
