"""Specs as integer vectors, which is what an evolutionary sampler works on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from todm.config import Mode
from todm.space.space import SearchSpace
from todm.space.spec import SubnetSpec


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """Genes of one mode: the index of the depth, then the index of the width of every supernet layer.

    A layer keeps its gene at every depth, also where the depth skips it, so that a width that was found
    good for a layer survives a change of depth. Several vectors may therefore mean the same spec.

    Args:
        space: what is elastic.
        mode: the mode of every spec; not a gene, because the two modes serve different uses and the nets
            of one are not to be driven out by nets of the other.

    Example:
        >>> space = SearchSpace(num_layers=3, depths=(2, 3), ffn_dims=(8, 16), modes=("offline",))
        >>> encoding = Encoding(space=space, mode="offline")
        >>> encoding.encode(space.max()), encoding.decode((0, 1, 0, 0)).ffn_dims
        ((1, 1, 1, 1), (16, 8))
    """

    space: SearchSpace
    mode: Mode

    @property
    def upper(self) -> tuple[int, ...]:
        """Largest value of each gene; the smallest is 0."""
        return (len(self.space.depths) - 1,) + (len(self.space.ffn_dims) - 1,) * self.space.num_layers

    def decode(self, genes: Sequence[int]) -> SubnetSpec:
        """The spec that `genes` stand for."""
        depth = self.space.depths[int(genes[0])]
        layers = self.space.layers_at(depth)
        widths = tuple(self.space.ffn_dims[int(genes[1 + layer])] for layer in layers)
        return SubnetSpec(layers=layers, ffn_dims=widths, mode=self.mode)

    def encode(self, spec: SubnetSpec) -> tuple[int, ...]:
        """Genes of `spec`; a layer that it skips gets the middle width."""
        dims = self.space.ffn_dims
        genes = [len(dims) // 2] * self.space.num_layers
        for layer, dim in zip(spec.layers, spec.ffn_dims, strict=True):
            genes[layer] = dims.index(dim)
        return (self.space.depths.index(spec.depth), *genes)
