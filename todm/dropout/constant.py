"""The same rate everywhere, whatever the spec: the control."""

from __future__ import annotations

from todm.space.dropout_plan import DropoutPlan
from todm.space.space import SearchSpace
from todm.space.spec import SubnetSpec


class ConstantDropout:
    """p' = p.

    Args:
        rate: p.
        space: unused; every policy is built from the same two.
    """

    def __init__(self, rate: float, space: SearchSpace) -> None:
        self.rate = rate

    def plan(self, spec: SubnetSpec) -> DropoutPlan:
        """The constant rate at every site."""
        rates = (self.rate,) * spec.depth
        return DropoutPlan(ffn_hidden=rates, ffn_out=rates, ssm_out=rates)
