"""Mixture of features before and after channel dropout, per layer (Xu et al., arXiv 2506.12738)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from todm.config import DropoutConfig
from todm.dropout.rates import SubnetScaledDropout
from todm.nn.dropout import MAX_RATE, NO_LAYER_DROPOUT, DropoutPlan, drop
from todm.space.space import SearchSpace
from todm.space.spec import SubnetSpec


@dataclass(frozen=True)
class ChannelMix:
    """w x + (1 - w) ChannelDropout(x); a dropped channel is zero in all frames of an utterance.

    Args:
        rate: drop probability of a channel, 0 to below 1.
        weight: w, 0 to 1.
    """

    rate: float
    weight: float

    @property
    def strength(self) -> float:
        """Drop probability of a channel."""
        return self.rate

    def scaled(self, factor: float) -> ChannelMix:
        """Multiply the rate by `factor`, up to `MAX_RATE`."""
        return replace(self, rate=min(MAX_RATE, self.rate * factor))

    def __call__(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        """Mix (N, T, C) with its channel dropout."""
        kept = drop(x.new_ones(x.shape[0], 1, x.shape[2]), self.rate, generator)
        return x * (self.weight + (1.0 - self.weight) * kept)


class MixedDropout:
    """Channel dropout at `SubnetScaledDropout`'s rates, mixed at weight w, until its layer is switched off.

    Layer i of the supernet's L is switched to w = 1, where nothing is dropped, after ``until`` (i + 1) / L of
    the run: front to back. The rate that follows the width is this project's addition.

    Args:
        config: rate (0.5 in the paper) and the section ``mixed``.
        space: gives the full width and depth.
    """

    def __init__(self, config: DropoutConfig, space: SearchSpace) -> None:
        self.config = config.mixed
        self.scaled = SubnetScaledDropout(config, space)
        self.num_layers = space.num_layers

    def plan(self, spec: SubnetSpec, progress: float = 0.0) -> DropoutPlan:
        """Mix at every site of the layers that are not switched off yet."""
        plan = self.scaled.plan(spec, progress)
        layers = []
        for index, layer in zip(spec.layers, plan.layers, strict=True):
            if progress >= self.config.until * (index + 1) / self.num_layers:
                layers.append(NO_LAYER_DROPOUT)
            else:
                weight = self.config.weight
                outputs = {branch: ChannelMix(op.strength, weight) for branch, op in layer.outputs.items()}
                hidden = ChannelMix(layer.ffn_hidden.strength, weight)
                layers.append(replace(layer, outputs=outputs, ffn_hidden=hidden))
        return DropoutPlan(tuple(layers))
