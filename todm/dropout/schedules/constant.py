"""No schedule."""

from __future__ import annotations

from todm.config import DropoutScheduleConfig
from todm.dropout.schedules.schedule import TimedSchedule


def constant(config: DropoutScheduleConfig) -> TimedSchedule:
    """1 throughout."""
    return TimedSchedule(lambda progress: 1.0)
