"""Archives of a folder of noise (`data.noise_dir`) and of one of room impulse responses (`data.rir_dir`)."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import soundfile

from todm.config import DataConfig
from todm.data.archive import ArchiveWriter
from todm.data.corpus import AUDIO_SUFFIXES
from todm.data.features import compute_features, load_audio, make_extractor
from todm.data.spectrum import FFT_SIZE, mel_filters
from todm.errors import UserError
from todm.files import write_json
from todm.layout import DataFolder
from todm.runtime.constants import SAMPLE_RATE
from todm.runtime.fbank import FbankSettings
from todm.runtime.resample import resample

MAX_ROOM_FRAMES = 200
"""Longest reverberation that is used, two seconds."""

_PIECE = 60 * SAMPLE_RATE  # samples of a long recording that are transformed at once
_ONSET = 0.5  # share of the peak at which the direct sound begins
_INAUDIBLE = 1e-6  # the tail with this share of the energy is cut


def find_noise(config: DataConfig) -> list[Path]:
    """List the recordings of ``data.noise_dir``.

    A folder in MUSAN's layout has ``noise``, ``music`` and ``speech``; ``speech`` is left out there.

    Raises:
        UserError: the folder is missing, or holds no wav or flac file.
    """
    folder = Path(config.noise_dir)
    parts = [folder / name for name in ("music", "noise") if (folder / name).is_dir()]
    return _find_audio("data.noise_dir", folder, parts or [folder])


def find_rooms(config: DataConfig) -> list[Path]:
    """List the impulse responses of ``data.rir_dir``.

    RIRS_NOISES also holds noise, which is left out: the folder ``pointsource_noises``, and files with
    ``noise`` in their name.

    Raises:
        UserError: the folder is missing, or holds no impulse response.
    """
    folder = Path(config.rir_dir)
    return _find_audio(
        "data.rir_dir",
        folder,
        [folder],
        lambda path: (
            "noise" not in path.name.lower() and "pointsource_noises" not in path.relative_to(folder).parts
        ),
    )


def check_sound_folders(config: DataConfig) -> None:
    """Check that the folders of the settings, if any, hold audio files; raises UserError."""
    if config.noise_dir:
        find_noise(config)
    if config.rir_dir:
        find_rooms(config)


def write_sounds(config: DataConfig, data: DataFolder) -> dict[str, float]:
    """Compute the archives of noise and rooms.

    Returns:
        Figures for printing.

    Raises:
        UserError: a missing or empty folder, an unreadable file, a full disk.
    """
    figures: dict[str, float] = {}
    if config.noise_dir:
        paths = find_noise(config)
        extractor = make_extractor()

        def compute_noise(path: Path) -> np.ndarray:
            samples = load_audio(path)
            pieces = [samples[at : at + _PIECE] for at in range(0, len(samples), _PIECE)]
            return np.concatenate([compute_features(piece, extractor) for piece in pieces])

        frames = _write_archive(
            paths, compute_noise, data.noise_index, data.noise_archive, "data.noise_dir", config
        )
        figures |= {"noise recordings": len(paths), "noise hours": frames / 360_000}
    if config.rir_dir:
        paths = find_rooms(config)
        _write_archive(paths, _compute_room, data.room_index, data.room_archive, "data.rir_dir", config)
        figures["rooms"] = len(paths)
    return figures


def measure_room(samples: np.ndarray) -> np.ndarray:
    """Compute the energy decay of a room in each mel bin.

    The response is cut into segments of 20 ms, one every 10 ms, the first centred on the direct sound. The
    squares of their windows add up to 1, so each reflection's energy is shared between two frames.

    Args:
        samples: (S,) impulse response at 16 kHz, not silent.

    Returns:
        (K, 80) float32, K up to `MAX_ROOM_FRAMES`; frame k is the share of a sound's power that arrives k
        frames late. The sum over frames of the mean over bins is 1, so that the level is kept.
    """
    shift = FbankSettings().frame_shift
    magnitude = np.abs(samples)
    onset = int(np.argmax(magnitude >= _ONSET * magnitude.max()))
    count = min(1 + math.ceil((len(samples) - onset) / shift), MAX_ROOM_FRAMES)
    padded = np.zeros(shift + onset + (count + 1) * shift, np.float64)
    used = samples[: len(padded) - shift]
    padded[shift : shift + len(used)] = used
    window = np.sin(np.pi * np.arange(2 * shift) / (2 * shift))
    starts = onset + shift * np.arange(count)
    segments = padded[starts[:, None] + np.arange(2 * shift)] * window
    energy = np.abs(np.fft.rfft(segments, FFT_SIZE)) ** 2  # (K, F)
    filters = mel_filters()
    decay = energy @ (filters / filters.sum(1, keepdims=True)).T
    decay /= decay.mean(1).sum()
    remaining = decay.mean(1)[::-1].cumsum()[::-1]
    return np.ascontiguousarray(decay[remaining > _INAUDIBLE], dtype=np.float32)


def _compute_room(path: Path) -> np.ndarray:
    try:
        channels, rate = soundfile.read(str(path), dtype="float32", always_2d=True)
    except (RuntimeError, OSError) as error:  # soundfile's errors are RuntimeErrors
        raise UserError(f"{path}: cannot be read as audio ({error}); remove it") from error
    # The average of several microphones would be a comb filter.
    samples = channels[:, 0]
    if not np.isfinite(samples).all() or not np.abs(samples).max(initial=0.0) > 0:
        raise UserError(f"{path}: is silent or contains NaN or infinity; remove it")
    return measure_room(resample(samples, int(rate), SAMPLE_RATE))


def _find_audio(
    setting: str, folder: Path, parts: Sequence[Path], wanted: Callable[[Path], bool] = lambda path: True
) -> list[Path]:
    """List the audio files at any depth, sorted by path."""
    if not folder.is_dir():
        raise UserError(f"{setting}: {folder} is no folder; give one that exists, or leave the setting empty")
    paths = [
        Path(root) / name
        for part in parts
        for root, _, names in os.walk(part, followlinks=True)
        for name in names
        if Path(name).suffix.lower() in AUDIO_SUFFIXES and not name.startswith(".")
    ]
    found = sorted(path for path in paths if wanted(path))
    if not found:
        what = "noise" if setting == "data.noise_dir" else "impulse response"
        raise UserError(f"{setting}: {folder} holds no wav or flac file with {what}; give another folder")
    return found


def _write_archive(
    paths: Sequence[Path],
    compute: Callable[[Path], np.ndarray],
    index: Path,
    archive: Path,
    setting: str,
    config: DataConfig,
) -> int:
    """Write the arrays of all files in order, then their keys; returns the number of frames."""
    index.unlink(missing_ok=True)  # an index exists only if its archive is complete
    keys, frames, digest = [], 0, hashlib.sha256()
    step = 4 * config.num_jobs  # bounds the arrays that wait for being written
    try:
        with ThreadPoolExecutor(config.num_jobs) as pool, ArchiveWriter(archive) as writer:
            for first in range(0, len(paths), step):
                batch = paths[first : first + step]
                for path, array in zip(batch, pool.map(compute, batch), strict=True):
                    if len(array) == 0:
                        raise UserError(f"{path}: is shorter than a frame; remove it")
                    keys.append(writer.write(path.name, array))
                    digest.update(array.tobytes())
                    frames += len(array)
    except UserError as error:
        raise UserError(f"{setting}: {error}") from error
    except OSError as error:
        raise UserError(f"{archive}: cannot be written ({error}); free some space") from error
    folder = config.noise_dir if setting == "data.noise_dir" else config.rir_dir
    write_json(index, {"folder": folder, "digest": digest.hexdigest()[:16], "keys": keys})
    return frames
