"""Time one opened model: throughput and the latency that a user would notice."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .benchmark_result import Percentiles
from .fbank import DEFAULT_FBANK, FloatArray
from .hosts import Host


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Times of one utterance in one host.

    Args:
        calls: seconds of work per encoder chunk (streaming) or for the utterance (offline), with its features
            and search.
        first_token: seconds from the first sample to the first text; None without any text.
        end_of_speech: seconds from the last sample to the final text.
        text: final text.
    """

    calls: tuple[float, ...]
    first_token: float | None
    end_of_speech: float
    text: str

    @property
    def total(self) -> float:
        """Seconds of work of all calls."""
        return sum(self.calls)


@dataclass(frozen=True, kw_only=True)
class TimingSummary:
    """Figures of several passes over the same utterances.

    Args:
        rtf: work per second of audio in the median pass.
        rtf_least: work per second of audio in the fastest pass.
        latency_ms: over calls.
        first_token_ms: over utterances with text; None without any.
        end_of_speech_ms: over utterances.
    """

    rtf: float
    rtf_least: float
    latency_ms: Percentiles | None
    first_token_ms: Percentiles | None
    end_of_speech_ms: Percentiles | None


def time_utterance(host: Host, samples: FloatArray) -> Timing:
    """Run one utterance on a simulated real-time clock, without waiting.

    A piece of audio is processed when its last sample has arrived and the previous work is done; the work
    takes the measured time. An offline model starts after the last sample.

    Args:
        host: an opened model.
        samples: (num_samples,) mono at the sample rate of the features.
    """
    rate = DEFAULT_FBANK.sample_rate
    size = host.chunk_frames * DEFAULT_FBANK.frame_shift if host.chunk_frames else max(1, len(samples))
    start = time.perf_counter()
    stream = host.create_stream()
    calls = [time.perf_counter() - start]
    clock = 0.0
    began = False  # whether the encoder has run; earlier work counts towards the first call
    first_token = None
    for begin in range(0, len(samples) + size, size):
        piece = samples[begin : begin + size]
        start = time.perf_counter()
        ran = stream.accept_waveform(rate, piece) if len(piece) else stream.input_finished()
        elapsed = time.perf_counter() - start
        if ran and began:
            calls.append(elapsed)
        else:  # work without an encoder call counts towards the previous call
            calls[-1] += elapsed
        began = began or ran
        clock = max(clock, min(begin + size, len(samples)) / rate) + elapsed
        if first_token is None and stream.get_result():
            first_token = clock
    return Timing(
        calls=tuple(calls),
        first_token=first_token,
        end_of_speech=clock - len(samples) / rate,
        text=stream.get_result(),
    )


def summarize(rounds: Sequence[Sequence[Timing]], audio_seconds: float) -> TimingSummary:
    """Summarize several passes over the same utterances.

    Args:
        rounds: one timing per utterance in each pass.
        audio_seconds: duration of all utterances together.
    """
    timings = [timing for one in rounds for timing in one]
    totals = [sum(timing.total for timing in one) for one in rounds]
    return TimingSummary(
        rtf=float(np.median(totals)) / audio_seconds,
        rtf_least=min(totals) / audio_seconds,
        latency_ms=_percentiles([call for timing in timings for call in timing.calls]),
        first_token_ms=_percentiles([t.first_token for t in timings if t.first_token is not None]),
        end_of_speech_ms=_percentiles([timing.end_of_speech for timing in timings]),
    )


def _percentiles(seconds: Sequence[float]) -> Percentiles | None:
    if not seconds:
        return None
    p50, p95, p99 = (1000 * np.percentile(seconds, (50, 95, 99))).tolist()
    return Percentiles(p50=p50, p95=p95, p99=p99)
