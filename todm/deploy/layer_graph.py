"""One encoder layer as ONNX nodes: the declared blocks, each with its norm and residual sum.

A block's ONNX form is a function of the type `BlockGraph`, named in its declaration
(`todm.space.dimensions`), so that `todm.nn` does not depend on ONNX.

Shapes: N batch, T encoder frames, B frames of a chunk, D encoder width, E channels of a direction, S pairs.
"""

from __future__ import annotations

from dataclasses import dataclass
from pkgutil import resolve_name
from typing import Any, Protocol

import numpy as np
from torch import Tensor, nn

from todm.deploy.graph import Graph
from todm.nn.encoder import EncoderLayer


@dataclass(frozen=True, kw_only=True)
class LayerNodes:
    """Names of the tensors that a layer needs besides its input.

    Args:
        name: prefix of the layer's nodes, ``layer0`` and so on.
        mask: 1 inside an utterance, (N, T, 1); empty in a streaming graph.
        frames: number of encoder frames, (1,) int64; empty in a streaming graph.
        chunk: B, frames of a chunk; 0 in an offline graph.
        state: state before the chunk, (E, N, 2S); empty in an offline graph.
    """

    name: str
    mask: str = ""
    frames: str = ""
    chunk: int = 0
    state: str = ""


class BlockGraph(Protocol):
    """ONNX form of a block."""

    def __call__(self, graph: Graph, block: Any, x: str, nodes: LayerNodes) -> tuple[str, str]:
        """Add the block's nodes.

        Args:
            graph: graph under construction.
            block: torch module of the block, with the weights to store.
            x: normalised input, (N, T, D).
            nodes: mask, frames, state.

        Returns:
            the branch's output (N, T, D) and the state after a chunk (empty without a state).
        """
        ...


def add_layer(graph: Graph, layer: EncoderLayer, x: str, nodes: LayerNodes) -> tuple[str, str]:
    """Add one encoder layer; returns its output (N, T, D) and the state after a chunk (empty offline)."""
    state = ""
    for declaration in layer.declarations:
        norm = layer.get_submodule(declaration.norm)
        assert isinstance(norm, nn.LayerNorm)
        normed = add_norm(graph, x, norm, f"{nodes.name}.{declaration.norm}")
        add_block: BlockGraph = resolve_name(declaration.graph)
        branch, after = add_block(graph, layer.block(declaration.name), normed, nodes)
        state = after or state
        x = graph.op("Add", x, branch)
    return x, state


def to_array(tensor: Tensor | None) -> np.ndarray:
    """Values of a tensor as a numpy array."""
    assert tensor is not None
    return np.asarray(tensor.detach().cpu().numpy())


def add_linear(graph: Graph, x: str, module: nn.Linear, name: str) -> str:
    """Add a linear map with the weights of `module`."""
    return graph.linear(x, to_array(module.weight), to_array(module.bias), name)


def add_norm(graph: Graph, x: str, module: nn.LayerNorm, name: str) -> str:
    """Add a layer norm with the weights of `module`."""
    scale = graph.constant(to_array(module.weight), f"{name}.weight")
    bias = graph.constant(to_array(module.bias), f"{name}.bias")
    return graph.op("LayerNormalization", x, scale, bias, axis=-1, epsilon=module.eps, name=name)
