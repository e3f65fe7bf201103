"""Specs as integer vectors, which is what an evolutionary sampler works on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from todm.config import Mode
from todm.space.space import SearchSpace
from todm.space.spec import SubnetSpec


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """Genes of one mode: the index of the depth, then of each layer's width, dimension by dimension.

    A layer keeps its gene at every depth, also where the depth skips it, so that a width that was found
    good for a layer survives a change of depth. Several vectors may therefore mean the same spec.

    Args:
        space: depths and widths to choose from.
        mode: the mode of every spec. It is not a gene: the modes serve different uses, and one search over
            both would drop the nets of the worse mode.

    Example:
        >>> space = SearchSpace(num_layers=3, depths=(2, 3), widths={"ffn_dim": (8, 16)}, modes=("offline",))
        >>> encoding = Encoding(space=space, mode="offline")
        >>> encoding.encode(space.max()), encoding.decode((0, 1, 0, 0)).width("ffn_dim")
        ((1, 1, 1, 1), (16, 8))
    """

    space: SearchSpace
    mode: Mode

    @property
    def upper(self) -> tuple[int, ...]:
        """Largest value of each gene; the smallest is 0."""
        upper = [len(self.space.depths) - 1]
        for values in self.space.widths.values():
            upper += [len(values) - 1] * self.space.num_layers
        return tuple(upper)

    def decode(self, genes: Sequence[int]) -> SubnetSpec:
        """The spec that `genes` stand for."""
        depth = self.space.depths[int(genes[0])]
        layers = self.space.layers_at(depth)
        widths = {}
        for start, (name, values) in zip(self._starts(), self.space.widths.items(), strict=True):
            widths[name] = tuple(values[int(genes[start + layer])] for layer in layers)
        return SubnetSpec(layers=layers, widths=widths, mode=self.mode)

    def encode(self, spec: SubnetSpec) -> tuple[int, ...]:
        """Genes of `spec`; a layer that it skips gets the middle width."""
        genes = [self.space.depths.index(spec.depth)]
        for name, values in self.space.widths.items():
            places = [len(values) // 2] * self.space.num_layers
            for layer, width in zip(spec.layers, spec.width(name), strict=True):
                places[layer] = values.index(width)
            genes += places
        return tuple(genes)

    def _starts(self) -> range:
        """Index of the first gene of each dimension, in the order of their names."""
        num_layers = self.space.num_layers
        return range(1, 1 + num_layers * len(self.space.widths), num_layers)


def shrink(
    encoding: Encoding,
    excess: Callable[[SubnetSpec], float],
    genes: Sequence[int],
    pick: Callable[[Sequence[int]], int],
) -> list[int]:
    """Lower one gene at a time until the spec is inside the limits or is the smallest one.

    Args:
        encoding: meaning of the genes.
        excess: 0 for specs inside the limits.
        genes: start vector.
        pick: chooses one of several genes.
    """
    genes = [int(gene) for gene in genes]
    while any(genes) and excess(encoding.decode(genes)) > 0:
        genes[int(pick([place for place, gene in enumerate(genes) if gene]))] -= 1
    return genes
