"""Penalties of adaptive sparsity and their eta (LeJeune et al., arXiv 2106.07769).

Dropout of a weight w with keep probability a adds, for a linear layer's squared error, the penalty
0.5 (1 - a)/a x^2 w^2 in expectation. With a = eta / (eta + lambda) that is lambda x^2 w^2 / (2 eta), and
eta = |w| / omega'(|w|), computed anew from the weights before every batch, makes it an iteratively reweighted
least-squares step on lambda omega(|w|).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from todm.config import ReweightedConfig
from todm.errors import UserError

Penalty = Callable[[Tensor], Tensor]
"""Sizes |w|, any shape, at least 0, to eta of the same shape, 0 to infinity."""


def l1(config: ReweightedConfig) -> Penalty:
    """L1 penalty, omega = w."""
    return lambda w: w


def lp(config: ReweightedConfig) -> Penalty:
    """Lp penalty, omega = w^p / p."""
    if not 0.0 < config.exponent <= 2.0:
        raise UserError(f"train.dropout.reweighted.exponent: must be above 0, to 2, got {config.exponent}")
    return lambda w: w ** (2.0 - config.exponent)


def log_sum(config: ReweightedConfig) -> Penalty:
    """Log-sum penalty, omega = log(w + eps)."""
    epsilon = _check_epsilon(config)
    return lambda w: w * (w + epsilon)


def log2_sum(config: ReweightedConfig) -> Penalty:
    """Log-sum penalty of squares, omega = log(w^2 + eps)."""
    epsilon = _check_epsilon(config)
    return lambda w: (w * w + epsilon) / 2.0


def mcp(config: ReweightedConfig) -> Penalty:
    """Minimax concave penalty (Zhang, 2010): slope 1 - w / (alpha lambda) up to alpha lambda, 0 beyond."""
    knee = _compute_knee(config, above=0.0)
    return lambda w: torch.where(w < knee, knee * w / (knee - w).clamp(min=0.0), math.inf)


def scad(config: ReweightedConfig) -> Penalty:
    """SCAD (Fan & Li, 2001): slope 1 up to lambda, falling to 0 at alpha lambda."""
    knee = _compute_knee(config, above=1.0)
    first = config.strength

    def eta(w: Tensor) -> Tensor:
        falling = (knee - first) * w / (knee - w).clamp(min=0.0)
        return torch.where(w <= first, w, torch.where(w < knee, falling, math.inf))

    return eta


def standout(config: ReweightedConfig) -> Penalty:
    """Standout's keep probability sigmoid(w), by eta = lambda e^w."""
    return lambda w: config.strength * w.exp()


PENALTIES: dict[str, Callable[[ReweightedConfig], Penalty]] = {
    "l1": l1,
    "lp": lp,
    "log_sum": log_sum,
    "log2_sum": log2_sum,
    "mcp": mcp,
    "scad": scad,
    "standout": standout,
}


def build_penalty(config: ReweightedConfig) -> Penalty:
    """The eta that `config` names; `UserError` for an unknown penalty or an impossible number."""
    if config.penalty not in PENALTIES:
        raise UserError(
            f"train.dropout.reweighted.penalty: {config.penalty!r} is not a penalty; choose one of "
            f"{', '.join(PENALTIES)}"
        )
    if not config.strength > 0.0:
        raise UserError(f"train.dropout.reweighted.strength: must be above 0, got {config.strength}")
    return PENALTIES[config.penalty](config)


def keep_probability(sizes: Tensor, penalty: Penalty, strength: float) -> Tensor:
    """Compute a = eta / (eta + lambda), 1 where eta is infinite, in the shape of `sizes`."""
    # 1 / (1 + lambda / eta) is also defined at eta = infinity and at 0.
    return 1.0 / (1.0 + strength / penalty(sizes))


def _check_epsilon(config: ReweightedConfig) -> float:
    if not config.epsilon > 0.0:
        raise UserError(f"train.dropout.reweighted.epsilon: must be above 0, got {config.epsilon}")
    return config.epsilon


def _compute_knee(config: ReweightedConfig, *, above: float) -> float:
    if not config.concavity > above:
        raise UserError(
            f"train.dropout.reweighted.concavity: must be above {above:g} for {config.penalty}, "
            f"got {config.concavity}"
        )
    return config.concavity * config.strength
