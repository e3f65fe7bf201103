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
    lr_batches: float = 7500.0,
    lr_epochs: float = 3.5,
    warmup_batches: int = 500,
) -> float:
    """Eden's factor on the base learning rate (Zipformer, Yao et al., arXiv 2310.11230, section 3.5).

    ``((b^2 + Lb^2) / Lb^2)^-0.25 * ((e^2 + Le^2) / Le^2)^-0.25 * warm``, warm rising linearly from
    0.5 to 1.

    Args:
        step: batches done so far, b.
        epoch: epochs done so far, e; fractions allowed.
        lr_batches: time constant Lb in batches.
        lr_epochs: time constant Le in epochs.
        warmup_batches: length of the warm-up; 0 for none.

    Returns:
        A factor in (0, 1].

    Example:
        >>> eden(0, 0), round(eden(7500, 0), 4), eden(500, 0) > eden(499, 0)
        (0.5, 0.8409, True)
    """
    by_step: float = ((step / lr_batches) ** 2 + 1) ** -0.25
    by_epoch: float = ((epoch / lr_epochs) ** 2 + 1) ** -0.25
    progress = min(1.0, step / warmup_batches) if warmup_batches > 0 else 1.0
    return by_step * by_epoch * (WARMUP_START + (1 - WARMUP_START) * progress)


def cosine(step: float, *, total_steps: int, warmup_batches: int = 500, final: float = 0.02) -> float:
    """Linear warm-up, then half a cosine from 1 down to `final` at `total_steps` and constant after it.

    Args:
        step: batches done so far.
        total_steps: batches of the whole run, above `warmup_batches`.
        warmup_batches: length of the warm-up; batch i of it runs at (i + 1) / warmup_batches.
        final: last factor, 0 to 1.

    Returns:
        A factor in [0, 1].

    Example:
        >>> [round(cosine(s, total_steps=110, warmup_batches=10, final=0.1), 2) for s in (0, 10, 60, 110)]
        [0.1, 1.0, 0.55, 0.1]
    """
    if step < warmup_batches:
        return (step + 1) / warmup_batches
    progress = min(1.0, (step - warmup_batches) / max(1, total_steps - warmup_batches))
    return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * progress))


class Schedule:
    """Sets ``lr = base_lr * factor`` on every group of an optimiser, the SSM's group included.

    Args:
        optimizer: groups carry ``base_lr`` (see `todm.train.optim.build_optimizer`); without it the
            group's present ``lr`` is the base.
        config: which schedule, and its constants.
        total_steps: batches of the whole run; ``cosine`` needs it.

    Raises:
        UserError: cosine with a warm-up as long as the run.
    """

    def __init__(self, optimizer: Optimizer, config: OptimConfig, *, total_steps: int) -> None:
        if config.schedule == "cosine" and total_steps <= config.warmup_batches:
            raise UserError(
                f"train.optim.warmup_batches: {config.warmup_batches} is not below the {total_steps} batches "
                "of the whole run; shorten the warm-up or train longer"
            )
        if config.lr_batches <= 0 or config.lr_epochs <= 0 or config.warmup_batches < 0:
            raise UserError(
                "train.optim: lr_batches and lr_epochs must be above 0, warmup_batches at least 0"
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
                warmup_batches=config.warmup_batches,
                final=config.final_lr,
            )
        return eden(
            step,
            epoch,
            lr_batches=config.lr_batches,
            lr_epochs=config.lr_epochs,
            warmup_batches=config.warmup_batches,
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
