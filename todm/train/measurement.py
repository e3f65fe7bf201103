"""Time and memory of pieces of work on the CPU or a GPU.

Benchmarks are interleaved so that load affects all equally; medians are reported.
"""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

Work = Callable[[], None]


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """Time and memory of one benchmark.

    Args:
        seconds: duration of each round.
        peak_bytes: peak memory of its tensors, without those allocated before it started.
    """

    seconds: tuple[float, ...]
    peak_bytes: int

    @property
    def median(self) -> float:
        """Median duration in seconds."""
        return statistics.median(self.seconds)

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain values for JSON."""
        return {"median_seconds": self.median, "seconds": list(self.seconds), "peak_bytes": self.peak_bytes}


def measure(works: Mapping[str, Work], device: torch.device, num_rounds: int) -> dict[str, Measurement]:
    """Run all `works` once per round, in turn, after a warm-up.

    Args:
        works: benchmarks by name.
        device: device that they run on.
        num_rounds: timed rounds, at least 1.
    """
    seconds: dict[str, list[float]] = defaultdict(list)
    peaks = {name: measure_peak_bytes(work, device) for name, work in works.items()}
    for _ in range(num_rounds):
        for name, work in works.items():
            synchronize(device)
            start = time.perf_counter()
            work()
            synchronize(device)
            seconds[name].append(time.perf_counter() - start)
    return {name: Measurement(seconds=tuple(seconds[name]), peak_bytes=peaks[name]) for name in works}


def measure_peak_bytes(work: Work, device: torch.device) -> int:
    """Measure the peak memory of the tensors that `work` allocates on `device`, in bytes."""
    if device.type == "cuda":
        work()  # buffers that are allocated once do not count
        synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        work()
        return torch.cuda.max_memory_allocated(device) - before
    work()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as result:
        work()
    allocated = peak = 0
    for event in sorted(profile_events(result), key=lambda event: event.start_ns()):
        if event.name() == "[memory]":
            allocated += event.nbytes()
            peak = max(peak, allocated)
    return peak


def profile_events(result: profile) -> list[Any]:
    """Return the raw Kineto events of a finished profile."""
    assert result.profiler is not None and result.profiler.kineto_results is not None
    return list(result.profiler.kineto_results.events())


def synchronize(device: torch.device) -> None:
    """Wait until a GPU has finished; a CPU always has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
