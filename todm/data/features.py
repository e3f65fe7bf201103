"""Log-mel features through lhotse, with the settings of `todm.runtime.fbank`."""

from __future__ import annotations

import multiprocessing
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lhotse import CutSet, Fbank, FbankConfig
from lhotse.augmentation import Resample
from lhotse.cut import Cut
from lhotse.features.base import StatsAccumulator

from todm.data.archive import ArchiveWriter
from todm.errors import UserError
from todm.runtime.audio import read_audio
from todm.runtime.constants import SAMPLE_RATE
from todm.runtime.fbank import LOG_FLOOR, FbankSettings, num_frames

__all__ = [
    "LOG_FLOOR",
    "FbankSettings",
    "compute_feature_stats",
    "compute_features",
    "load_audio",
    "load_features",
    "make_extractor",
    "make_paths_relative",
    "perturb_speed",
    "store_features",
]


MIN_CUTS_PER_JOB = 1000
"""Fewer utterances of a few seconds take less time than the start of a process."""


def make_extractor(settings: FbankSettings | None = None) -> Fbank:
    """Make lhotse's Kaldi filter bank: features (T, 80) float32 from samples (S,) in [-1, 1]."""
    settings = settings or FbankSettings()
    return Fbank(
        FbankConfig(
            sampling_rate=settings.sample_rate,
            num_filters=settings.num_mel_bins,
            frame_length=settings.frame_length_ms / 1000,
            frame_shift=settings.frame_shift_ms / 1000,
            low_freq=settings.low_freq,
            high_freq=settings.high_freq,
            snip_edges=settings.snip_edges,
            dither=settings.dither,
            preemph_coeff=settings.preemph,
            window_type=settings.window,
            remove_dc_offset=settings.remove_dc_offset,
        )
    )


def compute_features(samples: np.ndarray, extractor: Fbank) -> np.ndarray:
    """Compute features of audio of any length.

    Audio shorter than a window is reflected as often as needed, as in Kaldi; lhotse reflects only once.

    Args:
        samples: (S,) in [-1, 1] at 16 kHz.
        extractor: see `make_extractor`.

    Returns:
        (T, 80) float32; T is 0 for audio below half a frame shift.
    """
    length, window = len(samples), round(FbankSettings().sample_rate * FbankSettings().frame_length_ms / 1000)
    frames = num_frames(length)
    if frames == 0:
        return np.zeros((0, FbankSettings().num_mel_bins), dtype=np.float32)
    if length < window:
        samples = np.pad(samples, (0, window), mode="symmetric")
    feats = np.asarray(extractor.extract(samples, FbankSettings().sample_rate), dtype=np.float32)
    return feats[:frames]


def resample_like_training(samples: np.ndarray, sample_rate: int) -> np.ndarray:
    """Resample (S,) from `sample_rate` to 16 kHz as lhotse does for recordings of the training.

    With torchaudio that is the filter of `todm.runtime.resample`; without it lhotse would take scipy's.
    """
    resampler = Resample(source_sampling_rate=sample_rate, target_sampling_rate=SAMPLE_RATE)
    return np.asarray(resampler(samples[None], sample_rate))[0]


def load_audio(path: Path | str) -> np.ndarray:
    """Read an audio file of any sample rate as mono float32 at 16 kHz, (S,), in [-1, 1].

    The reader is the one of the device runtime, so that both get the same samples.

    Raises:
        UserError: the file is missing, unreadable or empty.
    """
    samples = read_audio(path, FbankSettings().sample_rate).samples
    if len(samples) == 0:
        raise UserError(f"{path}: holds no samples; record it again")
    return samples


def load_features(cut: Cut, extractor: Fbank) -> np.ndarray:
    """Load the stored features (T, 80) of a cut, or compute them from its audio."""
    feats: np.ndarray = cut.load_features() if cut.has_features else cut.compute_features(extractor)
    return feats


def perturb_speed(cuts: CutSet, factors: Sequence[float]) -> CutSet:
    """Copy all cuts at each speed; ids of copies end in ``_sp0.9`` and the like."""
    copies = [cuts if factor == 1.0 else cuts.perturb_speed(factor) for factor in factors]
    return CutSet.from_cuts(chain.from_iterable(copies))


def store_features(cuts: CutSet, folder: Path, *, num_jobs: int = 1) -> CutSet:
    """Compute the features of ``cuts`` and write them to ``folder``, whose old content is removed.

    Args:
        cuts: cuts with audio.
        folder: folder of the archives ``feats-*.f32``: float32, 32 kB per second.
        num_jobs: number of processes.

    Returns:
        The cuts with features, sorted by id, without those whose audio could not be loaded.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    extractor = make_extractor()
    num_jobs = max(1, min(num_jobs, len(cuts) // MIN_CUTS_PER_JOB))
    if num_jobs == 1:
        done = cuts.compute_and_store_features(
            extractor, folder / "feats-0", storage_type=ArchiveWriter, progress_bar=False
        )
    else:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(
            num_jobs, mp_context=context, initializer=torch.set_num_threads, initargs=(1,)
        ) as pool:
            # lhotse warns about the threads of this process, although its processes use one each
            num_threads = torch.get_num_threads()
            torch.set_num_threads(1)
            try:
                done = cuts.compute_and_store_features(
                    extractor, folder, num_jobs, storage_type=ArchiveWriter, executor=pool, progress_bar=False
                )
            finally:
                torch.set_num_threads(num_threads)
    return CutSet.from_cuts(sorted(done, key=lambda cut: cut.id))


def make_paths_relative(cuts: Iterable[Cut], base: Path) -> Iterator[Cut]:
    """Make stored feature paths relative to ``base``, so that a run folder can be moved."""
    for cut in cuts:
        if cut.has_features:
            cut.features.storage_path = os.path.relpath(cut.features.storage_path, base)
        yield cut


def compute_feature_stats(cuts: CutSet, *, max_cuts: int = 10_000) -> dict[str, Any]:
    """Compute mean and standard deviation of each mel bin.

    Args:
        cuts: training cuts, with features or audio.
        max_cuts: maximum number of cuts used, evenly spaced.

    Returns:
        ``mean`` and ``std``, lists of 80 floats, and ``frames``, the number of frames used.
    """
    extractor = make_extractor()
    total = len(cuts)
    step = max(1, -(-total // max_cuts))
    accumulator = StatsAccumulator(feature_dim=FbankSettings().num_mel_bins)
    frames = 0
    for index, cut in enumerate(cuts):
        if index % step == 0:
            feats = load_features(cut, extractor).astype(np.float64)
            accumulator.update(feats)
            frames += len(feats)
    stats = accumulator.get()
    # avoids a division by zero for a constant bin
    std = np.maximum(stats["norm_stds"], 1e-3)
    return {"mean": stats["norm_means"].tolist(), "std": std.tolist(), "frames": frames}
