"""The protocol of a dropout schedule, and the schedules that only look at the clock."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol


class DropoutSchedule(Protocol):
    """A multiplier over the run."""

    @property
    def watches_dev_loss(self) -> bool:
        """Whether validations must measure the dev loss and `observe` it."""
        ...

    def factor(self, progress: float) -> float:
        """The multiplier after `progress` (0 to 1) of the run behind its start, at least 0."""
        ...

    def observe(self, dev_loss: float) -> None:
        """Take note of a validation; the same in every process."""
        ...

    def state_dict(self) -> dict[str, float]:
        """What a checkpoint must hold."""
        ...

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Inverse of `state_dict`."""
        ...


class TimedSchedule:
    """A multiplier that progress alone determines: there is nothing to save.

    Args:
        curve: progress (0 to 1) to the multiplier.
    """

    watches_dev_loss = False

    def __init__(self, curve: Callable[[float], float]) -> None:
        self._curve = curve

    def factor(self, progress: float) -> float:
        """See `DropoutSchedule`."""
        return self._curve(min(1.0, max(0.0, progress)))

    def observe(self, dev_loss: float) -> None:
        """Nothing to learn from it."""

    def state_dict(self) -> dict[str, float]:
        """Empty."""
        return {}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Nothing to load."""
