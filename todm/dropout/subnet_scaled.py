"""Dropout scaled with the sampled subnet (TODM, Shangguan et al., arXiv 2309.01947).

Small nets underfit under the largest net's rate, so a layer that runs at width c' of its full width c drops
with p' = p c'/c.
"""

from __future__ import annotations

from todm.config import DropoutConfig
from todm.nn.dropout import Drop, DropoutPlan, LayerDropout
from todm.space.space import SearchSpace
from todm.space.spec import SubnetSpec


class SubnetScaledDropout:
    """p' = p c'/c in the feed-forward.

    The SSM branch has no width to cut; its rate follows the net's overall share of the full size, which is
    the mean of c'/c over the supernet's layers, layers left out counting 0. That choice is this project's.

    Args:
        config: its rate is p.
        space: gives the full width and depth.
    """

    def __init__(self, config: DropoutConfig, space: SearchSpace) -> None:
        self.rate = config.rate
        self.space = space

    def plan(self, spec: SubnetSpec, progress: float = 0.0) -> DropoutPlan:
        """Rates in proportion to each layer's width."""
        shares = self.shares(spec)
        overall = Drop(self.rate * sum(shares) / self.space.num_layers)
        scaled = [Drop(self.rate * share) for share in shares]
        return DropoutPlan(
            tuple(LayerDropout(ssm_out=overall, ffn_hidden=drop, ffn_out=drop) for drop in scaled)
        )

    def shares(self, spec: SubnetSpec) -> list[float]:
        """c'/c of each running layer."""
        return self.space.layer_shares(spec)
