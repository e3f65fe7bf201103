"""Schedules: what a policy's strength is multiplied by as training goes on.

A new schedule is one new file and one line in `SCHEDULES`.
"""

from __future__ import annotations

from collections.abc import Callable

from todm.config import DropoutScheduleConfig
from todm.dropout.schedules.constant import constant
from todm.dropout.schedules.curriculum import curriculum, reversed_curriculum
from todm.dropout.schedules.exponential import exponential
from todm.dropout.schedules.linear import linear
from todm.dropout.schedules.schedule import DropoutSchedule
from todm.dropout.schedules.validation import ValidationSchedule
from todm.errors import UserError

SCHEDULES: dict[str, Callable[[DropoutScheduleConfig], DropoutSchedule]] = {
    "constant": constant,
    "linear": linear,
    "exponential": exponential,
    "curriculum": curriculum,
    "reversed_curriculum": reversed_curriculum,
    "validation": ValidationSchedule,
}


def build_schedule(config: DropoutScheduleConfig) -> DropoutSchedule:
    """The schedule that `config` names; an unknown name or an impossible number raises `UserError`."""
    if config.name not in SCHEDULES:
        raise UserError(
            f"train.dropout.schedule.name: {config.name!r} is not a schedule; choose one of "
            f"{', '.join(SCHEDULES)}"
        )
    return SCHEDULES[config.name](config)


__all__ = ["SCHEDULES", "DropoutSchedule", "build_schedule"]
