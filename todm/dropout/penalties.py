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

Penalty = Callable[[Tensor], Tensor]
"""Sizes |w|, any shape, at least 0, to eta of the same shape, 0 to infinity."""


def l1(config: ReweightedConfig) -> Penalty:
    """L1 penalty, omega = w."""
    return lambda w: w


def lp(config: ReweightedConfig) -> Penalty:
    """Lp penalty, omega = w^p / p."""
    return lambda w: w ** (2.0 - config.exponent)


def log_sum(config: ReweightedConfig) -> Penalty:
    """Log-sum penalty, omega = log(w + eps)."""
    return lambda w: w * (w + config.epsilon)


def log2_sum(config: ReweightedConfig) -> Penalty:
    """Log-sum penalty of squares, omega = log(w^2 + eps)."""
    return lambda w: (w * w + config.epsilon) / 2.0


def mcp(config: ReweightedConfig) -> Penalty:
    """Minimax concave penalty (Zhang, 2010): slope 1 - w / (alpha lambda) up to alpha lambda, 0 beyond."""
    knee = config.concavity * config.strength
    return lambda w: torch.where(w < knee, knee * w / (knee - w).clamp(min=0.0), math.inf)


def scad(config: ReweightedConfig) -> Penalty:
    """SCAD (Fan & Li, 2001): slope 1 up to lambda, falling to 0 at alpha lambda."""
    knee = config.concavity * config.strength
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
    """Build the eta that `config` names."""
    return PENALTIES[config.penalty](config)


def keep_probability(sizes: Tensor, penalty: Penalty, strength: float) -> Tensor:
    """Compute a = eta / (eta + lambda), 1 where eta is infinite, in the shape of `sizes`."""
    # 1 / (1 + lambda / eta) is also defined at eta = infinity and at 0.
    return 1.0 / (1.0 + strength / penalty(sizes))
