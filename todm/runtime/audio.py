"""Read audio files: wav with numpy, other formats with soundfile if it is installed."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .constants import SAMPLE_RATE
from .errors import BundleError
from .fbank import FloatArray
from .resample import resample
from .samples import MAX_RATE, MIN_RATE, find_fault

_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE


@dataclass(frozen=True, kw_only=True)
class Audio:
    """Mono audio at the sample rate of the features.

    Args:
        samples: (num_samples,) float32 with full scale 1; may be empty.
        sample_rate: samples per second.
        notes: conversions that were applied, for example ``2 channels averaged``.
    """

    samples: FloatArray
    sample_rate: int
    notes: tuple[str, ...] = ()


def read_audio(path: str | Path, sample_rate: int = SAMPLE_RATE) -> Audio:
    """Read an audio file as mono at a given rate.

    Args:
        path: wav (8, 16, 24 or 32-bit PCM, 32 or 64-bit float), or any format that soundfile reads.
        sample_rate: samples per second of the result.

    Raises:
        BundleError: the file is missing, not audio, has a truncated header, or has samples
            that are not finite or far above full scale.
    """
    path = Path(path)
    if not path.is_file():
        raise BundleError(f"{path}: no such file; check the path")
    channels, rate, notes = _read_channels(path)
    if (fault := find_fault(channels)) is not None:
        raise BundleError(f"{path}: {fault}; write the file again")
    if channels.shape[1] > 1:
        notes.append(f"{channels.shape[1]} channels averaged")
    samples = channels.mean(axis=1, dtype=np.float32)
    if rate != sample_rate:
        notes.append(f"resampled from {rate} Hz")
        samples = resample(samples, rate, sample_rate)
    return Audio(samples=samples, sample_rate=sample_rate, notes=tuple(notes))


def _read_channels(path: Path) -> tuple[FloatArray, int, list[str]]:
    """Samples (num_samples, num_channels), sample rate and notes."""
    with path.open("rb") as file:
        head = file.read(12)
    if head[:4] == b"RIFF" and head[8:12] == b"WAVE":
        decoded = _decode_wav(path)
        if decoded is not None:
            return decoded
    try:
        import soundfile
    except ImportError:
        raise BundleError(
            f"{path}: not a PCM or float wav file; convert it to wav or install soundfile"
        ) from None
    try:
        data, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (RuntimeError, OSError) as error:  # soundfile's errors are RuntimeErrors
        raise BundleError(f"{path}: cannot be read as audio ({error}); convert it to wav") from None
    return data, int(rate), []


def _decode_wav(path: Path) -> tuple[FloatArray, int, list[str]] | None:
    """Samples, sample rate and notes of a RIFF file; None for a coding other than PCM and float."""
    raw = path.read_bytes()
    notes: list[str] = []
    layout: tuple[int, int, int, int] | None = None
    at = 12
    while at + 8 <= len(raw):
        name, size = struct.unpack_from("<4sI", raw, at)
        at += 8
        if name == b"fmt " and size >= 16 and at + size <= len(raw):
            coding, num_channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", raw, at)
            if coding == _EXTENSIBLE and size >= 26:  # the sub-format begins with the coding
                (coding,) = struct.unpack_from("<H", raw, at + 24)
            layout = (coding, num_channels, rate, bits)
        elif name == b"data":
            if layout is None:
                break
            body = raw[at : at + size]
            if len(body) < size:
                notes.append("file is cut short")
            coding, num_channels, rate, bits = layout
            if num_channels < 1 or not MIN_RATE <= rate <= MAX_RATE:
                raise BundleError(
                    f"{path}: its header gives {num_channels} channels at {rate} Hz; write the file again"
                )
            samples = _to_float(body, coding, bits, num_channels)
            return None if samples is None else (samples, rate, notes)
        at += size + size % 2
    raise BundleError(f"{path}: truncated, it contains no audio data; write the file again")


def _to_float(body: bytes, coding: int, bits: int, num_channels: int) -> FloatArray | None:
    width = bits // 8
    if (coding, bits) not in {(_PCM, 8), (_PCM, 16), (_PCM, 24), (_PCM, 32), (_FLOAT, 32), (_FLOAT, 64)}:
        return None
    body = body[: len(body) // (width * num_channels) * (width * num_channels)]
    samples: FloatArray
    if coding == _FLOAT:
        with np.errstate(over="ignore"):  # too large for float32 becomes inf, refused by the caller
            samples = np.frombuffer(body, f"<f{width}").astype(np.float32)
    elif bits == 8:  # unsigned, unlike all others
        samples = (np.frombuffer(body, np.uint8).astype(np.float32) - np.float32(128)) / np.float32(128)
    elif bits == 24:
        # Three bytes become the upper three of an int32, which keeps the sign.
        wide = np.zeros((len(body) // 3, 4), np.uint8)
        wide[:, 1:] = np.frombuffer(body, np.uint8).reshape(-1, 3)
        samples = wide.view("<i4")[:, 0].astype(np.float32) / np.float32(2**31)
    else:
        samples = np.frombuffer(body, f"<i{width}").astype(np.float32) / np.float32(2 ** (bits - 1))
    return samples.reshape(-1, num_channels)
