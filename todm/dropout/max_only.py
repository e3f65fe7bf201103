"""Dropout in the largest net only (AlphaNet, Wang et al., arXiv 2102.07954): the students have none."""

from __future__ import annotations

from todm.config import DropoutConfig
from todm.dropout.constant import ConstantDropout
from todm.nn.dropout import DropoutPlan
from todm.space.space import SearchSpace
from todm.space.spec import SubnetSpec


class MaxOnlyDropout:
    """p' = p at the largest spec of a mode, 0 elsewhere.

    Args:
        config: its rate is p.
        space: says which specs are the largest.
    """

    def __init__(self, config: DropoutConfig, space: SearchSpace) -> None:
        self.largest = ConstantDropout(config, space)
        self.space = space

    def plan(self, spec: SubnetSpec, progress: float = 0.0) -> DropoutPlan:
        """The rate at every site of the largest spec, none elsewhere."""
        if spec == self.space.max(spec.mode):
            return self.largest.plan(spec, progress)
        return DropoutPlan.none(spec.depth)
