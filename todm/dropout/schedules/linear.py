"""Linear decay (Yan & Shao, arXiv 2411.03236)."""

from __future__ import annotations

from todm.config import DropoutScheduleConfig
from todm.dropout.schedules.schedule import TimedSchedule


def linear(config: DropoutScheduleConfig) -> TimedSchedule:
    """p(t) = p (1 - t/T)."""
    return TimedSchedule(lambda progress: 1.0 - progress)
