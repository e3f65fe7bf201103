"""Driven by the dev loss (the idea of Yan & Shao, arXiv 2411.03236; the rule is this project's)."""

from __future__ import annotations

import math
from collections.abc import Mapping

from todm.config import DropoutScheduleConfig
from todm.errors import UserError


class ValidationSchedule:
    """More dropout when the dev loss stops falling, less while it falls.

    After a validation that is no better than the best one the multiplier rises by ``rise``; after one that is
    the best so far it falls by ``fall``; it stays within ``least`` and ``most``. It begins at 1.

    Args:
        config: rise, fall, least and most.
    """

    watches_dev_loss = True

    def __init__(self, config: DropoutScheduleConfig) -> None:
        if not (config.rise >= 1.0 >= config.fall > 0.0):
            raise UserError(
                "train.dropout.schedule: rise must be at least 1, fall above 0 and at most 1, got "
                f"{config.rise} and {config.fall}"
            )
        if not 0.0 <= config.least <= 1.0 <= config.most:
            raise UserError(
                f"train.dropout.schedule: least must be in 0 to 1 and most at least 1, got {config.least} "
                f"and {config.most}"
            )
        self.config = config
        self.best = math.inf
        self.value = 1.0

    def factor(self, progress: float) -> float:
        """The present multiplier, whatever the progress."""
        return self.value

    def observe(self, dev_loss: float) -> None:
        """Move the multiplier. The first validation only sets the mark; a loss of nan does nothing."""
        if not math.isfinite(dev_loss):
            return
        if math.isfinite(self.best):
            change = self.config.fall if dev_loss < self.best else self.config.rise
            self.value = min(self.config.most, max(self.config.least, self.value * change))
        self.best = min(self.best, dev_loss)

    def state_dict(self) -> dict[str, float]:
        """Multiplier and mark."""
        return {"value": self.value, "best": self.best}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Inverse of `state_dict`; what another schedule left is a beginning."""
        self.value, self.best = state.get("value", 1.0), state.get("best", math.inf)
