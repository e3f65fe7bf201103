"""Policies of plain rates: the same for all specs, for the largest only, in proportion to the width."""

from __future__ import annotations

from todm.config import DropoutConfig
from todm.nn.dropout import Drop, DropoutPlan, LayerDropout
from todm.space.blocks import FFN_DIM
from todm.space.space import SearchSpace
from todm.space.spec import SubnetSpec


class ConstantDropout:
    """The same rate p for every site and spec: the baseline.

    Args:
        config: its rate is p.
        space: unused; all policies are built from the same two arguments.
    """

    def __init__(self, config: DropoutConfig, space: SearchSpace) -> None:
        self.rate = config.rate

    def plan(self, spec: SubnetSpec, progress: float = 0.0) -> DropoutPlan:
        """Use the constant rate at every site."""
        drop = Drop(self.rate)
        layer = LayerDropout(ssm_out=drop, ffn_hidden=drop, ffn_out=drop, other_out=drop)
        return DropoutPlan((layer,) * spec.depth)


class MaxOnlyDropout:
    """Rate p for the largest spec of a mode, 0 for others (AlphaNet, Wang et al., arXiv 2102.07954).

    Args:
        config: its rate is p.
        space: defines the largest specs.
    """

    def __init__(self, config: DropoutConfig, space: SearchSpace) -> None:
        self.largest = ConstantDropout(config, space)
        self.space = space

    def plan(self, spec: SubnetSpec, progress: float = 0.0) -> DropoutPlan:
        """Use the rate at every site of the largest spec, none elsewhere."""
        if spec == self.space.max(spec.mode):
            return self.largest.plan(spec, progress)
        return DropoutPlan.none(spec.depth)


class SubnetScaledDropout:
    """Rate p' = p c'/c for a layer that runs at width c' of its full width c.

    Small nets underfit under the largest net's rate (TODM, Shangguan et al., arXiv 2309.01947). The SSM
    branch has no width to cut; its rate, and that of any further block, follows the net's overall share of
    the full size, which is the mean of c'/c over the supernet's layers, counting 0 for layers left out. Both
    choices are this project's.

    Args:
        config: its rate is p.
        space: gives the full width and depth.
    """

    def __init__(self, config: DropoutConfig, space: SearchSpace) -> None:
        self.rate = config.rate
        self.space = space

    def plan(self, spec: SubnetSpec, progress: float = 0.0) -> DropoutPlan:
        """Use rates in proportion to each layer's width."""
        shares = self.shares(spec)
        overall = Drop(self.rate * sum(shares) / self.space.num_layers)
        scaled = [Drop(self.rate * share) for share in shares]
        return DropoutPlan(
            tuple(
                LayerDropout(ssm_out=overall, ffn_hidden=drop, ffn_out=drop, other_out=overall)
                for drop in scaled
            )
        )

    def shares(self, spec: SubnetSpec) -> list[float]:
        """Return c'/c of the feed-forward of each running layer."""
        return self.space.layer_shares(spec, FFN_DIM)
