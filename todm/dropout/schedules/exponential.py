"""Exponential decay (Yan & Shao, arXiv 2411.03236)."""

from __future__ import annotations

from todm.config import DropoutScheduleConfig
from todm.dropout.schedules.schedule import TimedSchedule
from todm.errors import UserError


def exponential(config: DropoutScheduleConfig) -> TimedSchedule:
    """p(t) = p g^t, g such that ``last`` of it is left at the end."""
    if not 0.0 < config.last <= 1.0:
        raise UserError(f"train.dropout.schedule.last: must be above 0, to 1, got {config.last}")
    return TimedSchedule(lambda progress: config.last**progress)
