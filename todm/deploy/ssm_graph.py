"""The SSM's block form as ONNX nodes.

Shapes: N batch, T encoder frames, K blocks of B frames, C channels, S conjugate pairs of a state. States and
their drives are pairs (..., 2, S) or (2, ..., S), real parts first.

Only the discretised coefficients, a few numbers per channel, are stored. The block's matrices are computed
from them by nodes without inputs, which a runtime folds into constants when it loads the file: small files,
and nothing to compute per call. States and these matrices stay float in quantised models: none of them is a
stored weight of a MatMul.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import onnx

from todm.deploy.graph import Graph
from todm.nn.ssm import DiagonalSsm

BLOCK_FRAMES = 32  # B of the offline form


class BlockNodes(NamedTuple):
    """Names of the block form's matrices, those of `todm.nn.ssm.BlockOperators` side by side.

    Args:
        inward: (C, B, B + 2 S): what a block's input does to its output and, real and imaginary part, to the
            state behind it.
        readout: (C, 2 S, B): what the state before a block does to its output.
        decay: (2, C, 1, S), for a state's own parts: the real part of exp(dt A B), twice.
        turn: (2, C, 1, S), for its parts exchanged: minus and plus the imaginary part of exp(dt A B).
    """

    inward: str
    readout: str
    decay: str
    turn: str


def add_operators(graph: Graph, ssm: DiagonalSsm, frames: int, name: str, *, num_forward: int) -> BlockNodes:
    """The matrices of blocks of `frames` frames; channels from `num_forward` on run backward in time."""
    log_decay, angle, out_re, out_im, skip = (
        graph.constant(tensor.detach().cpu().numpy(), f"{name}.{field}")
        for field, tensor in ssm.coefficients()._asdict().items()
    )
    exponents = graph.constant(np.arange(frames + 1, dtype=np.float32), f"{name}.exponents")
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
    # M[s, t] = taps[t - s]; the column behind the last tap is zero and serves every s > t.
    offsets = np.arange(frames)[None, :] - np.arange(frames)[:, None]
    index = np.where(offsets >= 0, offsets, frames).astype(np.int64)
    taps = graph.op("Pad", taps, graph.ints(0, 0, 0, 1))
    local = graph.op("Gather", taps, graph.constant(index), axis=1)

    def drive(power: str) -> str:
        return graph.transpose(graph.flip(graph.slice(power, 0, frames, 2), 2), 0, 2, 1)

    def behind(*powers: str) -> str:
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
    drives = turned(graph.op("Concat", drive(power_re), drive(power_im), axis=2), 1)
    return BlockNodes(
        inward=graph.op("Concat", turned(local, 1, 2), drives, axis=2),
        readout=turned(graph.op("Concat", *read_parts, axis=1), 2),
        decay=behind(power_re, power_re),
        turn=behind(graph.op("Neg", power_im), power_im),
    )


def add_chunk(
    graph: Graph, u: str, state: str, blocks: BlockNodes, *, frames: int, state_dim: int
) -> tuple[str, str]:
    """One block from a given state: u (C, N, B), state (2, C, N, S), to the same shapes."""
    local, drive = _inward(graph, u, blocks, frames, state_dim)
    pairs = graph.transpose(state, 1, 2, 0, 3)  # (C, N, 2, S)
    out = graph.op("Add", local, _read(graph, pairs, blocks, state_dim))
    drive = graph.transpose(graph.reshape(drive, 0, 0, 2, state_dim), 2, 0, 1, 3)
    return out, _advance(graph, state, drive, blocks.decay, blocks.turn)


def add_convolution(
    graph: Graph, u: str, blocks: BlockNodes, *, num_forward: int, num_channels: int, state_dim: int
) -> str:
    """Convolution of u (C, N, K B), causal or anticausal: blocks in parallel, a scan over their states.

    A Scan runs once per block of B frames and carries (2, C, N, S) numbers, so that memory and time grow
    linearly with the length. It takes the backward channels' blocks from the last to the first.
    """
    x = graph.op("Reshape", u, graph.ints(num_channels, -1, BLOCK_FRAMES))  # (C, N K, B)
    shape = graph.op("Shape", u)
    batch = graph.op("Slice", shape, graph.ints(1), graph.ints(2))
    by_block = graph.op("Concat", graph.ints(num_channels), batch, graph.ints(-1, 2, state_dim), axis=0)
    local, drive = _inward(graph, x, blocks, BLOCK_FRAMES, state_dim)
    scanned = graph.transpose(graph.op("Reshape", drive, by_block), 2, 3, 0, 1, 4)  # (K, 2, C, N, S)
    # One direction's channels after the other's.
    spans = [(0, num_forward), (num_forward, num_channels)][: 1 + (num_forward < num_channels)]
    inputs = [graph.slice(scanned, *span, 2) for span in spans] if len(spans) > 1 else [scanned]
    zero = graph.constant(np.float32(0.0))
    states = [
        graph.op(
            "Expand",
            zero,
            graph.op("Concat", graph.ints(2, end - start), batch, graph.ints(state_dim), axis=0),
        )
        for start, end in spans
    ]
    directions = list(range(len(spans)))  # 0 is forward
    outputs = graph.ops(
        "Scan",
        *states,
        *inputs,
        num_outputs=2 * len(spans),
        body=_scan_body(graph, spans, state_dim, blocks),
        num_scan_inputs=len(spans),
        scan_input_directions=directions,
        scan_output_directions=directions,
    )
    starts = outputs[len(spans) :]
    joined = graph.op("Concat", *starts, axis=2) if len(spans) > 1 else starts[0]
    pairs = graph.reshape(graph.transpose(joined, 2, 3, 0, 1, 4), num_channels, -1, 2, state_dim)
    out = graph.op("Add", local, _read(graph, pairs, blocks, state_dim))
    return graph.op("Reshape", out, shape)


def _scan_body(
    outer: Graph, spans: Sequence[tuple[int, int]], state_dim: int, blocks: BlockNodes
) -> onnx.GraphProto:
    """States before a block and its drives to the states behind it, and the former once more as output.

    The decays come from the outer graph: a Scan's body may read them by name.
    """
    prefix = blocks.inward
    body = Graph(f"{prefix}.scan")
    shapes = [(2, end - start, "N", state_dim) for start, end in spans]
    names = [f"{prefix}.{way}" for way, _ in enumerate(spans)]
    states = [body.input(name, shape) for name, shape in zip(names, shapes, strict=True)]
    drives = [body.input(f"{name}.drive", shape) for name, shape in zip(names, shapes, strict=True)]
    for way, (start, end) in enumerate(spans):
        decay, turn = (
            outer.slice(part, start, end, 1) if len(spans) > 1 else part
            for part in (blocks.decay, blocks.turn)
        )
        after = _advance(body, states[way], drives[way], decay, turn, f"{prefix}.scan{way}.")
        body.result(after, shapes[way])
    for state, name, shape in zip(states, names, shapes, strict=True):
        body.output(state, f"{name}.start", shape)
    return body.body()


def _inward(graph: Graph, u: str, blocks: BlockNodes, frames: int, state_dim: int) -> list[str]:
    """Output without what came before the block, and the drive of its state: (C, N, B), (C, N, 2 S)."""
    product = graph.op("MatMul", u, blocks.inward)
    return graph.ops("Split", product, graph.ints(frames, 2 * state_dim), num_outputs=2, axis=-1)


def _read(graph: Graph, pairs: str, blocks: BlockNodes, state_dim: int) -> str:
    """Output of states (C, N, 2, S) in the block before which they stand: (C, N, B)."""
    return graph.op("MatMul", graph.reshape(pairs, 0, 0, 2 * state_dim), blocks.readout)


def _advance(graph: Graph, state: str, drive: str, decay: str, turn: str, prefix: str = "") -> str:
    """States (2, C, N, S) one block further: exp(dt A B) times the state, plus its drive."""

    def op(kind: str, *inputs: str, **attributes: int) -> str:
        return graph.op(kind, *inputs, name=f"{prefix}{kind}", **attributes)

    swapped = op("Gather", state, graph.ints(1, 0), axis=0)  # imaginary part first
    return op("Add", op("Add", op("Mul", state, decay), op("Mul", swapped, turn)), drive)
