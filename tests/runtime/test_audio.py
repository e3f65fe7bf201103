from __future__ import annotations

import struct
import sys
import wave
from pathlib import Path

import numpy as np
import pytest

from todm.runtime.audio import read_audio
from todm.runtime.errors import BundleError


def write_wav(
    path: Path, body: bytes, *, coding: int = 1, bits: int = 16, channels: int = 1, rate: int = 16000
) -> Path:
    width = channels * bits // 8
    layout = struct.pack("<HHIIHH", coding, channels, rate, rate * width, width, bits)
    parts = b"fmt " + struct.pack("<I", len(layout)) + layout
    parts += b"LIST" + struct.pack("<I", 3) + b"abc\0"  # an odd chunk with its padding byte
    parts += b"data" + struct.pack("<I", len(body)) + body
    path.write_bytes(b"RIFF" + struct.pack("<I", 4 + len(parts)) + b"WAVE" + parts)
    return path


RAMP = np.linspace(-1, 0.99, 1001)


@pytest.mark.parametrize("bits", [8, 16, 24, 32])
def test_pcm_of_every_width(bits: int, tmp_path: Path) -> None:
    whole = np.round(RAMP * 2 ** (bits - 1)).astype(np.int64)
    if bits == 8:
        body = (whole + 128).astype(np.uint8).tobytes()
    else:
        body = b"".join(int(v).to_bytes(bits // 8, "little", signed=True) for v in whole)
    audio = read_audio(write_wav(tmp_path / "a.wav", body, bits=bits))
    assert audio.samples.dtype == np.float32
    assert np.abs(audio.samples - RAMP).max() <= 0.51 / 2 ** (min(bits, 24) - 1)
    assert audio.notes == ()


@pytest.mark.parametrize("dtype", ["<f4", "<f8"])
def test_float(dtype: str, tmp_path: Path) -> None:
    body = RAMP.astype(dtype).tobytes()
    audio = read_audio(write_wav(tmp_path / "a.wav", body, coding=3, bits=8 * np.dtype(dtype).itemsize))
    assert np.array_equal(audio.samples, RAMP.astype(np.float32))


def test_files_of_the_standard_library(tmp_path: Path) -> None:
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes(np.array([[100, 300], [-200, 0]], "<i2").tobytes())
    audio = read_audio(tmp_path / "a.wav")
    assert audio.samples * 32768 == pytest.approx([200, -100])
    assert audio.notes == ("2 channels averaged",)


def test_another_rate_is_resampled_and_noted(tmp_path: Path) -> None:
    body = np.zeros(44100, "<i2").tobytes()
    audio = read_audio(write_wav(tmp_path / "a.wav", body, rate=44100))
    assert audio.samples.shape == (16000,)
    assert audio.sample_rate == 16000
    assert audio.notes == ("resampled from 44100 Hz",)


def test_soundfile_reads_other_formats(tmp_path: Path) -> None:
    soundfile = pytest.importorskip("soundfile")
    for name, options in (("a.flac", {}), ("a.wav", {"subtype": "ULAW"}), ("b.wav", {"format": "WAVEX"})):
        soundfile.write(tmp_path / name, RAMP, 16000, **options)
        assert np.abs(read_audio(tmp_path / name).samples - RAMP).max() < 0.03


def test_without_soundfile_the_message_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.flac").write_bytes(b"fLaC" + bytes(100))
    monkeypatch.setitem(sys.modules, "soundfile", None)
    with pytest.raises(BundleError, match=r"a\.flac.*install soundfile"):
        read_audio(tmp_path / "a.flac")


def test_empty_and_truncated_files(tmp_path: Path) -> None:
    assert read_audio(write_wav(tmp_path / "empty.wav", b"")).samples.shape == (0,)
    whole = write_wav(tmp_path / "a.wav", np.ones(100, "<i2").tobytes()).read_bytes()
    (tmp_path / "cut.wav").write_bytes(whole[:-51])
    audio = read_audio(tmp_path / "cut.wav")
    assert len(audio.samples) == 74
    assert audio.notes == ("file is cut short",)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_and_infinity_are_refused_by_name(value: float, tmp_path: Path) -> None:
    body = np.array([0.0, value], "<f4").tobytes()
    path = write_wav(tmp_path / "bad.wav", body, coding=3, bits=32)
    with pytest.raises(BundleError, match=r"bad\.wav.*NaN or infinity"):
        read_audio(path)


def test_unusable_files_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "none.wav").write_bytes(b"")
    (tmp_path / "text.wav").write_bytes(b"hello world, this is no audio at all")
    (tmp_path / "header.wav").write_bytes(b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\1\0")
    write_wav(tmp_path / "channels.wav", b"", channels=0)
    for name in ("none", "text", "header", "channels", "missing"):
        with pytest.raises(BundleError, match=rf"{name}\.wav"):
            read_audio(tmp_path / f"{name}.wav")
