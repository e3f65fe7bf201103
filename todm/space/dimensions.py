"""The declared blocks of an encoder layer and the elastic dimensions they bring.

A layer is a sequence of residual branches, ``x + block(norm(x))``. A `BlockDeclaration` states what is
known about a block without torch: its names, its elastic dimensions, its counts, and where its torch module
and its ONNX form are. Everything else (specs, spaces, search, costs, extraction, export) runs over
`select_blocks`: a net has the blocks whose dimensions its config or spec lists. To add an elastic dimension,
write the block in one file and add one line to `BLOCKS`; see ``docs/how-to/add-an-elastic-dimension.md``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
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
        branch: name of the branch: prefix of the norm's attribute (``{branch}_norm``) and key of the branch's
            dropout (`todm.nn.dropout.LayerDropout.outputs`).
        dimensions: elastic dimensions of this block. A net without widths for them has no such block, unless
            the block is required. Only a required block may have none.
        required: every net has this block, and every config lists the widths of its dimensions.
        counts: class with the methods of `BlockCounts` and no arguments, as ``package.module:Class``.
        module: subclass of `todm.nn.block.Block`, as ``package.module:Class``.
        graph: function that writes the block's ONNX nodes (`todm.deploy.layer_graph`), as
            ``package.module:function``.
    """

    name: str
    branch: str
    dimensions: tuple[Dimension, ...] = ()
    required: bool = False
    counts: str
    module: str
    graph: str

    def __post_init__(self) -> None:
        assert self.required or self.dimensions, f"{self.name}: without a dimension it would be in every net"

    def load_counts(self) -> BlockCounts:
        """Import the block's counts."""
        counts: BlockCounts = resolve_name(self.counts)()
        return counts

    @property
    def norm(self) -> str:
        """Attribute of the layer that holds the norm in front of the block."""
        return f"{self.branch}_norm"


BLOCKS: tuple[BlockDeclaration, ...] = (
    BlockDeclaration(
        name="mhssm",
        branch="ssm",
        required=True,
        counts="todm.space.blocks:MultiHeadSSMCounts",
        module="todm.nn.mhssm:MultiHeadSSM",
        graph="todm.deploy.ssm_graph:add_multi_head_ssm",
    ),
    BlockDeclaration(
        name="ffn",
        branch="ffn",
        required=True,
        dimensions=(Dimension(name=FFN_DIM, meaning="hidden units of the feed-forward"),),
        counts="todm.space.blocks:FeedForwardCounts",
        module="todm.nn.feedforward:FeedForward",
        graph="todm.deploy.feed_forward_graph:add_feed_forward",
    ),
)
"""All blocks that an encoder layer can have, in the order in which they run."""

_active: ContextVar[tuple[BlockDeclaration, ...]] = ContextVar("blocks", default=BLOCKS)


def list_blocks() -> tuple[BlockDeclaration, ...]:
    """All declared blocks, in order: `BLOCKS` unless `use_blocks` is active in this process."""
    return _active.get()


@contextmanager
def use_blocks(blocks: Sequence[BlockDeclaration]) -> Iterator[None]:
    """Replace the declared blocks inside a ``with`` statement, for tests and experiments in one process.

    Processes that are spawned (``search.workers``, ``train.num_processes``) have `BLOCKS`.

    Args:
        blocks: the layer's blocks in order, for example ``(*BLOCKS, MY_BLOCK)``.
    """
    token = _active.set(tuple(blocks))
    try:
        yield
    finally:
        _active.reset(token)


def select_blocks(dimensions: Collection[str]) -> tuple[BlockDeclaration, ...]:
    """Blocks of a net, in order.

    Args:
        dimensions: names of the dimensions that its config or spec lists.

    Raises:
        UserError: a dimension that no block declares, or one that is missing.
    """
    known = {d.name: d.meaning for block in list_blocks() for d in block.dimensions}
    listed = ", ".join(f"{name} ({meaning})" for name, meaning in known.items())
    for name in dimensions:
        if name not in known:
            raise UserError(f"space.widths.{name}: not an elastic dimension; use {listed}")
    present = []
    for block in list_blocks():
        names = [dimension.name for dimension in block.dimensions]
        missing = [name for name in names if name not in dimensions]
        if missing and (block.required or len(missing) < len(names)):
            raise UserError(f"space.widths.{missing[0]} ({known[missing[0]]}): missing; list its widths")
        if not missing:
            present.append(block)
    return tuple(present)
