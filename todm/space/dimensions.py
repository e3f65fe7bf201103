"""The declared blocks of an encoder layer and the elastic dimensions they bring.

A layer is a sequence of residual branches, ``x + block(norm(x))``. A `BlockDeclaration` states what is
known about a block without torch: its names, its elastic dimensions, its counts, and where its torch module
and its ONNX form are. Everything else (specs, spaces, search, costs, extraction, export) runs over
`list_blocks`. To add an elastic dimension, write the block in one file and add one line to `BLOCKS`; see
``docs/how-to/add-an-elastic-dimension.md``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pkgutil import resolve_name
from typing import Protocol

from todm.config import ModelConfig
from todm.errors import UserError
from todm.space.blocks import FFN_DIM
from todm.space.spec import LayerSpec


@dataclass(frozen=True, kw_only=True)
class Dimension:
    """An elastic dimension: every running layer has one width of it.

    Args:
        name: key in ``space.widths`` and in `SubnetSpec.widths`.
        meaning: what is counted, one phrase.
    """

    name: str
    meaning: str


class BlockCounts(Protocol):
    """Closed-form counts of one block, without the norm in front of it."""

    def count_params(self, config: ModelConfig, layer: LayerSpec) -> int:
        """Number of parameters: equal to the ``numel()`` sum of the extracted block."""
        ...

    def count_macs(self, config: ModelConfig, layer: LayerSpec) -> int:
        """Multiplications per encoder frame."""
        ...

    def count_state_bytes(self, config: ModelConfig, layer: LayerSpec) -> int:
        """Bytes of one stream's state; 0 for a block without one."""
        ...


@dataclass(frozen=True, kw_only=True)
class BlockDeclaration:
    """One residual branch of an encoder layer.

    Args:
        name: attribute of the layer that holds the block; part of every parameter's name.
        branch: prefix of the norm's attribute (``{branch}_norm``) and of the dropout site (``{branch}_out``).
        dimensions: elastic dimensions of this block; may be empty.
        counts: class with the methods of `BlockCounts` and no arguments, as ``package.module:Class``.
        module: subclass of `todm.nn.block.Block`, as ``package.module:Class``.
        graph: function that writes the block's ONNX nodes (`todm.deploy.layer_graph`), as
            ``package.module:function``.
    """

    name: str
    branch: str
    dimensions: tuple[Dimension, ...] = ()
    counts: str
    module: str
    graph: str

    def load_counts(self) -> BlockCounts:
        """Import the block's counts."""
        counts: BlockCounts = resolve_name(self.counts)()
        return counts

    @property
    def norm(self) -> str:
        """Attribute of the layer that holds the norm in front of the block."""
        return f"{self.branch}_norm"

    @property
    def dropout_site(self) -> str:
        """Field of `todm.nn.dropout.LayerDropout` that applies to the branch's output."""
        return f"{self.branch}_out"


BLOCKS: tuple[BlockDeclaration, ...] = (
    BlockDeclaration(
        name="mhssm",
        branch="ssm",
        counts="todm.space.blocks:MultiHeadSSMCounts",
        module="todm.nn.mhssm:MultiHeadSSM",
        graph="todm.deploy.ssm_graph:add_multi_head_ssm",
    ),
    BlockDeclaration(
        name="ffn",
        branch="ffn",
        dimensions=(Dimension(name=FFN_DIM, meaning="hidden units of the feed-forward"),),
        counts="todm.space.blocks:FeedForwardCounts",
        module="todm.nn.feedforward:FeedForward",
        graph="todm.deploy.feed_forward_graph:add_feed_forward",
    ),
)
"""Blocks of every encoder layer, in the order in which they run."""

_active: ContextVar[tuple[BlockDeclaration, ...]] = ContextVar("blocks", default=BLOCKS)


def list_blocks() -> tuple[BlockDeclaration, ...]:
    """Blocks of an encoder layer, in order: `BLOCKS` unless `use_blocks` is active."""
    return _active.get()


@contextmanager
def use_blocks(blocks: Sequence[BlockDeclaration]) -> Iterator[None]:
    """Replace the declared blocks inside a ``with`` statement, for tests and experiments.

    Args:
        blocks: the layer's blocks in order, for example ``(*BLOCKS, MY_BLOCK)``.
    """
    token = _active.set(tuple(blocks))
    try:
        yield
    finally:
        _active.reset(token)


def list_dimensions() -> tuple[Dimension, ...]:
    """Elastic dimensions of all blocks, in order."""
    return tuple(dimension for block in list_blocks() for dimension in block.dimensions)


def check_dimensions(widths: Mapping[str, Sequence[int]]) -> None:
    """Raise `UserError` unless `widths` has exactly the declared dimensions as keys."""
    known = {dimension.name: dimension.meaning for dimension in list_dimensions()}
    listed = ", ".join(f"{name} ({meaning})" for name, meaning in known.items())
    for name in widths:
        if name not in known:
            raise UserError(f"space.widths.{name}: not an elastic dimension; use {listed}")
    for name in known:
        if name not in widths:
            raise UserError(f"space.widths.{name}: missing; list the widths of {listed}")
