"""Log-mel features (Kaldi fbank), defined here for training and for devices.

Values equal those of sherpa-onnx's default feature extractor. Samples are in [-1, 1]; the result is the
natural logarithm of mel energies, at least float32's epsilon, without normalization.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .constants import FRAME_LENGTH_MS, FRAME_SHIFT_MS, NUM_MEL_BINS, SAMPLE_RATE

FloatArray = npt.NDArray[np.float32]

LOG_FLOOR = math.log(2.0**-23)
"""Log-mel of digital silence, -15.9424 (log of float32's epsilon); pads batches of features."""


@dataclass(frozen=True, kw_only=True)
class FbankSettings:
    """Settings of the Kaldi filter bank.

    Args:
        sample_rate: samples per second.
        num_mel_bins: mel filters C, the width of a frame.
        frame_length_ms: window, milliseconds.
        frame_shift_ms: hop, milliseconds.
        low_freq: lower edge of the lowest filter, hertz.
        high_freq: upper edge of the highest filter, hertz; zero or less counts from Nyquist.
        snip_edges: False reflects the signal at its ends, which gives T = (num_samples + 80) // 160.
        dither: amplitude of added noise; must be 0 on the device.
        preemph: pre-emphasis coefficient.
        window: window function by its Kaldi name.
        remove_dc_offset: subtract each window's mean.
    """

    sample_rate: int = SAMPLE_RATE
    num_mel_bins: int = NUM_MEL_BINS
    frame_length_ms: float = FRAME_LENGTH_MS
    frame_shift_ms: float = FRAME_SHIFT_MS
    low_freq: float = 20.0
    high_freq: float = -400.0
    snip_edges: bool = False
    dither: float = 0.0
    preemph: float = 0.97
    window: str = "povey"
    remove_dc_offset: bool = True

    @property
    def frame_shift(self) -> int:
        """Samples between two frames."""
        return round(self.sample_rate * self.frame_shift_ms / 1000)


DEFAULT_FBANK = FbankSettings()


def num_frames(num_samples: int, settings: FbankSettings = DEFAULT_FBANK) -> int:
    """Number of frames T that `compute_fbank` returns for `num_samples` (with ``snip_edges=False``)."""
    shift = settings.frame_shift
    return (num_samples + shift // 2) // shift


class FbankStream:
    """Compute features of audio that arrives in pieces of any size.

    Args:
        settings: the filter bank.
    """

    def __init__(self, settings: FbankSettings = DEFAULT_FBANK) -> None:
        self.settings = settings
        self._extractor = _make_extractor(settings)
        self._first = 0  # frames before this one are discarded

    @property
    def num_frames_ready(self) -> int:
        """Number of frames so far, discarded ones included."""
        return int(self._extractor.num_frames_ready)

    def accept_waveform(self, samples: npt.ArrayLike) -> None:
        """Append mono samples (num_samples,) in [-1, 1] at ``settings.sample_rate``."""
        samples = np.ascontiguousarray(samples, dtype=np.float32)
        assert samples.ndim == 1, samples.shape
        if samples.size:
            self._extractor.accept_waveform(self.settings.sample_rate, samples)

    def input_finished(self) -> None:
        """Mark the end of the audio: the last frames, reflected at the end, become ready."""
        self._extractor.input_finished()

    def get_frames(self, start: int, count: int) -> FloatArray:
        """Return frames ``start`` to ``start + count``, (count, C) float32, and discard earlier ones."""
        assert self._first <= start and start + count <= self.num_frames_ready, (start, count)
        if start > self._first:
            self._extractor.pop(start - self._first)
            self._first = start
        out = np.empty((count, self.settings.num_mel_bins), np.float32)
        for i in range(count):
            out[i] = self._extractor.get_frame(start + i)
        return out


def compute_fbank(samples: npt.ArrayLike, settings: FbankSettings = DEFAULT_FBANK) -> FloatArray:
    """Compute the features of one utterance.

    Args:
        samples: (num_samples,) mono, in [-1, 1], at ``settings.sample_rate``.
        settings: the filter bank.

    Returns:
        (T, C) float32 log-mel; T is 0 for less than half a frame shift of audio.
    """
    stream = FbankStream(settings)
    stream.accept_waveform(samples)
    stream.input_finished()
    return stream.get_frames(0, stream.num_frames_ready)


def _make_extractor(settings: FbankSettings) -> Any:
    import kaldi_native_fbank as knf

    options = knf.FbankOptions()
    frame, mel = options.frame_opts, options.mel_opts
    frame.samp_freq = settings.sample_rate
    frame.frame_length_ms = settings.frame_length_ms
    frame.frame_shift_ms = settings.frame_shift_ms
    frame.snip_edges = settings.snip_edges
    frame.dither = settings.dither
    frame.preemph_coeff = settings.preemph
    frame.window_type = settings.window
    frame.remove_dc_offset = settings.remove_dc_offset
    mel.num_bins = settings.num_mel_bins
    mel.low_freq = settings.low_freq
    mel.high_freq = settings.high_freq
    return knf.OnlineFbank(options)
