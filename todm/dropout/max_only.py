"""Dropout in the largest net only (AlphaNet, Wang et al., arXiv 2102.07954): the students have none."""

from __future__ import annotations

from todm.space.dropout_plan import DropoutPlan
from todm.space.space import SearchSpace
from todm.space.spec import SubnetSpec


class MaxOnlyDropout:
    """p' = p at the largest spec of a mode, 0 elsewhere.

    Args:
        rate: p.
        space: says which specs are the largest.
    """

    def __init__(self, rate: float, space: SearchSpace) -> None:
        self.rate = rate
        self.space = space

    def plan(self, spec: SubnetSpec) -> DropoutPlan:
        """The rate at every site of the largest spec, none elsewhere."""
        rates = (self.rate if spec == self.space.max(spec.mode) else 0.0,) * spec.depth
        return DropoutPlan(ffn_hidden=rates, ffn_out=rates, ssm_out=rates)
