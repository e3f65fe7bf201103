"""An elastic dimension in one file: a bottleneck adapter as third residual branch of every encoder layer.

Declaration, counts, torch module and ONNX form are here; `use_blocks((*BLOCKS, ADAPTER))` registers it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor, nn

from todm.config import ModelConfig
from todm.deploy.graph import Graph
from todm.deploy.layer_graph import LayerNodes, add_linear
from todm.nn.block import Block, LayerContext, narrow
from todm.nn.linear import linear
from todm.space.blocks import count_linear
from todm.space.dimensions import BlockDeclaration, Dimension
from todm.space.spec import LayerSpec


@dataclass(frozen=True)
class AdapterCounts:
    """Counts of the adapter."""

    def count_params(self, config: ModelConfig, layer: LayerSpec) -> int:
        """Two linear maps."""
        units = layer.width("adapter_dim")
        return count_linear(config.d_model, units) + count_linear(units, config.d_model)

    def count_macs(self, config: ModelConfig, layer: LayerSpec) -> int:
        """Two matrix products."""
        return 2 * config.d_model * layer.width("adapter_dim")

    def count_state_bytes(self, config: ModelConfig, layer: LayerSpec) -> int:
        """Always 0."""
        return 0


class AdapterWeights(NamedTuple):
    """Weights of the adapter: (A, D), (A,), (D, A), (D,)."""

    in_weight: Tensor
    in_bias: Tensor
    out_weight: Tensor
    out_bias: Tensor


class Adapter(Block):
    """Linear, ReLU, linear through `num_units` hidden units."""

    def __init__(self, d_model: int, num_units: int) -> None:
        super().__init__()
        self.in_proj = nn.Linear(d_model, num_units)
        self.out_proj = nn.Linear(num_units, d_model)

    @classmethod
    def build(cls, config: ModelConfig, layer: LayerSpec) -> Adapter:
        """Make the adapter at the width of `layer`."""
        return cls(config.d_model, layer.width("adapter_dim"))

    def slice_weights(self, layer: LayerSpec, prepared: Any = None) -> AdapterWeights:
        """The first units, as many as `layer` runs."""
        units = layer.width("adapter_dim")
        return AdapterWeights(
            narrow(self.in_proj.weight, units),
            narrow(self.in_proj.bias, units),
            narrow(self.out_proj.weight, units, dim=1),
            self.out_proj.bias,
        )

    @staticmethod
    def run(x: Tensor, weights: AdapterWeights, context: LayerContext) -> tuple[Tensor, None]:
        """(N, T, D) to (N, T, D)."""
        hidden = linear(x, weights.in_weight, weights.in_bias).relu()
        return linear(hidden, weights.out_weight, weights.out_bias), None

    def load_slice(self, source: Adapter, layer: LayerSpec) -> None:
        """Copy the first units of `source`."""
        own: Sequence[Tensor] = (
            self.in_proj.weight,
            self.in_proj.bias,
            self.out_proj.weight,
            self.out_proj.bias,
        )
        for target, tensor in zip(own, source.slice_weights(layer), strict=True):
            target.copy_(tensor)


def add_adapter(graph: Graph, block: Adapter, x: str, nodes: LayerNodes) -> tuple[str, str]:
    """ONNX form of the adapter."""
    hidden = graph.op("Relu", add_linear(graph, x, block.in_proj, f"{nodes.name}.adapter.in_proj"))
    return add_linear(graph, hidden, block.out_proj, f"{nodes.name}.adapter.out_proj"), ""


ADAPTER = BlockDeclaration(
    name="adapter",
    branch="adapter",
    dimensions=(Dimension(name="adapter_dim", meaning="hidden units of the adapter"),),
    counts="tests.adapter:AdapterCounts",
    module="tests.adapter:Adapter",
    graph="tests.adapter:add_adapter",
)
