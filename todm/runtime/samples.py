"""Checks of audio that a caller passes: shape, type, values, sample rate and the order of calls."""

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


MIN_RATE, MAX_RATE = 1_000, 1_000_000
"""Range of sample rates, hertz.

No microphone has another. Resampling from a few hertz would give hours of audio for seconds of samples, and
from gigahertz it needs a filter of gigabytes.
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
    try:
        values = np.asarray(samples)
    except Exception as error:  # of a list with rows of several lengths, or of an array of another library
        reason = " ".join(str(error).split())[:200]
        raise AudioError(
            f"audio: cannot be converted to an array ({reason}); give mono samples (num_samples,)"
        ) from None
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
        AudioError: not a whole number, or outside `MIN_RATE` to `MAX_RATE`.
    """
    number = isinstance(sample_rate, int | float | np.integer | np.floating)
    if not number or isinstance(sample_rate, bool) or not sample_rate >= 1 or sample_rate % 1:
        raise AudioError(f"sample_rate: must be a positive whole number of hertz, got {sample_rate}")
    if not MIN_RATE <= sample_rate <= MAX_RATE:
        raise AudioError(f"sample_rate: must be {MIN_RATE} to {MAX_RATE} hertz, got {sample_rate}")
    return int(sample_rate)


class StreamInput:
    """Checks of the calls of one stream: usable audio of one sample rate until the end.

    A refused call changes nothing.
    """

    def __init__(self) -> None:
        self.sample_rate = 0
        """Samples per second of the audio, 0 before the first call."""
        self.has_audio = False
        """Whether any sample came."""
        self.finished = False
        """Whether the audio has ended."""

    def accept(self, sample_rate: int, samples: npt.ArrayLike) -> FloatArray:
        """Check one call with audio.

        Args:
            sample_rate: samples per second.
            samples: (num_samples,) in [-1, 1]; num_samples may be 0.

        Returns:
            (num_samples,) float32, contiguous.

        Raises:
            AudioError: samples that `check_samples` refuses, a rate that `check_rate` refuses or that
                changed, or audio after the end.
        """
        if self.finished:
            raise AudioError("stream: audio after input_finished(); create a new stream")
        sample_rate = check_rate(sample_rate)
        if self.sample_rate not in (0, sample_rate):
            raise AudioError(
                f"stream: the sample rate changed from {self.sample_rate} to {sample_rate}; resample the "
                "audio or create a new stream"
            )
        checked = check_samples(samples)
        self.sample_rate = sample_rate
        self.has_audio = self.has_audio or checked.size > 0
        return checked

    def finish(self) -> bool:
        """Mark the end of the audio; returns False if it has ended before."""
        first = not self.finished
        self.finished = True
        return first
