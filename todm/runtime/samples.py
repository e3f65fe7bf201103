"""Checks of audio that a caller passes: shape, type, values and sample rate."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .errors import AudioError
from .fbank import FloatArray

MAX_MAGNITUDE = 1e4
"""Largest magnitude of a sample, 80 dB above full scale.

No recording exceeds full scale by so much, and a net recovers from it. Values such as 1e18 drive the states
of a stream so far that no later audio brings them back. Loud 16-bit values that were not divided by 32768
exceed it as well.
"""


def find_fault(samples: npt.NDArray[np.floating]) -> str | None:
    """Describe what is wrong with the values of samples of any shape; returns None if they are usable."""
    if not samples.size:
        return None
    largest = float(np.max(np.abs(samples)))  # NaN if any sample is
    if not np.isfinite(largest):
        return "its samples contain NaN or infinity"
    if largest > MAX_MAGNITUDE:
        return f"its largest sample is {largest:.3g} where full scale is 1"
    return None


def check_samples(samples: npt.ArrayLike) -> FloatArray:
    """Check mono audio and convert it to float32.

    Args:
        samples: (num_samples,) floating-point numbers with full scale 1; may be empty.

    Returns:
        (num_samples,) float32, contiguous.

    Raises:
        AudioError: another shape or type, NaN or infinity, or a magnitude above `MAX_MAGNITUDE`.
    """
    values = np.asarray(samples)
    if values.ndim != 1 or not np.issubdtype(values.dtype, np.floating):
        raise AudioError(
            f"audio: need mono samples (num_samples,) as floating-point numbers in [-1, 1], got an array of "
            f"shape {values.shape} and type {values.dtype}"
        )
    if (fault := find_fault(values)) is not None:
        raise AudioError(f"audio: {fault}; give finite samples in [-1, 1]")
    return np.ascontiguousarray(values, dtype=np.float32)


def check_rate(sample_rate: int) -> int:
    """Check a sample rate.

    Raises:
        AudioError: not a positive whole number.
    """
    number = isinstance(sample_rate, int | float | np.integer | np.floating)
    if not number or isinstance(sample_rate, bool) or not sample_rate >= 1 or sample_rate % 1:
        raise AudioError(f"sample_rate: must be a positive whole number of hertz, got {sample_rate}")
    return int(sample_rate)
