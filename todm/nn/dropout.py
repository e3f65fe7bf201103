"""Dropout as an argument of the pass: a `DropoutPlan` says what is dropped where; modules have no rates.

A policy (`todm.dropout`) turns a spec into a plan. Every site holds a small frozen value that can be printed,
compared and scaled, and that is called with the site's tensor and a generator: a plain rate is a `Drop`, a
policy that needs more brings its own kind.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from todm.kernels import gpu
from todm.nn.weights import FeedForwardWeights

MAX_RATE = 0.95
"""Where a schedule that raises a rate stops."""

_LEVELS = 2**16


class DropoutOp(Protocol):
    """What a site does to its tensor in training."""

    @property
    def strength(self) -> float:
        """The number that a schedule scales; at 0 nothing happens."""
        ...

    def scaled(self, factor: float) -> DropoutOp:
        """The same with `factor` times the strength."""
        ...

    def __call__(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        """A tensor of x's shape whose expectation is `x`."""
        ...


class WeightDropoutOp(Protocol):
    """The same for the weights of a feed-forward: those of the slice that runs."""

    @property
    def strength(self) -> float: ...
    def scaled(self, factor: float) -> WeightDropoutOp: ...
    def __call__(
        self, weights: FeedForwardWeights, generator: torch.Generator | None
    ) -> FeedForwardWeights: ...


@dataclass(frozen=True)
class Drop:
    """Inverted dropout of single elements.

    Args:
        rate: 0 to below 1.
    """

    rate: float

    @property
    def strength(self) -> float:
        """The rate."""
        return self.rate

    def scaled(self, factor: float) -> Drop:
        """At `factor` times the rate, `MAX_RATE` at most."""
        return self if factor == 1.0 else Drop(min(MAX_RATE, self.rate * factor))

    def __call__(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        """See `drop`."""
        return drop(x, self.rate, generator)


NO_DROPOUT = Drop(0.0)


@dataclass(frozen=True, kw_only=True)
class LayerDropout:
    """What one encoder layer drops.

    Args:
        ssm_out: on the SSM branch (N, T, D) before it is added back.
        ffn_weights: on the weights of the feed-forward's slice; None leaves them alone.
        ffn_gate: on the keep probabilities (N, T, F) of a gated feed-forward.
        ffn_hidden: on the hidden units (N, T, F), after the activation.
        ffn_out: on the feed-forward branch (N, T, D) before it is added back.
    """

    ssm_out: DropoutOp = NO_DROPOUT
    ffn_weights: WeightDropoutOp | None = None
    ffn_gate: DropoutOp = NO_DROPOUT
    ffn_hidden: DropoutOp = NO_DROPOUT
    ffn_out: DropoutOp = NO_DROPOUT


NO_LAYER_DROPOUT = LayerDropout()


@dataclass(frozen=True)
class DropoutPlan:
    """What one pass at one spec drops.

    Args:
        layers: one entry per running layer, in order.
    """

    layers: tuple[LayerDropout, ...]

    @classmethod
    def none(cls, depth: int) -> DropoutPlan:
        """No dropout in `depth` layers."""
        return cls((LayerDropout(),) * depth)

    def scaled(self, factor: float) -> DropoutPlan:
        """`factor` times the strength everywhere."""
        if factor == 1.0:
            return self
        layers = []
        for layer in self.layers:
            scaled: dict[str, Any] = {site: noise.scaled(factor) for site, noise in _sites(layer)}
            layers.append(replace(layer, **scaled))
        return DropoutPlan(tuple(layers))

    def strengths(self) -> dict[str, float]:
        """Mean strength of every site that does something, over the layers."""
        totals: dict[str, float] = {}
        for layer in self.layers:
            for site, noise in _sites(layer):
                totals[site] = totals.get(site, 0.0) + noise.strength / len(self.layers)
        return {site: total for site, total in totals.items() if total > 0.0}


def _sites(layer: LayerDropout) -> list[tuple[str, DropoutOp | WeightDropoutOp]]:
    values = ((field.name, getattr(layer, field.name)) for field in fields(layer))
    return [(site, noise) for site, noise in values if noise is not None]


def drop(x: Tensor, rate: float, generator: torch.Generator | None) -> Tensor:
    """Inverted dropout: zero each element with probability `rate`, scale the others by 1 / (1 - rate).

    Args:
        x: any shape.
        rate: 0 to below 1, taken to the nearest 1/65536; 0 returns `x` itself.
        generator: of x's device; None takes torch's own.
    """
    dropped = round(rate * _LEVELS)
    if dropped == 0:
        return x
    kernels = gpu.find_kernels("dropout", x.device)
    if kernels is not None:
        out: Tensor = kernels.drop(x, dropped, _LEVELS, generator)
        return out
    keep = _levels(x, generator) >= dropped - _LEVELS // 2
    return x * keep.to(x.dtype).mul_(_LEVELS / (_LEVELS - dropped))


def sample(probability: Tensor, generator: torch.Generator | None) -> Tensor:
    """1 with the probability that stands there, else 0.

    Args:
        probability: any shape, 0 to 1, taken to the nearest 1/65536.
        generator: of its device; None takes torch's own.
    """
    # A level n is one of 65536 whole numbers from -32768; those with n + 0.5 below the threshold are kept.
    threshold = probability * _LEVELS - (_LEVELS / 2 + 0.5)
    return (_levels(probability, generator) < threshold).to(probability.dtype)


def _levels(like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Uniform int16 of the shape of `like`."""
    # One 64-bit draw serves four elements: drawing costs more than all the rest on a CPU.
    draws = torch.empty((like.numel() + 3) // 4, dtype=torch.int64, device=like.device)
    levels = draws.random_(-(2**63), None, generator=generator).view(torch.int16)
    return levels[: like.numel()].view(like.shape)
