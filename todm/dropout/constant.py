"""The same rate everywhere, whatever the spec: the control."""

from __future__ import annotations

from todm.config import DropoutConfig
from todm.nn.dropout import Drop, DropoutPlan, LayerDropout
from todm.space.space import SearchSpace
from todm.space.spec import SubnetSpec


class ConstantDropout:
    """p' = p.

    Args:
        config: its rate is p.
        space: unused; every policy is built from the same two.
    """

    def __init__(self, config: DropoutConfig, space: SearchSpace) -> None:
        self.rate = config.rate

    def plan(self, spec: SubnetSpec, progress: float = 0.0) -> DropoutPlan:
        """The constant rate at every site."""
        drop = Drop(self.rate)
        return DropoutPlan((LayerDropout(ssm_out=drop, ffn_hidden=drop, ffn_out=drop),) * spec.depth)
