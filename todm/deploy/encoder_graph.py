"""A plain net's encoder as an ONNX graph, offline or streaming.

Shapes: N batch, T feature frames, T' encoder frames, F mel bins, D encoder width, E channels of a direction,
C SSM channels (E or 2E), S pairs of a channel's state, B frames of a chunk, L layers, J joiner width.
"""

from __future__ import annotations

import numpy as np
from onnx import TensorProto
from torch import nn

from todm.deploy.graph import Graph
from todm.deploy.layer_graph import LayerNodes, add_layer, add_linear, add_norm, to_array
from todm.nn.transducer import Transducer
from todm.runtime.fbank import LOG_FLOOR


def build_offline_encoder(net: Transducer) -> Graph:
    """Build the encoder of whole utterances: x (N, T, 80), x_lens (N,) int64 to encoder_out (N, T', J) and
    its lengths (N,) int64.

    Audio shorter than the first frame's receptive field is padded inside the graph and gives a length of 0.
    The silence that the net appends to an utterance (`Transducer.encode`) is part of the graph.
    """
    graph = Graph("encoder")
    x = graph.input("x", ("N", "T", 80))
    lens = graph.input("x_lens", ("N",), TensorProto.INT64)
    one = graph.ints(1)
    own = _subsampled(graph, net, lens)
    shortest, tail = 2 * net.subsampling_factor - 1, net.end_silence_frames
    if tail:
        x = _append_silence(graph, x, lens, tail)
        longer = _subsampled(graph, net, graph.op("Add", lens, graph.ints(tail)))
        own = graph.op("Where", graph.op("Greater", own, graph.ints(0)), longer, graph.ints(0))
    lens = own
    if tail < shortest:
        x = _pad_short(graph, x, shortest)
    x = _subsample(graph, net, x)
    frames = graph.slice(graph.op("Shape", x), 1, 2, 0)
    scalar = graph.op("Squeeze", frames)
    zero, step = graph.constant(np.int64(0)), graph.constant(np.int64(1))
    positions = graph.op("Unsqueeze", graph.op("Range", zero, scalar, step), graph.ints(0))
    valid = graph.op("Less", positions, graph.op("Unsqueeze", lens, one))
    mask = graph.op("Unsqueeze", graph.op("Cast", valid, to=TensorProto.FLOAT), graph.ints(2))
    for i, layer in enumerate(net.encoder_layers):
        x, _ = add_layer(graph, layer, x, LayerNodes(name=f"layer{i}", mask=mask, frames=frames))
    out = _head(graph, net, x)
    graph.output(out, "encoder_out", ("N", "T_out", net.joiner_dim))
    graph.output(lens, "encoder_out_lens", ("N",), TensorProto.INT64)
    return graph


def build_streaming_encoder(net: Transducer, chunk: int) -> Graph:
    """Build the encoder of one chunk of B = `chunk` encoder frames, with the states of sherpa-onnx's
    ``lstm`` host.

    x (N, factor B + factor - 1, 80), state0 and state1 (L, N, E S): real and imaginary parts, to
    encoder_out (N, B, J), new_state0 and new_state1.
    """
    graph = Graph("encoder")
    window = net.subsampling_factor * chunk + net.subsampling.overlap
    state_shape = (len(net.layers), "N", net.state_dim)
    x = graph.input("x", ("N", window, 80))
    num_layers, state_dim = len(net.layers), net.config.state_dim
    parts = [graph.input("state0", state_shape), graph.input("state1", state_shape)]
    # All layers' states at once: (L, N, E S) each to (L E, N, 2 S), a layer's channels being neighbours.
    width = net.state_dim // state_dim
    split = [graph.reshape(part, 0, 0, width, state_dim) for part in parts]
    stacked = graph.transpose(graph.op("Concat", *split, axis=3), 0, 2, 1, 3)
    stacked = graph.reshape(stacked, num_layers * width, -1, 2 * state_dim)
    states = graph.split(stacked, num_layers, axis=0) if num_layers > 1 else [stacked]
    x = _subsample(graph, net, x)
    for i, layer in enumerate(net.encoder_layers):
        x, states[i] = add_layer(graph, layer, x, LayerNodes(name=f"layer{i}", chunk=chunk, state=states[i]))
    graph.output(_head(graph, net, x), "encoder_out", ("N", chunk, net.joiner_dim))
    stacked = graph.op("Concat", *states, axis=0) if num_layers > 1 else states[0]
    stacked = graph.reshape(stacked, num_layers, width, -1, 2 * state_dim)
    for i, part in enumerate(graph.split(graph.transpose(stacked, 0, 2, 1, 3), 2, axis=3)):
        graph.output(graph.reshape(part, 0, 0, net.state_dim), f"new_state{i}", state_shape)
    return graph


