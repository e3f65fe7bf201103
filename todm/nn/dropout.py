"""Dropout as an argument of the pass: a `DropoutPlan` has the operation of each site; modules have none.

A policy (`todm.dropout`) turns a spec into a plan. Every site holds a small frozen object that can be
printed, compared, scaled, and called with the site's tensor and a generator: `Drop` for a plain rate, or a
class of the policy's own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from todm.kernels import gpu
from todm.nn.weights import FeedForwardWeights

MAX_RATE = 0.95
"""Upper limit of a scheduled rate."""

_LEVELS = 2**16


class DropoutOp(Protocol):
    """Operation of one site in training."""

    @property
    def strength(self) -> float:
        """Number that a schedule scales; 0 is the identity."""
        ...

    def scaled(self, factor: float) -> DropoutOp:
        """Copy with `factor` times the strength."""
        ...

    def __call__(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        """Apply the operation: a tensor of x's shape with expectation `x`."""
        ...


class WeightDropoutOp(Protocol):
    """Operation on the weights of a feed-forward, sliced to the running width."""

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
        """Rate of the dropout."""
        return self.rate

    def scaled(self, factor: float) -> Drop:
        """At `factor` times the rate, `MAX_RATE` at most."""
        return self if factor == 1.0 else Drop(min(MAX_RATE, self.rate * factor))

    def __call__(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        """Apply `drop` at this rate."""
        return drop(x, self.rate, generator)


NO_DROPOUT = Drop(0.0)


@dataclass(frozen=True, kw_only=True)
class LayerDropout:
    """Dropout of one encoder layer.

    Args:
        outputs: by branch (`BlockDeclaration.branch`: ``ssm``, ``ffn``, those of further blocks), applied to
            the branch (N, T, D) before it is added back. A branch that is not listed has no dropout;
            `todm.dropout.rates.list_branches` gives those of a spec.
        ffn_weights: applied to the weights of the feed-forward's slice; None for no change.
        ffn_gate: applied to the keep probabilities (N, T, F) of a gated feed-forward.
        ffn_hidden: applied to the hidden units (N, T, F), after the activation.
    """

    outputs: Mapping[str, DropoutOp] = field(default_factory=dict)
    ffn_weights: WeightDropoutOp | None = None
    ffn_gate: DropoutOp = NO_DROPOUT
    ffn_hidden: DropoutOp = NO_DROPOUT

    def output(self, branch: str) -> DropoutOp:
        """Dropout of a branch's output."""
        return self.outputs.get(branch, NO_DROPOUT)

    def scaled(self, factor: float) -> LayerDropout:
        """Copy with `factor` times the strength at every site."""
        return LayerDropout(
            outputs={branch: op.scaled(factor) for branch, op in self.outputs.items()},
            ffn_weights=None if self.ffn_weights is None else self.ffn_weights.scaled(factor),
            ffn_gate=self.ffn_gate.scaled(factor),
            ffn_hidden=self.ffn_hidden.scaled(factor),
        )

    def sites(self) -> Iterator[tuple[str, DropoutOp | WeightDropoutOp]]:
        """Name and operation of every site: ``{branch}_out`` for outputs, the field's name for the others."""
        for branch, op in self.outputs.items():
            yield f"{branch}_out", op
        if self.ffn_weights is not None:
            yield "ffn_weights", self.ffn_weights
        yield "ffn_gate", self.ffn_gate
        yield "ffn_hidden", self.ffn_hidden


NO_LAYER_DROPOUT = LayerDropout()


@dataclass(frozen=True)
class DropoutPlan:
    """Dropout of one pass at one spec.

    Args:
        layers: one entry per running layer, in order.
    """

    layers: tuple[LayerDropout, ...]

    @classmethod
    def none(cls, depth: int) -> DropoutPlan:
        """Plan without dropout for `depth` layers."""
        return cls((LayerDropout(),) * depth)

    def scaled(self, factor: float) -> DropoutPlan:
        """Copy with `factor` times the strength at every site."""
        return self if factor == 1.0 else DropoutPlan(tuple(layer.scaled(factor) for layer in self.layers))

    def strengths(self) -> dict[str, float]:
        """Mean strength over the layers of every site with a strength above 0."""
        totals: dict[str, float] = {}
        for layer in self.layers:
            for site, op in layer.sites():
                totals[site] = totals.get(site, 0.0) + op.strength / len(self.layers)
        return {site: total for site, total in totals.items() if total > 0.0}


def drop(x: Tensor, rate: float, generator: torch.Generator | None) -> Tensor:
    """Inverted dropout: zero each element with probability `rate`, scale the others by 1 / (1 - rate).

    Args:
        x: any shape.
        rate: at least 0 and below 1, rounded to 1/65536; 0 returns `x` itself.
        generator: on x's device; None uses torch's default generator.
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
    """Bernoulli sample per element.

    Args:
        probability: any shape, 0 to 1, rounded to 1/65536.
        generator: on its device; None uses torch's default generator.
    """
    # A level n is one of 65536 whole numbers from -32768; those with n + 0.5 below the threshold are kept.
    threshold = probability * _LEVELS - (_LEVELS / 2 + 0.5)
    return (_levels(probability, generator) < threshold).to(probability.dtype)


def _levels(like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Uniform int16 of the shape of `like`."""
    # One 64-bit draw gives four levels: drawing is the most expensive part on a CPU.
    draws = torch.empty((like.numel() + 3) // 4, dtype=torch.int64, device=like.device)
    levels = draws.random_(-(2**63), None, generator=generator).view(torch.int16)
    return levels[: like.numel()].view(like.shape)
