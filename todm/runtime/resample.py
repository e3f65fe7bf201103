"""Resample audio with Kaldi's filter in numpy, as whole files or as streams.

The filter is a Hann-windowed sinc with 6 zero crossings on each side and its cutoff at 0.99 of the lower
Nyquist frequency, as in torchaudio's ``resample`` (used by lhotse in training) and in sherpa-onnx: audio of
another rate has the same features in training and on every device.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from .fbank import FloatArray

_ZEROS = 6  # zero crossings of the sinc on each side
_ROLLOFF = 0.99  # cutoff as a share of the lower Nyquist frequency
_MAX_PHASES = 2048  # with more phases the filter is evaluated per block instead of stored
_BLOCK = 1 << 21  # filter taps evaluated at once, to bound memory


class Resampler:
    """Streaming resampler; the concatenated output does not depend on how the input was split.

    Output sample m lies at input position m * in_rate / out_rate. It is the sum of the inputs around it,
    weighted by a Hann-windowed sinc whose cutoff is below both Nyquist frequencies.

    Args:
        in_rate: samples per second of the input, positive.
        out_rate: samples per second of the output, positive.
    """

    def __init__(self, in_rate: int, out_rate: int) -> None:
        assert in_rate > 0 and out_rate > 0
        divisor = math.gcd(in_rate, out_rate)
        self._up, self._down = out_rate // divisor, in_rate // divisor
        self._cutoff = min(1.0, out_rate / in_rate) * _ROLLOFF  # 1.0: Nyquist of the input
        self._half = math.ceil(_ZEROS / self._cutoff) + 1
        self._bank: FloatArray | None = None
        if self._up <= _MAX_PHASES:
            self._bank = self._weights(np.arange(self._up))
        self._buffer = np.zeros(self._half, np.float32)  # silence before the first sample
        self._buffer_start = -self._half  # input index of the buffer's first sample
        self._num_in = 0
        self._num_out = 0

    def push(self, samples: npt.ArrayLike) -> FloatArray:
        """Append samples (n,) and return the outputs (m,) float32 that are complete."""
        samples = np.asarray(samples, dtype=np.float32)
        self._num_in += samples.size
        self._buffer = np.concatenate([self._buffer, samples])
        # The newest input that an output at input position p needs is floor(p) + half.
        return self._emit(-(-(self._num_in - self._half) * self._up // self._down))

    def flush(self) -> FloatArray:
        """Return the remaining outputs; their total is ceil(num_in * out_rate / in_rate)."""
        self._buffer = np.concatenate([self._buffer, np.zeros(self._half + 1, np.float32)])
        return self._emit(-(-self._num_in * self._up // self._down))

    def _emit(self, end: int) -> FloatArray:
        taps = 2 * self._half
        pieces = [np.zeros(0, np.float32)]
        step = max(1, _BLOCK // taps)
        for begin in range(self._num_out, end, step):
            index = np.arange(begin, min(end, begin + step), dtype=np.int64)
            base, phase = np.divmod(index * self._down, self._up)
            weights = self._weights(phase) if self._bank is None else self._bank[phase]
            windows = np.lib.stride_tricks.sliding_window_view(self._buffer, taps)
            windows = windows[base - self._half + 1 - self._buffer_start]
            pieces.append(np.einsum("nt,nt->n", windows, weights))
        self._num_out = max(self._num_out, end)
        keep = self._num_out * self._down // self._up - self._half + 1
        if keep > self._buffer_start:
            self._buffer = self._buffer[keep - self._buffer_start :]
            self._buffer_start = keep
        return np.concatenate(pieces)

    def _weights(self, phases: npt.NDArray[np.int64]) -> FloatArray:
        """Filter taps (num_phases, 2 * half) of the given phases, each in 0 to up - 1."""
        offsets = np.arange(-self._half + 1, self._half + 1)
        distance = offsets[None, :] - phases[:, None] / self._up  # in input samples
        crossings = np.clip(self._cutoff * distance, -_ZEROS, _ZEROS)
        window = np.cos(crossings * (math.pi / (2 * _ZEROS))) ** 2  # Hann
        taps: FloatArray = (self._cutoff * np.sinc(crossings) * window).astype(np.float32)
        return taps


def resample(samples: npt.ArrayLike, in_rate: int, out_rate: int) -> FloatArray:
    """Resample one signal.

    Args:
        samples: (n,) mono.
        in_rate: samples per second of the input, positive.
        out_rate: samples per second of the output, positive.

    Returns:
        (ceil(n * out_rate / in_rate),) float32; the input itself when the rates are equal.
    """
    samples = np.asarray(samples, dtype=np.float32)
    if in_rate == out_rate:
        return samples
    resampler = Resampler(in_rate, out_rate)
    return np.concatenate([resampler.push(samples), resampler.flush()])
