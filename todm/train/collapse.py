"""Detection of a collapse: the loss of the largest or the smallest net jumps and stays high.

Losses are averaged over windows of steps and compared with the best window so far. A loss that stays above
the limit for `COLLAPSE_WINDOWS` windows is not due to a single bad batch; the run is then rolled back
(`todm.train.rollback`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from todm.config import CollapseConfig
from todm.errors import UserError
from todm.train.metrics import Mean

COLLAPSE_WINDOWS = 2
"""Consecutive windows above the limit that count as a collapse."""


class CollapseGuard:
    """Watches named losses; with the same sums, all processes come to the same result.

    Args:
        config: window, limit, effect of a collapse on the learning rate.
    """

    def __init__(self, config: CollapseConfig) -> None:
        self.config = config
        self.lr_scale = 1.0
        self.num_rollbacks = 0
        self.good_step = 0
        self._start()

    def _start(self) -> None:
        self.losses = Mean()
        self.num_steps = 0  # in the current window
        self.num_above = 0  # consecutive windows above the limit
        self.best: dict[str, float] = {}

    def add(self, name: str, *, total: float, weight: float) -> None:
        """Add the loss of a pass: its sum and its weight. Losses that are not finite are ignored."""
        if math.isfinite(total):
            self.losses.add(name, total=total, weight=weight)

    def end_step(self) -> bool:
        """Count a step and return whether the window is full, so that `close_window` is due."""
        self.num_steps += 1
        return 0 < self.config.window <= self.num_steps

    def close_window(self, means: Mapping[str, float], step: int) -> bool:
        """Compare a window with the best one and start the next.

        Args:
            means: mean losses over the window and all processes.
            step: steps of the run so far.

        Returns:
            whether the run has collapsed, so that `roll_back` is due.
        """
        limits = {name: self.config.factor * best for name, best in self.best.items()}
        if any(mean > limits.get(name, math.inf) for name, mean in means.items()):
            self.num_above += 1
        else:
            self.num_above, self.good_step = 0, step
        for name, mean in means.items():
            self.best[name] = min(mean, self.best.get(name, math.inf))
        self.losses, self.num_steps = Mean(), 0
        return self.num_above >= COLLAPSE_WINDOWS

    def roll_back(self) -> None:
        """Start again with a reduced learning rate.

        Raises:
            UserError: after ``max_rollbacks`` of them.
        """
        if self.num_rollbacks >= self.config.max_rollbacks:
            raise UserError(
                f"training collapsed {self.num_rollbacks + 1} times, now at {self.lr_scale:g} of its "
                "learning rate; lower train.optim.lr or check the data, then start again"
            )
        self.num_rollbacks += 1
        self.lr_scale *= self.config.lr_scale
        self._start()

    def state_dict(self) -> dict[str, Any]:
        """Return plain values for a checkpoint."""
        numbers = ("lr_scale", "num_rollbacks", "good_step", "num_steps", "num_above")
        values = {name: getattr(self, name) for name in numbers}
        return {**values, "best": dict(self.best), "losses": self.losses.to_sums()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the values of `state_dict`."""
        values = dict(state)
        self.losses = Mean.from_sums(values.pop("losses"))
        self.best = dict(values.pop("best"))
        for name, value in values.items():
            setattr(self, name, value)
