"""Dropout scaled with the sampled subnet (TODM, Shangguan et al., arXiv 2309.01947).

Small nets underfit under the largest net's rate, so a layer that runs at width c' of its full width c drops
with p' = p c'/c.
"""

from __future__ import annotations

from todm.space.dropout_plan import DropoutPlan
from todm.space.space import SearchSpace
from todm.space.spec import SubnetSpec


class SubnetScaledDropout:
    """p' = p c'/c in the feed-forward.

    The SSM branch has no width to cut; its rate follows the net's overall share of the full size, which is
    the mean of c'/c over the supernet's layers, layers left out counting 0. That choice is this project's.

    Args:
        rate: p.
        space: gives the full width and depth.
    """

    def __init__(self, rate: float, space: SearchSpace) -> None:
        self.rate = rate
        self.space = space

    def plan(self, spec: SubnetSpec) -> DropoutPlan:
        """Rates in proportion to each layer's width."""
        whole = self.space.max(spec.mode)
        full = dict(zip(whole.layers, whole.ffn_dims, strict=True))
        shares = [dim / full[layer] for layer, dim in zip(spec.layers, spec.ffn_dims, strict=True)]
        scaled = tuple(self.rate * share for share in shares)
        overall = self.rate * sum(shares) / self.space.num_layers
        return DropoutPlan(ffn_hidden=scaled, ffn_out=scaled, ssm_out=(overall,) * spec.depth)
