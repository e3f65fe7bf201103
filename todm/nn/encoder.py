"""The encoder layer: the declared residual branches, each with a norm in front.

Shapes: N batch, T encoder frames, B frames of a chunk, D encoder width, E channels of a direction, S pairs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from torch import Tensor, nn

from todm.config import ModelConfig
from todm.nn.block import Block, Branch, LayerContext, load_block_class, run_layer
from todm.nn.feedforward import FeedForward
from todm.nn.mhssm import MultiHeadSSM
from todm.nn.norm import Norm, make_norm
from todm.space.dimensions import select_blocks
from todm.space.spec import LayerSpec


class EncoderLayer(nn.Module):
    """One layer with the blocks whose dimensions its spec has (`todm.space.dimensions.select_blocks`).

    Args:
        config: dimensions.
        spec: widths and mode at which the layer is built.
    """

    ssm_norm: Norm
    mhssm: MultiHeadSSM
    ffn_norm: Norm
    ffn: FeedForward

    def __init__(self, config: ModelConfig, spec: LayerSpec) -> None:
        super().__init__()
        self.spec = spec
        self.declarations = select_blocks(spec.dimensions)
        for declaration in self.declarations:
            self.add_module(declaration.norm, make_norm(config.d_model))
            self.add_module(declaration.name, load_block_class(declaration).build(config, spec))

    def block(self, name: str) -> Block:
        """The block with a declared name."""
        return cast(Block, getattr(self, name))

    def slice_branches(self, spec: LayerSpec, prepared: Mapping[str, Any]) -> list[Branch]:
        """The layer's branches at `spec`, for `todm.nn.block.run_layer`.

        Args:
            spec: widths and mode, at most those of this layer.
            prepared: by block name, this layer's element of `Block.prepare`.
        """
        branches = []
        for declaration in self.declarations:
            block = self.block(declaration.name)
            weights = block.slice_weights(spec, prepared.get(declaration.name))
            norm = cast(Norm, getattr(self, declaration.norm))
            branches.append(Branch(type(block), norm, weights, declaration.branch))
        return branches

    def load_slice(self, source: EncoderLayer, spec: LayerSpec) -> None:
        """Copy the weights of `source` at `spec`; this layer has the widths of ``source.live_spec(spec)``."""
        for declaration in self.declarations:
            norm = self.get_submodule(declaration.norm)
            norm.load_state_dict(source.get_submodule(declaration.norm).state_dict())
            self.block(declaration.name).load_slice(source.block(declaration.name), spec)

    def live_spec(self, spec: LayerSpec) -> LayerSpec:
        """`spec` with the widths that remain when dead units are removed."""
        widths = dict(spec.widths)
        for declaration in self.declarations:
            widths.update(self.block(declaration.name).live_widths(spec))
        return LayerSpec(widths=tuple(widths.items()), mode=spec.mode)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(N, T, D) and a mask (N, T, 1), 0 after an utterance's end, to (N, T, D)."""
        return self._run(x, LayerContext(mask=mask))[0]

    def forward_chunk(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """A streaming layer over one chunk: (N, B, D) and (E, N, 2S) to the same shapes."""
        x, after = self._run(x, LayerContext(state=state))
        assert after is not None
        return x, after

    def _run(self, x: Tensor, context: LayerContext) -> tuple[Tensor, Tensor | None]:
        streaming = context.state is not None
        prepared = prepare_layers([self], x.shape[1], one_chunk=streaming)[0]
        return run_layer(x, self.slice_branches(self.spec, prepared), context)


def prepare_layers(
    layers: Sequence[EncoderLayer], num_frames: int, *, one_chunk: bool = False
) -> list[dict[str, Any]]:
    """Compute what all specs share, for each layer by block name (`Block.prepare`).

    Args:
        layers: layers of one net.
        num_frames: T.
        one_chunk: the frames are one streaming chunk.
    """
    prepared: list[dict[str, Any]] = [{} for _ in layers]
    for declaration in layers[0].declarations:
        blocks = [layer.block(declaration.name) for layer in layers]
        shared = type(blocks[0]).prepare(blocks, num_frames, one_chunk=one_chunk)
        for values, item in zip(prepared, shared, strict=False):
            values[declaration.name] = item
    return prepared
