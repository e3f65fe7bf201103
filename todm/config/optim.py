"""Settings ``train.optim.*`` and ``train.collapse.*``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from todm.config.fields import setting
from todm.config.loss import MAX_STEPS


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """Optimiser and learning-rate schedule."""

    name: Literal["scaled_adam", "adamw"] = setting(
        "scaled_adam", "``scaled_adam`` (Zipformer, Yao et al., arXiv 2310.11230) or ``adamw``."
    )
    lr: float = setting(0.045, "Base learning rate; 0.045 suits ScaledAdam, 0.001 AdamW.", gt=0.0, le=100.0)
    ssm_lr: float = setting(
        1e-3, "Learning rate of the SSM's own parameters, which plain Adam trains.", gt=0.0, le=100.0
    )
    betas: tuple[float, float] = setting(
        (0.9, 0.98), "Decay of the first and the second moment.", ge=0.0, lt=1.0
    )
    weight_decay: float = setting(0.01, "Weight decay of AdamW.", ge=0.0, le=100.0)
    clipping_scale: float = setting(
        2.0,
        "Gradients with a norm above this multiple of the recent median are scaled down.",
        gt=0.0,
        le=1e6,
    )
    schedule: Literal["eden", "cosine"] = setting(
        "eden", "Learning-rate schedule; both start with a linear warm-up."
    )
    lr_steps: float = setting(7500.0, "Time constant of Eden in steps.", gt=0.0, le=1e9)
    lr_epochs: float = setting(3.5, "Time constant of Eden in epochs.", gt=0.0, le=1e6)
    warmup_steps: int = setting(500, "Steps of linear warm-up.", ge=0, le=MAX_STEPS)
    final_lr_share: float = setting(
        0.02, "Final learning rate of ``cosine`` as a share of the base learning rate.", ge=0.0, le=1.0
    )


@dataclass(frozen=True, kw_only=True)
class CollapseConfig:
    """Detection of a collapsed run and the reaction (`todm.train.collapse`)."""

    window: int = setting(
        200,
        "Steps over which the losses of the largest and smallest nets are averaged; 0 switches detection "
        "off.",
        ge=0,
        le=MAX_STEPS,
    )
    factor: float = setting(
        2.0, "Two windows in a row this many times worse than the best one are a collapse.", gt=1.0, le=1e6
    )
    lr_scale: float = setting(
        0.5, "Multiplier of the learning rate after going back to a checkpoint.", gt=0.0, lt=1.0
    )
    max_rollbacks: int = setting(5, "The run ends after this many rollbacks.", ge=0, le=1000)
