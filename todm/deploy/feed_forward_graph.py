"""ONNX form of the feed-forward."""

from __future__ import annotations

from todm.deploy.graph import Graph
from todm.deploy.layer_graph import LayerNodes, add_linear, to_array
from todm.nn.feedforward import FeedForward


def add_feed_forward(graph: Graph, block: FeedForward, x: str, nodes: LayerNodes) -> tuple[str, str]:
    """Add the feed-forward: (N, T, D) to (N, T, D), without a state."""
    name = f"{nodes.name}.ffn"
    z = add_linear(graph, x, block.in_proj, f"{name}.in_proj")
    hidden = graph.silu(z)
    if block.gate_scale is not None:
        z = graph.op("Mul", z, graph.constant(to_array(block.gate_scale), f"{name}.gate_scale"))
        z = graph.op("Add", z, graph.constant(to_array(block.gate_bias), f"{name}.gate_bias"))
        hidden = graph.op("Mul", hidden, graph.op("Sigmoid", z))
    return add_linear(graph, hidden, block.out_proj, f"{name}.out_proj"), ""
