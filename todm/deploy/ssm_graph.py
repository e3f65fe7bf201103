"""The SSM's block form as ONNX nodes.

Shapes: N batch, T encoder frames, M blocks of B frames, C channels, S conjugate pairs of a state. States and
their drives are pairs (..., 2, S) or (2, ..., S), real parts first.

Only the discretised coefficients, a few numbers per channel, are stored. The block's matrices are computed
from them by nodes without inputs, which a runtime folds into constants when it loads the file: small files,
and nothing to compute per call. States and these matrices stay float in quantized models: none of them is a
stored weight of a MatMul.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import onnx

from todm.deploy.graph import LOWEST, Graph, Shape
from todm.deploy.layer_graph import LayerNodes, add_linear
from todm.nn.mhssm import MultiHeadSSM
from todm.nn.ssm import DiagonalSsm

BLOCK_FRAMES = 32  # B of the offline form


def add_multi_head_ssm(graph: Graph, block: MultiHeadSSM, x: str, nodes: LayerNodes) -> tuple[str, str]:
    """Add the MH-SSM: the convolution form offline, the chunk form where `nodes` has a state."""
    u = add_linear(graph, x, block.in_proj, f"{nodes.name}.in_proj")
    if nodes.state:
        gated, state = _add_chunk_branch(graph, block, u, nodes)
    else:
        gated, state = _add_offline_branch(graph, block, u, nodes), ""
    return add_linear(graph, gated, block.out_proj, f"{nodes.name}.out_proj"), state


def _add_offline_branch(graph: Graph, block: MultiHeadSSM, u: str, nodes: LayerNodes) -> str:
    u = graph.op("Mul", u, nodes.mask)
    operators = add_operators(
        graph, block.ssm, BLOCK_FRAMES, f"{nodes.name}.ssm", num_forward=block.direction_dim
    )
    missing = graph.op("Mod", graph.op("Neg", nodes.frames), graph.ints(BLOCK_FRAMES))
    pads = graph.op("Concat", graph.ints(0, 0, 0, 0), missing, graph.ints(0), axis=0)
    padded = graph.transpose(graph.op("Pad", u, pads), 2, 0, 1)  # (C, N, M B)
    y = add_convolution(graph, padded, operators, block)
    gated = _add_gates(graph, y, block.num_directions)
    return graph.op("Slice", gated, graph.ints(0), nodes.frames, graph.ints(1))


def _add_chunk_branch(graph: Graph, block: MultiHeadSSM, u: str, nodes: LayerNodes) -> tuple[str, str]:
    operators = add_operators(
        graph, block.ssm, nodes.chunk, f"{nodes.name}.ssm", num_forward=block.direction_dim
    )
    state_dim = block.ssm.imag.shape[1]
    u = graph.transpose(u, 2, 0, 1)
    y, state = add_chunk(graph, u, nodes.state, operators, frames=nodes.chunk, state_dim=state_dim)
    return _add_gates(graph, y, 1), state


def _add_gates(graph: Graph, y: str, directions: int) -> str:
    """(directions E, N, T) to (N, T, directions E / 2): values times activated gates, by direction.

    The gates are applied before the time axis is moved back, because half as many values are moved then.
    """
    parts = graph.split(y, 2 * directions, axis=0)
    gated = [
        graph.op("Mul", value, graph.silu(gate)) for value, gate in zip(parts[::2], parts[1::2], strict=True)
    ]
    return graph.transpose(gated[0] if directions == 1 else graph.op("Concat", *gated, axis=0), 1, 2, 0)


class OperatorNodes(NamedTuple):
    """Names of the block form's matrices, see `todm.nn.ssm.BlockOperators`.

    Args:
        drive: (C, B, 2 S): contribution of a block's input to the state after it, real parts first.
        outward: (C, B + 2 S, B): contribution of a block's input and the state before it to its output.
        decay: (2, C, 1, S), multiplies each part of a state: the real part of exp(dt A B), twice.
        turn: (2, C, 1, S), multiplies the swapped parts: minus and plus the imaginary part of exp(dt A B).
    """

    drive: str
    outward: str
    decay: str
    turn: str


def add_operators(
    graph: Graph, ssm: DiagonalSsm, frames: int, name: str, *, num_forward: int
) -> OperatorNodes:
    """Add the matrices of blocks of `frames` frames; channels from `num_forward` on run backward in time."""
    log_decay, angle, out_re, out_im, skip = (
        graph.constant(tensor.detach().cpu().numpy(), f"{name}.{field}")
        for field, tensor in ssm.coefficients()._asdict().items()
    )
    exponents = graph.constant(np.arange(frames + 1, dtype=np.float32))
    last = graph.ints(-1)
    size = graph.op("Exp", graph.op("Mul", graph.op("Unsqueeze", log_decay, last), exponents))
    phase = graph.op("Mul", graph.op("Unsqueeze", angle, last), exponents)
    power_re = graph.op("Mul", size, graph.op("Cos", phase))  # (C, S, B + 1)
    power_im = graph.op("Mul", size, graph.op("Sin", phase))
    two = graph.constant(np.float32(2.0))
    twice_re = graph.op("Mul", graph.op("Unsqueeze", out_re, last), two)
    twice_im = graph.op("Mul", graph.op("Unsqueeze", out_im, last), two)
    read_re = graph.op("Sub", graph.op("Mul", twice_re, power_re), graph.op("Mul", twice_im, power_im))
    read_im = graph.op("Add", graph.op("Mul", twice_re, power_im), graph.op("Mul", twice_im, power_re))

    taps = graph.op("ReduceSum", graph.slice(read_re, 0, frames, 2), graph.ints(1), keepdims=0)  # (C, B)
    first = np.zeros((1, frames), dtype=np.float32)
    first[0, 0] = 1.0
    skip_tap = graph.op("Mul", graph.op("Unsqueeze", skip, last), graph.constant(first))
    taps = graph.op("Add", taps, skip_tap)
    # M[s, t] = taps[t - s]; the column after the last tap is zero and is used for every s > t.
    offsets = np.arange(frames)[None, :] - np.arange(frames)[:, None]
    index = np.where(offsets >= 0, offsets, frames).astype(np.int64)
    taps = graph.op("Pad", taps, graph.ints(0, 0, 0, 1))
    local = graph.op("Gather", taps, graph.constant(index), axis=1)

    def driven(power: str) -> str:
        return graph.transpose(graph.flip(graph.slice(power, 0, frames, 2), 2), 0, 2, 1)

    def at_end(*powers: str) -> str:
        """(C, S, B + 1) each, at the block's end, to (2, C, 1, S)."""
        ends = [graph.transpose(graph.slice(power, frames, frames + 1, 2), 0, 2, 1) for power in powers]
        return graph.op("Concat", *(graph.op("Unsqueeze", end, graph.ints(0)) for end in ends), axis=0)

    def turned(x: str, *axes: int) -> str:
        """The backward channels, seen from the other end of the block."""
        num_channels = ssm.imag.shape[0]
        if num_forward == num_channels:
            return x
        backward = graph.slice(x, num_forward, num_channels, 0)
        for axis in axes:
            backward = graph.flip(backward, axis)
        return graph.op("Concat", graph.slice(x, 0, num_forward, 0), backward, axis=0)

    read_parts = (
        graph.slice(read_re, 1, frames + 1, 2),
        graph.op("Neg", graph.slice(read_im, 1, frames + 1, 2)),
    )
    readout = turned(graph.op("Concat", *read_parts, axis=1), 2)
    return OperatorNodes(
        drive=turned(graph.op("Concat", driven(power_re), driven(power_im), axis=2), 1),
        outward=graph.op("Concat", turned(local, 1, 2), readout, axis=1),
        decay=at_end(power_re, power_re),
        turn=at_end(graph.op("Neg", power_im), power_im),
    )


