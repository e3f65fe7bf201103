"""Dropout of weights as adaptive sparsity (LeJeune et al., arXiv 2106.07769).

In training, the weights of the feed-forward's slice that runs are multiplied by Bernoulli(a) / a, where
a = eta / (eta + lambda) comes from their present sizes (`todm.dropout.penalties`). When training is over,
weights whose a is below a tolerance become exact zeros (`sparsify`), in the averaged supernet itself: so
every spec, extracted net and ONNX folder has them, and `todm.extract` leaves out units with nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from todm.config import DropoutConfig
from todm.dropout.penalties import Penalty, build_penalty, keep_probability
from todm.dropout.rates import SubnetScaledDropout
from todm.nn.dropout import NO_DROPOUT, DropoutPlan
from todm.nn.weights import FeedForwardWeights
from todm.space.blocks import FFN_DIM
from todm.space.space import SearchSpace
from todm.space.spec import SubnetSpec

IN_WEIGHT, OUT_WEIGHT = ".ffn.in_proj.weight", ".ffn.out_proj.weight"


@dataclass(frozen=True)
class WeightMask:
    """Multiplies weights by Bernoulli(a) / max(a, floor).

    A weight near zero is kept in a of the steps and scaled by 1/a there, its gradient too, so that a single
    step can change it by any amount. The floor limits the scale: weights with a below it are smaller in
    expectation than without dropout; they become zeros after training. The floor is this project's addition;
    0 disables it.

    Args:
        penalty: gives eta.
        strength: lambda.
        units: use one a and one draw for all out-weights of a hidden unit, instead of one for every weight.
        floor: smallest divisor, 0 to below 1.
    """

    penalty: Penalty
    strength: float
    units: bool = False
    floor: float = 0.0

    def scaled(self, factor: float) -> WeightMask:
        """Multiply lambda by `factor`."""
        return replace(self, strength=self.strength * factor)

    def __call__(self, weights: FeedForwardWeights, generator: torch.Generator | None) -> FeedForwardWeights:
        """Mask the weights of a batch; gradients reach those that are kept."""
        if self.strength == 0.0:
            return weights
        out_weight = weights.out_weight * self._mask(out_sizes(weights.out_weight, self.units), generator)
        if self.units:
            return weights._replace(out_weight=out_weight)
        in_weight = weights.in_weight * self._mask(weights.in_weight.detach().abs(), generator)
        return weights._replace(in_weight=in_weight, out_weight=out_weight)

    def _mask(self, sizes: Tensor, generator: torch.Generator | None) -> Tensor:
        keep = keep_probability(sizes, self.penalty, self.strength)
        # A weight of size 0 may have a = 0; it is never kept, and 0 / 0 must be avoided.
        floor = max(self.floor, torch.finfo(keep.dtype).tiny)
        return torch.bernoulli(keep, generator=generator) / keep.clamp(min=floor)


def out_sizes(out_weight: Tensor, units: bool) -> Tensor:
    """Absolute values of out-weights (D, F), or root mean squares of the units' (1, F)."""
    weight = out_weight.detach()
    return weight.square().mean(0, keepdim=True).sqrt() if units else weight.abs()


class ReweightedDropout:
    """Drops weights instead of hidden units, and other sites as `SubnetScaledDropout` does.

    Lambda follows the width as a rate does, lambda' = lambda c'/c. That choice is this project's.

    Args:
        config: its rate applies to the other sites; the section ``reweighted`` gives penalty and lambda.
        space: gives the full width and depth.
    """

    def __init__(self, config: DropoutConfig, space: SearchSpace) -> None:
        self.others = SubnetScaledDropout(config, space)
        self.mask = WeightMask(
            build_penalty(config.reweighted),
            config.reweighted.strength,
            units=config.reweighted.units,
            floor=config.reweighted.tolerance,
        )

    def plan(self, spec: SubnetSpec, progress: float = 0.0) -> DropoutPlan:
        """Mask the weights of every layer, in place of a rate for the hidden units."""
        layers = self.others.plan(spec, progress).layers
        shares = self.others.shares(spec, FFN_DIM)
        return DropoutPlan(
            tuple(
                replace(layer, ffn_hidden=NO_DROPOUT, ffn_weights=self.mask.scaled(share))
                for layer, share in zip(layers, shares, strict=True)
            )
        )


@torch.no_grad()
def sparsify(weights: Mapping[str, Tensor], config: DropoutConfig) -> None:
    """Set feed-forward weights whose a is below the tolerance to zero, in place.

    Lambda is the configured value at full width; schedules do not change it.

    Args:
        weights: a state dict of a supernet or a plain net.
        config: section ``train.dropout``; without effect unless its policy is ``reweighted``.
    """
    if config.policy != "reweighted":
        return
    settings = config.reweighted
    penalty = build_penalty(settings)
    for name, weight in weights.items():
        if name.endswith(OUT_WEIGHT):
            sizes = out_sizes(weight, settings.units)
        elif name.endswith(IN_WEIGHT) and not settings.units:
            sizes = weight.abs()
        else:
            continue
        weight.mul_(keep_probability(sizes, penalty, settings.strength) >= settings.tolerance)


def count_ffn_weights(weights: Mapping[str, Tensor]) -> tuple[int, int]:
    """Count the nonzero feed-forward weights of a state dict, and all of them.

    The in-weights of a unit whose out-weights are all zero count as zero, and vice versa.
    """
    nonzero = total = 0
    for name, out_weight in weights.items():
        if not name.endswith(OUT_WEIGHT):
            continue
        in_weight = weights[name.removesuffix(OUT_WEIGHT) + IN_WEIGHT]
        has_output = (out_weight != 0).any(0)
        has_input = (in_weight != 0).any(1)
        nonzero += int((in_weight[has_output] != 0).sum()) + int((out_weight[:, has_input] != 0).sum())
        total += in_weight.numel() + out_weight.numel()
    return nonzero, total
