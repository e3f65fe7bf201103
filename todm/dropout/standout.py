"""Standout (Ba & Frey, NIPS 2013): a hidden unit is kept with a probability that depends on its own activity.

keep = sigmoid(alpha z + beta) is a gate of the model (``model.ffn_gate``, `todm.nn.feedforward`), because its
expectation stays in the net at evaluation. This policy samples from it; every other policy leaves it at its
expectation, which is standout without its noise.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from todm.config import DropoutConfig
from todm.dropout.rates import SubnetScaledDropout
from todm.nn.dropout import NO_DROPOUT, DropoutPlan, sample
from todm.space.space import SearchSpace
from todm.space.spec import SubnetSpec


@dataclass(frozen=True)
class SampledGate:
    """keep + strength (m - keep), m being 1 with probability keep and else 0.

    The expectation is keep, whatever the strength: a schedule leaves what evaluation computes alone. The
    gradient is that of the expectation (straight through, Bengio et al., arXiv 1308.3432): it reaches alpha,
    beta and z. That choice is this project's.

    Args:
        strength: 0 (the expectation itself) to 1 (Bernoulli).
    """

    strength: float

    def scaled(self, factor: float) -> SampledGate:
        """Multiply the strength by `factor`, up to 1."""
        return SampledGate(min(1.0, self.strength * factor))

    def __call__(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        """Turn keep probabilities into a mask of the same shape."""
        if self.strength == 0.0:
            return x
        probability = x.detach()
        return x + self.strength * (sample(probability, generator) - probability)


class StandoutDropout:
    """Drops hidden units by their activity, and other sites as `SubnetScaledDropout` does.

    A unit of a slice has the same pre-activation as in the whole, so the keep probability needs no width.

    Args:
        config: its rate applies to the other sites.
        space: gives the full width and depth.
    """

    def __init__(self, config: DropoutConfig, space: SearchSpace) -> None:
        self.others = SubnetScaledDropout(config, space)

    def plan(self, spec: SubnetSpec, progress: float = 0.0) -> DropoutPlan:
        """Sample the gate in every layer, in place of a rate for the hidden units."""
        layers = self.others.plan(spec, progress).layers
        return DropoutPlan(
            tuple(replace(layer, ffn_hidden=NO_DROPOUT, ffn_gate=SampledGate(1.0)) for layer in layers)
        )
