"""Profile of a training step: seconds per section and utilisation of a GPU.

The sections of a step are named with `torch.profiler.record_function`; their names begin with
`todm.train.passes.SECTION`.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections import defaultdict
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from todm.train.measurement import Work, profile_events, synchronize
from todm.train.passes import SECTION

REST = "rest"
"""Name of the time outside all sections."""


def profile_sections(work: Work, device: torch.device) -> dict[str, float]:
    """Measure the seconds that one run of `work` spends in each section.

    On a GPU these are the seconds of its kernels, by the section that launched them.
    """
    activities = [ProfilerActivity.CPU]
    if device.type == "cuda":
        activities.append(ProfilerActivity.CUDA)
    result, total = _profile(work, device, activities)
    if device.type == "cuda":
        return sum_kernels(profile_events(result))
    sections: dict[str, float] = defaultdict(float)
    for event in result.events() or ():
        if event.name.startswith(SECTION):
            sections[event.name.removeprefix(SECTION)] += event.cpu_time_total / 1e6
    sections[REST] = max(0.0, total - sum(sections.values()))
    return dict(sections)


def measure_gpu_busy(work: Work, device: torch.device) -> float:
    """Measure the share of the duration of `work` in which its GPU runs at least one kernel."""
    result, total = _profile(work, device, [ProfilerActivity.CUDA])
    return busy_seconds(profile_events(result)) / total


def sum_kernels(events: list[Any]) -> dict[str, float]:
    """Sum the seconds of GPU kernels by the section that launched them.

    Args:
        events: Kineto events of a profile.
    """
    sections = sorted(
        (event.start_ns(), event.end_ns(), event.name().removeprefix(SECTION))
        for event in events
        if event.name().startswith(SECTION) and _is_on(event, "CPU")
    )
    launch_times = {
        event.correlation_id(): event.start_ns()
        for event in events
        if _is_on(event, "CPU") and event.name().startswith("cu")
    }
    sums: dict[str, float] = defaultdict(float)
    for kernel in _kernels(events):
        launch = launch_times.get(kernel.correlation_id(), -1)
        index = bisect_right(sections, launch, key=lambda section: section[0]) - 1
        inside = index >= 0 and launch <= sections[index][1]
        sums[sections[index][2] if inside else REST] += kernel.duration_ns() / 1e9
    return dict(sums)


def busy_seconds(events: list[Any]) -> float:
    """Sum the seconds in which a GPU runs at least one kernel.

    Args:
        events: Kineto events of a profile.
    """
    busy = end = 0
    for begin, stop in sorted((kernel.start_ns(), kernel.end_ns()) for kernel in _kernels(events)):
        busy += max(0, stop - max(begin, end))
        end = max(end, stop)
    return busy / 1e9


def _profile(work: Work, device: torch.device, activities: list[ProfilerActivity]) -> tuple[profile, float]:
    """Profile one run after a warm-up; also returns its duration in seconds."""
    work()
    synchronize(device)
    with profile(activities=activities, acc_events=True) as result:
        start = time.perf_counter()
        work()
        synchronize(device)
        total = time.perf_counter() - start
    return result, total


def _is_on(event: Any, device: str) -> bool:
    name: str = event.device_type().name
    return name == device


def _kernels(events: list[Any]) -> list[Any]:
    """Return kernels and copies on the GPU, without the annotations of sections."""
    return [event for event in events if _is_on(event, "CUDA") and not event.is_user_annotation()]
