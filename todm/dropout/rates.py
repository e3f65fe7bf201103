"""Policies of plain rates: the same for all specs, for the largest only, in proportion to the width."""

from __future__ import annotations

from todm.config import DropoutConfig
from todm.nn.dropout import Drop, DropoutPlan, LayerDropout
from todm.space.blocks import FFN_DIM
from todm.space.dimensions import select_blocks
from todm.space.space import SearchSpace
from todm.space.spec import SubnetSpec


def list_branches(spec: SubnetSpec) -> list[str]:
    """Names of the branches of a layer at `spec`, the keys of `LayerDropout.outputs`, in order.

    Example:
        >>> list_branches(SubnetSpec(layers=(0,), widths={"ffn_dim": (8,)}, mode="offline"))
        ['ssm', 'ffn']
    """
    return [block.branch for block in select_blocks(spec.widths)]


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
        layer = LayerDropout(outputs=dict.fromkeys(list_branches(spec), drop), ffn_hidden=drop)
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

    Small nets underfit under the largest net's rate (TODM, Shangguan et al., arXiv 2309.01947). Every branch
    follows the width of its own block; c'/c of a block with several dimensions is their mean. The SSM branch
    has no width to cut; its rate follows the mean of the feed-forward's c'/c over the supernet's layers,
    counting 0 for layers left out. These choices are this project's.

    Args:
        config: its rate is p.
        space: gives the full width and depth.
    """

    def __init__(self, config: DropoutConfig, space: SearchSpace) -> None:
        self.rate = config.rate
        self.space = space

    def plan(self, spec: SubnetSpec, progress: float = 0.0) -> DropoutPlan:
        """Use rates in proportion to each layer's width."""
        overall = Drop(self.rate * sum(self.shares(spec, FFN_DIM)) / self.space.num_layers)
        rates = {}
        for block in select_blocks(spec.widths):
            names = [dimension.name for dimension in block.dimensions]
            shares = zip(*(self.shares(spec, name) for name in names), strict=True)
            drops = [Drop(self.rate * (sum(layer) / len(layer))) for layer in shares]
            rates[block.branch] = drops or [overall] * spec.depth
        hidden = [Drop(self.rate * share) for share in self.shares(spec, FFN_DIM)]
        return DropoutPlan(
            tuple(
                LayerDropout(
                    outputs={branch: drops[index] for branch, drops in rates.items()},
                    ffn_hidden=hidden[index],
                )
                for index in range(spec.depth)
            )
        )

    def shares(self, spec: SubnetSpec, dimension: str) -> list[float]:
        """Return c'/c of each running layer in one dimension."""
        return self.space.layer_shares(spec, dimension)
