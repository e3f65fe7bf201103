"""Notice a run that collapses: the loss of the largest or the smallest net jumps and stays where it is.

Losses are averaged over windows of steps and compared with the best window so far. What lasts for `PATIENCE`
windows is no bad batch any more: `CollapseGuard.close_window` says so, and the loop goes back to the newest
checkpoint from before the jump, with a lower learning rate.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from todm.config import CollapseConfig
from todm.errors import UserError
from todm.train.metrics import Mean

PATIENCE = 2
"""Windows in a row above the limit."""


class CollapseGuard:
    """Watches named losses; given the same sums, all processes decide alike.

    Args:
        config: window, limit, what a collapse does to the rate.
    """

    def __init__(self, config: CollapseConfig) -> None:
        self.config = config
        self.lr_scale = 1.0
        self.num_rollbacks = 0
        self.good_step = 0
        self._begin()

    def _begin(self) -> None:
        self.losses = Mean()
        self.num_steps = 0  # in the present window
        self.num_above = 0  # windows in a row above the limit
        self.best: dict[str, float] = {}

    def add(self, name: str, *, total: float, weight: float) -> None:
        """One pass's loss: its sum, and over what it is one."""
        if math.isfinite(total):  # steps that are not are skipped, counted and limited by the loop
            self.losses.add(name, total=total, weight=weight)

    def end_step(self) -> bool:
        """Count a step; True when the window is full and `close_window` is due."""
        self.num_steps += 1
        return 0 < self.config.window <= self.num_steps

    def close_window(self, means: Mapping[str, float], step: int) -> bool:
        """ObjectiveSet a window and begin the next.

        Args:
            means: the losses' means over the window and all processes.
            step: steps of the run so far.

        Returns:
            whether the run has collapsed; then `roll_back` is due.
        """
        limits = {name: self.config.factor * best for name, best in self.best.items()}
        if any(mean > limits.get(name, math.inf) for name, mean in means.items()):
            self.num_above += 1
        else:
            self.num_above, self.good_step = 0, step
        for name, mean in means.items():
            self.best[name] = min(mean, self.best.get(name, math.inf))
        self.losses, self.num_steps = Mean(), 0
        return self.num_above >= PATIENCE

    def roll_back(self) -> None:
        """Begin anew with a lower rate.

        Raises:
            UserError: after ``max_rollbacks`` of them.
        """
        if self.num_rollbacks >= self.config.max_rollbacks:
            raise UserError(
                f"training collapsed {self.num_rollbacks + 1} times, now at {self.lr_scale:g} of its "
                "learning rate; lower train.optim.lr or look at the data, then start again"
            )
        self.num_rollbacks += 1
        self.lr_scale *= self.config.lr_scale
        self._begin()

    def state_dict(self) -> dict[str, Any]:
        """Plain values, for a checkpoint."""
        numbers = ("lr_scale", "num_rollbacks", "good_step", "num_steps", "num_above")
        values = {name: getattr(self, name) for name in numbers}
        return {**values, "best": dict(self.best), "losses": self.losses.to_sums()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        values = dict(state)
        self.losses = Mean.from_sums(values.pop("losses"))
        self.best = dict(values.pop("best"))
        for name, value in values.items():
            setattr(self, name, value)