def add_chunk(
    graph: Graph, u: str, state: str, operators: OperatorNodes, *, frames: int, state_dim: int
) -> tuple[str, str]:
    """One block from a given state: u (C, N, B), state (C, N, 2 S), to the same shapes.

    One product with a matrix of each channel. Multiplying the state by exp(dt A B) in the same
    product is more work but takes less time than separate nodes, because a chunk is small.
    """
    side = 2 * state_dim
    same = np.eye(side, dtype=np.float32)
    other = np.roll(same, state_dim, axis=0)  # row: the part that is read; column: the part that is written

    def columns(part: str) -> str:
        """(2, C, 1, S) to (C, 1, 2 S)."""
        return graph.reshape(graph.transpose(part, 1, 2, 0, 3), 0, 0, side)

    kept = graph.op("Mul", columns(operators.decay), graph.constant(same))
    turned = graph.op("Mul", columns(operators.turn), graph.constant(other))
    onward = graph.op("Concat", operators.drive, graph.op("Add", kept, turned), axis=1)
    matrix = graph.op("Concat", operators.outward, onward, axis=2)  # (C, B + 2 S, B + 2 S)
    product = graph.op("MatMul", graph.op("Concat", u, state, axis=2), matrix)
    out, state = graph.ops("Split", product, graph.ints(frames, side), num_outputs=2, axis=-1)
    return out, state


