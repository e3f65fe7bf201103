"""The SSM's block form as ONNX nodes.

Shapes: N batch, T encoder frames, K blocks of B frames, C channels, S conjugate pairs of a state.

Only the discretised coefficients, a few numbers per channel, are stored. The block's matrices are computed
from them by nodes without inputs, which a runtime folds into constants when it loads the file: small files,
and nothing to compute per call. States and these matrices stay float in quantised models: none of them is a
stored weight of a MatMul.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import onnx

from todm.deploy.graph import Graph
from todm.nn.ssm import DiagonalSsm

BLOCK_FRAMES = 32  # B of the offline form


class BlockNodes(NamedTuple):
    """Names of the block form's matrices; shapes as in `todm.nn.ssm.BlockOperators`.

    Args:
        local: (C, B, B).
        drive_re: (C, B, S); drive_im likewise.
        drive_im: see drive_re.
        readout_re: (C, S, B); readout_im likewise, its sign included.
        readout_im: see readout_re.
        decay_re: (C, 1, S); decay_im likewise.
        decay_im: see decay_re.
    """

    local: str
    drive_re: str
    drive_im: str
    readout_re: str
    readout_im: str
    decay_re: str
    decay_im: str


def add_operators(graph: Graph, ssm: DiagonalSsm, frames: int, name: str) -> BlockNodes:
    """The matrices of blocks of `frames` frames."""
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

    return BlockNodes(
        local=local,
        drive_re=drive(power_re),
        drive_im=drive(power_im),
        readout_re=graph.slice(read_re, 1, frames + 1, 2),
        readout_im=graph.op("Neg", graph.slice(read_im, 1, frames + 1, 2)),
        decay_re=decay(power_re),
        decay_im=decay(power_im),
    )


def add_chunk(
    graph: Graph, u: str, state: tuple[str, str], blocks: BlockNodes
) -> tuple[str, tuple[str, str]]:
    """One block from a given state: u (C, N, B), state parts (C, N, S) each, to the same shapes."""
    out = graph.op("Add", graph.op("MatMul", u, blocks.local), _read(graph, state, blocks))
    drive_re = graph.op("MatMul", u, blocks.drive_re)
    drive_im = graph.op("MatMul", u, blocks.drive_im)
    return out, _advance(graph, state, (drive_re, drive_im), (blocks.decay_re, blocks.decay_im))


def add_convolution(graph: Graph, u: str, blocks: BlockNodes, channels: int, state_dim: int) -> str:
    """Causal convolution of u (C, N, K B): blocks in parallel, a scan over the K states between them.

    A Scan runs once per block of B frames and carries (C, N, S) numbers, so that memory and time grow
    linearly with the length.
    """
    x = graph.op("Reshape", u, graph.ints(channels, -1, BLOCK_FRAMES))  # (C, N K, B)
    shape = graph.op("Shape", u)
    batch = graph.op("Slice", shape, graph.ints(1), graph.ints(2))
    by_block = graph.op("Concat", graph.ints(channels), batch, graph.ints(-1, state_dim), axis=0)

    def to_scan(part: str) -> str:
        return graph.transpose(graph.op("Reshape", part, by_block), 2, 0, 1, 3)  # (K, C, N, S)

    drives = [
        to_scan(graph.op("MatMul", x, blocks.drive_re)),
        to_scan(graph.op("MatMul", x, blocks.drive_im)),
    ]
    zero_shape = graph.op("Concat", graph.ints(channels), batch, graph.ints(state_dim), axis=0)
    zeros = graph.op("Expand", graph.constant(np.float32(0.0)), zero_shape)
    _, _, starts_re, starts_im = graph.ops(
        "Scan",
        zeros,
        zeros,
        *drives,
        num_outputs=4,
        body=_scan_body(channels, state_dim, blocks),
        num_scan_inputs=2,
    )

    def from_scan(part: str) -> str:
        return graph.reshape(graph.transpose(part, 1, 2, 0, 3), channels, -1, state_dim)

    states = (from_scan(starts_re), from_scan(starts_im))
    out = graph.op("Add", graph.op("MatMul", x, blocks.local), _read(graph, states, blocks))
    return graph.op("Reshape", out, shape)


def _scan_body(channels: int, state_dim: int, blocks: BlockNodes) -> onnx.GraphProto:
    body = Graph(f"{blocks.local}.scan")
    shape = (channels, "N", state_dim)
    prefix = blocks.local
    state = (body.input(f"{prefix}.re", shape), body.input(f"{prefix}.im", shape))
    drive = (body.input(f"{prefix}.drive_re", shape), body.input(f"{prefix}.drive_im", shape))
    # The decay comes from the outer graph: a Scan's body may read it by name.
    after = _advance(body, state, drive, (blocks.decay_re, blocks.decay_im), prefix=f"{prefix}.scan.")
    body.output(after[0], f"{prefix}.next_re", shape)
    body.output(after[1], f"{prefix}.next_im", shape)
    body.output(state[0], f"{prefix}.start_re", shape)
    body.output(state[1], f"{prefix}.start_im", shape)
    return body.body()


def _read(graph: Graph, state: tuple[str, str], blocks: BlockNodes) -> str:
    real = graph.op("MatMul", state[0], blocks.readout_re)
    return graph.op("Add", real, graph.op("MatMul", state[1], blocks.readout_im))


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
