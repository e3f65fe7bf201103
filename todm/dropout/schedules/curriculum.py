"""Curriculum dropout (Morerio et al., arXiv 1703.06229): easy first, then ever more dropped units."""

from __future__ import annotations

import math

from todm.config import DropoutScheduleConfig
from todm.dropout.schedules.schedule import TimedSchedule
from todm.errors import UserError


def curriculum(config: DropoutScheduleConfig) -> TimedSchedule:
    """keep(t) = (1 - k) exp(-g t) + k, k = 1 - p: a rate of p (1 - exp(-g t)); g = growth / T."""
    growth = _growth(config)
    return TimedSchedule(lambda progress: 1.0 - math.exp(-growth * progress))


def reversed_curriculum(config: DropoutScheduleConfig) -> TimedSchedule:
    """The control: the same curve from its end to its beginning."""
    growth = _growth(config)
    return TimedSchedule(lambda progress: 1.0 - math.exp(-growth * (1.0 - progress)))


def _growth(config: DropoutScheduleConfig) -> float:
    if not config.growth > 0.0:
        raise UserError(f"train.dropout.schedule.growth: must be above 0, got {config.growth}")
    return config.growth