def _subsampled(graph: Graph, net: Transducer, lens: str) -> str:
    """Encoder frames of `lens` (N,) feature frames."""
    for _ in net.subsampling.convs:
        # Integer division rounds to zero, so a length of 0 stays 0.
        lens = graph.op("Div", graph.op("Sub", lens, graph.ints(1)), graph.ints(2))
    return graph.op("Max", lens, graph.ints(0))


def _append_silence(graph: Graph, x: str, lens: str, num_frames: int) -> str:
    """(N, T, F) and lengths (N,) to (N, T + num_frames, F), silent after each utterance's end."""
    floor = graph.constant(np.float32(LOG_FLOOR))
    x = graph.op("Pad", x, graph.ints(0, 0, 0, 0, num_frames, 0), floor)
    frames = graph.op("Squeeze", graph.slice(graph.op("Shape", x), 1, 2, 0))
    positions = graph.op("Range", graph.constant(np.int64(0)), frames, graph.constant(np.int64(1)))
    ends = graph.op("Unsqueeze", lens, graph.ints(1))
    inside = graph.op("Less", graph.op("Unsqueeze", positions, graph.ints(0)), ends)
    return graph.op("Where", graph.op("Unsqueeze", inside, graph.ints(2)), x, floor)


def _pad_short(graph: Graph, x: str, shortest: int) -> str:
    frames = graph.slice(graph.op("Shape", x), 1, 2, 0)
    missing = graph.op("Max", graph.op("Sub", graph.ints(shortest), frames), graph.ints(0))
    pads = graph.op("Concat", graph.ints(0, 0, 0, 0), missing, graph.ints(0), axis=0)
    return graph.op("Pad", x, pads, graph.constant(np.float32(LOG_FLOOR)))


def _subsample(graph: Graph, net: Transducer, x: str) -> str:
    """(N, T, F) to (N, T', D); the features' normalisation is part of the graph."""
    front = net.subsampling
    x = graph.op("Sub", x, graph.constant(to_array(front.mean), "feature_mean"))
    x = graph.op("Mul", x, graph.constant(to_array(front.inv_std), "feature_inv_std"))
    x = graph.op("Unsqueeze", x, graph.ints(1))
    for i, conv in enumerate(front.convs):
        assert isinstance(conv, nn.Conv2d)
        weight = graph.constant(to_array(conv.weight), f"conv{i}.weight")
        bias = graph.constant(to_array(conv.bias), f"conv{i}.bias")
        x = graph.op("Conv", x, weight, bias, kernel_shape=[3, 3], strides=[2, 2], name=f"conv{i}")
        x = graph.silu(x)
    x = graph.reshape(graph.transpose(x, 0, 2, 1, 3), 0, 0, front.proj.in_features)
    return add_norm(
        graph, add_linear(graph, x, front.proj, "subsampling.proj"), front.norm, "subsampling.norm"
    )


def _head(graph: Graph, net: Transducer, x: str) -> str:
    return add_linear(graph, add_norm(graph, x, net.norm, "norm"), net.encoder_proj, "encoder_proj")
