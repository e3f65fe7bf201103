"""Schedules: multipliers of a policy's strength over the run.

A new schedule is one function (or class) of the config and one line in `SCHEDULES`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Protocol

from todm.config import DropoutScheduleConfig


class DropoutSchedule(Protocol):
    """Multiplier of the dropout's strength over the run."""

    @property
    def watches_dev_loss(self) -> bool:
        """Whether validations must measure the dev loss and pass it to `observe`."""
        ...

    def factor(self, progress: float) -> float:
        """Return the multiplier (0 or more) after `progress` (0 to 1) of the sandwich phase."""
        ...

    def observe(self, dev_loss: float) -> None:
        """Take the dev loss of a validation into account; all processes pass the same value."""
        ...

    def state_dict(self) -> dict[str, float]:
        """Return the values to save in a checkpoint."""
        ...

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Restore the values of `state_dict`."""
        ...


class TimedSchedule:
    """A multiplier that depends on the progress alone; it has no state.

    Args:
        curve: maps progress (0 to 1) to the multiplier.
    """

    watches_dev_loss = False

    def __init__(self, curve: Callable[[float], float]) -> None:
        self._curve = curve

    def factor(self, progress: float) -> float:
        """Evaluate the curve, see `DropoutSchedule`."""
        return self._curve(min(1.0, max(0.0, progress)))

    def observe(self, dev_loss: float) -> None:
        """Ignore the dev loss."""

    def state_dict(self) -> dict[str, float]:
        """Return an empty dict."""
        return {}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Ignore the state; there is none."""


def constant(config: DropoutScheduleConfig) -> TimedSchedule:
    """Keep a multiplier of 1 throughout."""
    return TimedSchedule(lambda progress: 1.0)


def linear(config: DropoutScheduleConfig) -> TimedSchedule:
    """Linear decay, p(t) = p (1 - t/T) (Yan & Shao, arXiv 2411.03236)."""
    return TimedSchedule(lambda progress: 1.0 - progress)


def exponential(config: DropoutScheduleConfig) -> TimedSchedule:
    """Exponential decay, p(t) = p g^t, with g such that ``last`` is left at the end (Yan & Shao)."""
    return TimedSchedule(lambda progress: config.last**progress)


def curriculum(config: DropoutScheduleConfig) -> TimedSchedule:
    """Increase the dropout from 0 (curriculum dropout, Morerio et al., arXiv 1703.06229).

    keep(t) = (1 - k) exp(-g t) + k with k = 1 - p, hence a rate of p (1 - exp(-g t)); g = growth / T.
    """
    return TimedSchedule(lambda progress: 1.0 - math.exp(-config.growth * progress))


def reversed_curriculum(config: DropoutScheduleConfig) -> TimedSchedule:
    """Run the curve of `curriculum` from its end to its beginning, as a control."""
    return TimedSchedule(lambda progress: 1.0 - math.exp(-config.growth * (1.0 - progress)))


class ValidationSchedule:
    """More dropout when the dev loss stops falling, less while it falls.

    The idea is Yan & Shao's (arXiv 2411.03236), the rule this project's: after a validation that is no better
    than the best one the multiplier is raised by ``rise``; after one that is the best so far it is lowered by
    ``fall``; it stays within ``least`` and ``most``. It starts at 1.

    Args:
        config: rise, fall, least and most.
    """

    watches_dev_loss = True

    def __init__(self, config: DropoutScheduleConfig) -> None:
        self.config = config
        self.best = math.inf
        self.value = 1.0

    def factor(self, progress: float) -> float:
        """Return the current multiplier; the progress has no effect."""
        return self.value

    def observe(self, dev_loss: float) -> None:
        """Update the multiplier. The first validation only sets `best`; a loss of nan has no effect."""
        if not math.isfinite(dev_loss):
            return
        if math.isfinite(self.best):
            change = self.config.fall if dev_loss < self.best else self.config.rise
            self.value = min(self.config.most, max(self.config.least, self.value * change))
        self.best = min(self.best, dev_loss)

    def state_dict(self) -> dict[str, float]:
        """Return the multiplier and the best loss."""
        return {"value": self.value, "best": self.best}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Restore the values of `state_dict`; the state of another schedule gives the initial values."""
        self.value, self.best = state.get("value", 1.0), state.get("best", math.inf)


SCHEDULES: dict[str, Callable[[DropoutScheduleConfig], DropoutSchedule]] = {
    "constant": constant,
    "linear": linear,
    "exponential": exponential,
    "curriculum": curriculum,
    "reversed_curriculum": reversed_curriculum,
    "validation": ValidationSchedule,
}


def build_schedule(config: DropoutScheduleConfig) -> DropoutSchedule:
    """Build the schedule that `config` names."""
    return SCHEDULES[config.name](config)
