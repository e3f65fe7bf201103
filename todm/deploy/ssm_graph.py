"""The SSM's block form as ONNX nodes.

Shapes: N batch, T encoder frames, K blocks of B frames, C channels, S conjugate pairs of a state.

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
        decay_re: (C, 1, S); decay_im likewise.
        decay_im: see decay_re.
    """

    inward: str
    readout: str
    decay_re: str
    decay_im: str


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

    def decay(power: str) -> str:
        return graph.transpose(graph.slice(power, frames, frames + 1, 2), 0, 2, 1)

    def turn(x: str, *axes: int) -> str:
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
    drives = turn(graph.op("Concat", drive(power_re), drive(power_im), axis=2), 1)
    return BlockNodes(
        inward=graph.op("Concat", turn(local, 1, 2), drives, axis=2),
        readout=turn(graph.op("Concat", *read_parts, axis=1), 2),
        decay_re=decay(power_re),
        decay_im=decay(power_im),
    )


def add_chunk(
    graph: Graph, u: str, state: tuple[str, str], blocks: BlockNodes, *, frames: int, state_dim: int
) -> tuple[str, tuple[str, str]]:
    """One block from a given state: u (C, N, B), state parts (C, N, S) each, to the same shapes."""
    local, *drive = _inward(graph, u, blocks, frames, state_dim)
    out = graph.op("Add", local, _read(graph, state, blocks))
    return out, _advance(graph, state, (drive[0], drive[1]), (blocks.decay_re, blocks.decay_im))


def add_convolution(
    graph: Graph, u: str, blocks: BlockNodes, *, num_forward: int, num_channels: int, state_dim: int
) -> str:
    """Convolution of u (C, N, K B), causal or anticausal: blocks in parallel, a scan over their states.

    A Scan runs once per block of B frames and carries (C, N, S) numbers, so that memory and time grow
    linearly with the length. It takes the backward channels' blocks from the last to the first.
    """
    x = graph.op("Reshape", u, graph.ints(num_channels, -1, BLOCK_FRAMES))  # (C, N K, B)
    shape = graph.op("Shape", u)
    batch = graph.op("Slice", shape, graph.ints(1), graph.ints(2))
    by_block = graph.op("Concat", graph.ints(num_channels), batch, graph.ints(-1, state_dim), axis=0)
    local, *drives = _inward(graph, x, blocks, BLOCK_FRAMES, state_dim)
    scanned = [graph.transpose(graph.op("Reshape", part, by_block), 2, 0, 1, 3) for part in drives]
    # In each direction's turn: real and imaginary parts (K, C of that direction, N, S).
    spans = [(0, num_forward), (num_forward, num_channels)][: 1 + (num_forward < num_channels)]
    inputs = [graph.slice(part, *span, 1) if len(spans) > 1 else part for span in spans for part in scanned]
    zero = graph.constant(np.float32(0.0))
    states = [
        graph.op(
            "Expand", zero, graph.op("Concat", graph.ints(end - start), batch, graph.ints(state_dim), axis=0)
        )
        for start, end in spans
        for _ in scanned
    ]
    backward = [direction for direction in range(len(spans)) for _ in scanned]
    outputs = graph.ops(
        "Scan",
        *states,
        *inputs,
        num_outputs=2 * len(inputs),
        body=_scan_body(graph, spans, state_dim, blocks),
        num_scan_inputs=len(inputs),
        scan_input_directions=backward,
        scan_output_directions=backward,
    )
    starts = outputs[len(inputs) :]

    def joined(part: int) -> str:
        both = starts[part::2]
        whole = graph.op("Concat", *both, axis=1) if len(both) > 1 else both[0]
        return graph.reshape(graph.transpose(whole, 1, 2, 0, 3), num_channels, -1, state_dim)

    out = graph.op("Add", local, _read(graph, (joined(0), joined(1)), blocks))
    return graph.op("Reshape", out, shape)


def _scan_body(
    outer: Graph, spans: Sequence[tuple[int, int]], state_dim: int, blocks: BlockNodes
) -> onnx.GraphProto:
    """States before a block and its drives to the states behind it, and the former once more as output.

    The decays come from the outer graph: a Scan's body may read them by name.
    """
    prefix = blocks.inward
    body = Graph(f"{prefix}.scan")
    shapes = [(end - start, "N", state_dim) for start, end in spans for _ in ("re", "im")]
    names = [f"{prefix}.{way}_{part}" for way, _ in enumerate(spans) for part in ("re", "im")]
    states = [body.input(name, shape) for name, shape in zip(names, shapes, strict=True)]
    drives = [body.input(f"{name}.drive", shape) for name, shape in zip(names, shapes, strict=True)]
    after: list[str] = []
    for way, (start, end) in enumerate(spans):
        decay = tuple(
            outer.slice(part, start, end, 0) if len(spans) > 1 else part
            for part in (blocks.decay_re, blocks.decay_im)
        )
        pair = slice(2 * way, 2 * way + 2)
        (re, im), (drive_re, drive_im) = states[pair], drives[pair]
        after += _advance(body, (re, im), (drive_re, drive_im), (decay[0], decay[1]), f"{prefix}.scan{way}.")
    for name, shape, tensor in zip(names, shapes, after, strict=True):
        body.output(tensor, f"{name}.next", shape)
    for name, shape, tensor in zip(names, shapes, states, strict=True):
        body.output(tensor, f"{name}.start", shape)
    return body.body()


def _inward(graph: Graph, u: str, blocks: BlockNodes, frames: int, state_dim: int) -> list[str]:
    """Output without what came before the block, and the drive of its state: (C, N, B), 2 times (C, N, S)."""
    product = graph.op("MatMul", u, blocks.inward)
    return graph.ops("Split", product, graph.ints(frames, state_dim, state_dim), num_outputs=3, axis=-1)


def _read(graph: Graph, state: tuple[str, str], blocks: BlockNodes) -> str:
    return graph.op("MatMul", graph.op("Concat", *state, axis=-1), blocks.readout)


def _advance(
    graph: Graph, state: tuple[str, str], drive: tuple[str, str], decay: tuple[str, str], prefix: str = ""
) -> tuple[str, str]:
    """One block further: decay * state + drive, complex."""

    def op(kind: str, left: str, right: str) -> str:
        return graph.op(kind, left, right, name=f"{prefix}{kind}")

    (real, imag), (decay_re, decay_im) = state, decay
    next_re = op("Sub", op("Mul", real, decay_re), op("Mul", imag, decay_im))
    next_im = op("Add", op("Mul", real, decay_im), op("Mul", imag, decay_re))
    return op("Add", next_re, drive[0]), op("Add", next_im, drive[1])
