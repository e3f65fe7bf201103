"""Learning-rate schedules as pure functions of step and epoch, and the object that applies them."""

from __future__ import annotations

import math
from typing import Any

from torch.optim import Optimizer

from todm.config import OptimConfig
from todm.errors import UserError

WARMUP_START = 0.5
"""Eden's factor at the first batch of the warm-up."""


def eden(
    step: float,
    epoch: float,
    *,
    lr_steps: float,
    lr_epochs: float,
    warmup_steps: int,
) -> float:
    """Eden's factor on the base learning rate (Zipformer, Yao et al., arXiv 2310.11230, section 3.5).

    ``((b^2 + Lb^2) / Lb^2)^-0.25 * ((e^2 + Le^2) / Le^2)^-0.25 * warm``, warm rising linearly from
    0.5 to 1.

    Args:
        step: steps done so far, b.
        epoch: epochs done so far, e; fractions allowed.
        lr_steps: time constant Lb in steps.
        lr_epochs: time constant Le in epochs.
        warmup_steps: length of the warm-up; 0 for none.

    Returns:
        A factor in (0, 1].

    Example:
        >>> constants = {"lr_steps": 7500.0, "lr_epochs": 3.5, "warmup_steps": 500}
        >>> eden(0, 0, **constants), round(eden(7500, 0, **constants), 4)
        (0.5, 0.8409)
    """
    by_step: float = ((step / lr_steps) ** 2 + 1) ** -0.25
    by_epoch: float = ((epoch / lr_epochs) ** 2 + 1) ** -0.25
    progress = min(1.0, step / warmup_steps) if warmup_steps > 0 else 1.0
    return by_step * by_epoch * (WARMUP_START + (1 - WARMUP_START) * progress)


def cosine(step: float, *, total_steps: int, warmup_steps: int, final: float) -> float:
    """Linear warm-up, then half a cosine from 1 down to `final` at `total_steps` and constant after it.

    Args:
        step: steps done so far.
        total_steps: steps of the whole run, above `warmup_steps`.
        warmup_steps: length of the warm-up; step i of it runs at (i + 1) / warmup_steps.
        final: last factor, 0 to 1.

    Returns:
        A factor in [0, 1].

    Example:
        >>> [round(cosine(s, total_steps=110, warmup_steps=10, final=0.1), 2) for s in (0, 10, 60, 110)]
        [0.1, 1.0, 0.55, 0.1]
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    progress = min(1.0, (step - warmup_steps) / max(1, total_steps - warmup_steps))
    return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * progress))


class Schedule:
    """Sets ``lr = base_lr * factor`` on every group of an optimiser, the SSM's group included.

    Args:
        optimizer: groups carry ``base_lr`` (see `todm.train.optim.build_optimizer`); without it the
            group's present ``lr`` is the base.
        config: which schedule, and its constants.
        total_steps: steps of the whole run; ``cosine`` needs it.

    Raises:
        UserError: cosine with a warm-up as long as the run.
    """

    def __init__(self, optimizer: Optimizer, config: OptimConfig, *, total_steps: int) -> None:
        if config.schedule == "cosine" and total_steps <= config.warmup_steps:
            raise UserError(
                f"train.optim.warmup_steps: {config.warmup_steps} is not below the {total_steps} steps "
                "of the whole run; shorten the warm-up or train longer"
            )
        self._optimizer = optimizer
        self._config = config
        self._total_steps = total_steps
        self._base_lrs = [float(group.get("base_lr", group["lr"])) for group in optimizer.param_groups]
        self._step, self._epoch = 0, 0.0
        self.set(0, 0.0)

    def factor(self, step: int, epoch: float) -> float:
        """The factor on every base learning rate; a pure function."""
        config = self._config
        if config.schedule == "cosine":
            return cosine(
                step,
                total_steps=self._total_steps,
                warmup_steps=config.warmup_steps,
                final=config.final_lr_share,
            )
        return eden(
            step,
            epoch,
            lr_steps=config.lr_steps,
            lr_epochs=config.lr_epochs,
            warmup_steps=config.warmup_steps,
        )

    def set(self, step: int, epoch: float, *, scale: float = 1.0) -> float:
        """Set the groups' ``lr`` for the batch after `step` batches and `epoch` epochs; returns the first.

        Args:
            step: batches done.
            epoch: epochs done, with fraction.
            scale: additional factor on all rates.
        """
        self._step, self._epoch = step, epoch
        factor = scale * self.factor(step, epoch)
        for group, base_lr in zip(self._optimizer.param_groups, self._base_lrs, strict=True):
            group["lr"] = base_lr * factor
        return float(self._optimizer.param_groups[0]["lr"])

    def state_dict(self) -> dict[str, Any]:
        """Return step and epoch; the learning rates follow from the config."""
        return {"step": self._step, "epoch": self._epoch}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Set the rates for the saved step, from the config; call it after loading the optimizer's state."""
        self.set(state["step"], state["epoch"])