def add_convolution(graph: Graph, u: str, operators: OperatorNodes, block: MultiHeadSSM) -> str:
    """Convolution of u (C, N, M B), causal or anticausal: blocks in parallel, a scan over their states.

    A Scan runs once per block of B frames and carries (2, C, N, S) numbers, so that memory and time grow
    linearly with the length. The backward channels' blocks come to it from the last to the first.
    """
    num_forward, state_dim = block.direction_dim, block.ssm.imag.shape[1]
    num_channels = block.num_directions * num_forward
    x = graph.op("Reshape", u, graph.ints(num_channels, -1, BLOCK_FRAMES))  # (C, N M, B)
    shape = graph.op("Shape", u)
    batch = graph.op("Slice", shape, graph.ints(1), graph.ints(2))
    by_block = graph.op("Concat", graph.ints(num_channels), batch, graph.ints(-1, 2, state_dim), axis=0)
    drive = graph.op("MatMul", x, operators.drive)

    def turned(blockwise: str) -> str:
        """(M, 2, C, N, S): the backward channels' blocks in reverse."""
        if num_forward == num_channels:
            return blockwise
        starts, stops = graph.ints(num_forward, -1), graph.ints(num_channels, LOWEST)
        backward = graph.op("Slice", blockwise, starts, stops, graph.ints(2, 0), graph.ints(1, -1))
        return graph.op("Concat", graph.slice(blockwise, 0, num_forward, 2), backward, axis=2)

    drives = turned(graph.transpose(graph.op("Reshape", drive, by_block), 2, 3, 0, 1, 4))
    state_shape = graph.op("Concat", graph.ints(2, num_channels), batch, graph.ints(state_dim), axis=0)
    _, starts = graph.ops(
        "Scan",
        graph.op("Expand", graph.constant(np.float32(0.0)), state_shape),
        drives,
        num_outputs=2,
        body=_scan_body((2, num_channels, "N", state_dim), operators),
        num_scan_inputs=1,
    )
    states = graph.reshape(graph.transpose(turned(starts), 2, 3, 0, 1, 4), num_channels, -1, 2 * state_dim)
    out = graph.op("MatMul", graph.op("Concat", x, states, axis=2), operators.outward)
    return graph.op("Reshape", out, shape)


def _scan_body(shape: Shape, operators: OperatorNodes) -> onnx.GraphProto:
    """Body of the scan: state before a block and the block's drive to both states, after and before.

    The decays come from the outer graph: a Scan's body may read them by name.
    """
    prefix = f"{operators.drive}.scan"
    body = Graph(prefix)
    state, drive = body.input(f"{prefix}.state", shape), body.input(f"{prefix}.drive", shape)

    def op(kind: str, *inputs: str, **attributes: int) -> str:
        return body.op(kind, *inputs, name=f"{prefix}.{kind}", **attributes)

    swapped = op("Gather", state, body.ints(1, 0), axis=0)  # imaginary part first
    after = op("Add", op("Add", op("Mul", state, operators.decay), op("Mul", swapped, operators.turn)), drive)
    body.result(after, shape)
    body.output(state, f"{prefix}.start", shape)
    return body.body()
