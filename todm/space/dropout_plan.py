"""`DropoutPlan`: the drop rates of one pass, as data.

Nobody sets rates on modules: a policy (see `todm.dropout`) turns a spec into a plan, and the pass reads it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class DropoutPlan:
    """Drop probabilities of one pass at one spec, each 0 to below 1.

    Args:
        ffn_hidden: after the activation of each running layer's feed-forward, in order.
        ffn_out: on each running layer's feed-forward branch before it is added back.
        ssm_out: on each running layer's SSM branch before it is added back.
    """

    ffn_hidden: tuple[float, ...]
    ffn_out: tuple[float, ...]
    ssm_out: tuple[float, ...]

    @classmethod
    def none(cls, depth: int) -> DropoutPlan:
        """No dropout in `depth` layers."""
        zeros = (0.0,) * depth
        return cls(ffn_hidden=zeros, ffn_out=zeros, ssm_out=zeros)
