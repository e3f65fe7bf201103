"""Timing of one opened model: throughput, and what a speaker would wait for."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .fbank import DEFAULT_FBANK, FloatArray
from .hosts import Host


@dataclass(frozen=True, kw_only=True)
class Timing:
    """One utterance through one host.

    Args:
        calls: seconds of work per encoder chunk (streaming) or for the utterance (offline), with the
            features and the search that belong to it.
        first_token: seconds from the first sample to the first visible text, None without any text.
        end_of_speech: seconds from the last sample to the final text.
        text: the final text.
    """

    calls: tuple[float, ...]
    first_token: float | None
    end_of_speech: float
    text: str

    @property
    def total(self) -> float:
        """Seconds of work."""
        return sum(self.calls)


def time_utterance(host: Host, samples: FloatArray) -> Timing:
    """Run one utterance as if it came live, without waiting for it.

    A clock runs along: a piece of audio can be worked on from the moment when its last sample is
    there and the work before it is done; the work itself takes the time that was measured. An offline
    model can only start at the end of the speech.

    Args:
        host: the opened model.
        samples: (num_samples,) mono at the features' rate.
    """
    rate = DEFAULT_FBANK.sample_rate
    size = host.chunk_frames * DEFAULT_FBANK.frame_shift if host.chunk_frames else max(1, len(samples))
    start = time.perf_counter()
    stream = host.start()
    calls = [time.perf_counter() - start]
    clock = 0.0
    began = False  # whether the encoder has run: what comes before counts towards the first call
    first_token = None
    for begin in range(0, len(samples) + size, size):
        piece = samples[begin : begin + size]
        start = time.perf_counter()
        ran = stream.accept(piece) if len(piece) else stream.finish()
        elapsed = time.perf_counter() - start
        if ran and began:
            calls.append(elapsed)
        else:  # audio that only filled the window counts towards the call before it
            calls[-1] += elapsed
        began = began or ran
        clock = max(clock, min(begin + size, len(samples)) / rate) + elapsed
        if first_token is None and stream.text():
            first_token = clock
    return Timing(
        calls=tuple(calls),
        first_token=first_token,
        end_of_speech=clock - len(samples) / rate,
        text=stream.text(),
    )


def summarize(rounds: Sequence[Sequence[Timing]], audio_seconds: float) -> dict[str, Any]:
    """Figures of several passes over the same utterances.

    Args:
        rounds: one timing per utterance in each pass.
        audio_seconds: length of all utterances together.

    Returns:
        ``rtf`` (work per second of audio, the median pass) and ``rtf_least`` (the fastest pass, which other
        work on the machine disturbed least); ``latency_ms`` over calls, ``first_token_ms`` and
        ``end_of_speech_ms`` over utterances, each with p50, p95 and p99, or None where no utterance had any
        text.
    """
    timings = [timing for one in rounds for timing in one]
    totals = [sum(timing.total for timing in one) for one in rounds]
    return {
        "rtf": float(np.median(totals)) / audio_seconds,
        "rtf_least": min(totals) / audio_seconds,
        "latency_ms": _percentiles([call for timing in timings for call in timing.calls]),
        "first_token_ms": _percentiles([t.first_token for t in timings if t.first_token is not None]),
        "end_of_speech_ms": _percentiles([timing.end_of_speech for timing in timings]),
    }


def milliseconds(seconds: float | None) -> float | None:
    """The same in milliseconds; None stays None."""
    return None if seconds is None else 1000 * seconds


def _percentiles(seconds: Sequence[float]) -> dict[str, float] | None:
    if not seconds:
        return None
    p50, p95, p99 = (1000 * np.percentile(seconds, (50, 95, 99))).tolist()
    return {"p50": p50, "p95": p95, "p99": p99}
