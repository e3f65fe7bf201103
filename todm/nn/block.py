"""`Block`: the interface of a residual branch of the encoder layer, and the one function that runs a layer.

Shapes: N batch, T encoder frames, D encoder width, E SSM channels of one direction, S pairs of one
    channel's state.

The same `run_layer` serves the supernet (weights sliced to a spec), the plain net and a streaming chunk: a
pass is a function of the input, the weights of each branch and a `LayerContext`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pkgutil import resolve_name
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from todm.config import ModelConfig
from todm.errors import UserError
from todm.nn.dropout import NO_LAYER_DROPOUT, LayerDropout
from todm.nn.norm import Norm
from todm.space.dimensions import BlockDeclaration
from todm.space.spec import LayerSpec


@dataclass(frozen=True, kw_only=True)
class LayerContext:
    """Inputs of a layer besides ``x`` and the weights.

    Args:
        mask: 1 inside an utterance, 0 after its end, (N, T, 1); None in a streaming chunk.
        state: state before a streaming chunk, (E, N, 2S); None for whole utterances.
        dropout: dropout of the layer.
        generator: random numbers of the dropout; None uses torch's default generator.
    """

    mask: Tensor | None = None
    state: Tensor | None = None
    dropout: LayerDropout = NO_LAYER_DROPOUT
    generator: torch.Generator | None = None


class Block(nn.Module):
    """One residual branch of the encoder layer, without its norm.

    A subclass provides construction, slicing and the pass. Weights are a `NamedTuple` of views, never
    copies, so that gradients of all specs meet in the full tensors.
    """

    @classmethod
    def build(cls, config: ModelConfig, layer: LayerSpec) -> Block:
        """Make the block at the widths and in the mode of `layer`."""
        raise NotImplementedError

    @classmethod
    def prepare(cls, blocks: Sequence[Any], num_frames: int, *, one_chunk: bool = False) -> Sequence[Any]:
        """Compute what all specs share, for all layers at once; one `NamedTuple` of tensors per layer.

        Args:
            blocks: this block in every layer of the net.
            num_frames: T, or the frames of a chunk.
            one_chunk: the frames are one streaming chunk.

        Returns:
            An empty sequence when there is nothing to share.
        """
        return ()

    def slice_weights(self, layer: LayerSpec, prepared: Any = None) -> Any:
        """Weights of `layer` as views of this block's tensors.

        Args:
            layer: widths and mode, at most those of this block.
            prepared: this layer's element of `prepare`.
        """
        raise NotImplementedError

    @staticmethod
    def run(x: Tensor, weights: Any, context: LayerContext) -> tuple[Tensor, Tensor | None]:
        """Compute the branch.

        Args:
            x: normalised input, (N, T, D).
            weights: result of `slice_weights`.
            context: mask, state, dropout.

        Returns:
            the branch's output (N, T, D) and the state after a chunk (None without a state).
        """
        raise NotImplementedError

    def live_widths(self, layer: LayerSpec) -> Mapping[str, int]:
        """Widths without dead units, by dimension; by default those of `layer`."""
        return {}

    def load_slice(self, source: Any, layer: LayerSpec) -> None:
        """Copy the weights of `source` at `layer` into this block, which has the widths of `live_widths`."""
        raise NotImplementedError


class Branch(NamedTuple):
    """One residual branch, ready to run.

    Args:
        block: class that computes the branch, by `Block.run`.
        norm: applied to the input.
        weights: result of `Block.slice_weights`.
        name: declared name of the branch, by which `LayerDropout.outputs` lists its dropout.
    """

    block: type[Block]
    norm: Norm
    weights: Any
    name: str


def run_layer(x: Tensor, branches: Iterable[Branch], context: LayerContext) -> tuple[Tensor, Tensor | None]:
    """Run the residual branches of one encoder layer in order: ``x + dropout(block(norm(x)))``.

    Args:
        x: (N, T, D).
        branches: norm, weights and function of each branch.
        context: mask, state, dropout.

    Returns:
        output (N, T, D) and the state after a chunk (None for whole utterances).
    """
    state = None
    for branch in branches:
        out, after = branch.block.run(branch.norm(x), branch.weights, context)
        if after is not None:
            assert state is None, "one block per layer can have a streaming state"
            state = after
        x = x + context.dropout.output(branch.name)(out, context.generator)
    return x, state


def load_block_class(declaration: BlockDeclaration) -> type[Block]:
    """Import the torch module of a declared block; `UserError` if there is none."""
    try:
        block = resolve_name(declaration.module)
    except (ImportError, AttributeError) as error:
        raise UserError(
            f"block {declaration.name}: {declaration.module} cannot be imported ({error}); install its "
            "package"
        ) from error
    assert issubclass(block, Block), declaration.module
    return block


def narrow(tensor: Tensor, count: int, dim: int = 0) -> Tensor:
    """View of the first `count` elements along `dim`; the tensor itself when that is all of them.

    The gradient of a view is a copy into zeros, which a tensor used whole does not need.
    """
    return tensor if tensor.shape[dim] == count else tensor.narrow(dim, 0, count)
