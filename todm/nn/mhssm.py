"""Multi-head state-space block (MH-SSM, Fathullah et al., arXiv 2305.12498) with directions by heads.

Shapes: N batch, T encoder frames, D encoder width, E channels of one direction, H heads.

Every head is a projection of the input through its own SSM. Heads come in pairs: one head of a pair, through
an activation, multiplies the other (inter-head gating). Half of the pairs run forward in time and half
backward, so that leaving the backward half out, projections included, gives a streaming net. Channels lie as

    [ forward values | forward gates | backward values | backward gates ],   each E / 2 wide.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from todm.kernels import gpu
from todm.nn.linear import linear
from todm.nn.ssm import BlockOperators, DiagonalSsm, advance
from todm.nn.ssm_scan import SsmOperators, apply_ssm

# Range of dt over all heads, per encoder frame of 40 ms. S4's own 1e-3 to 1e-1 is meant for sequences of
# thousands of samples, and a phone lasts two or three frames. With S4's, CTC on connected digits stood still
# over 280 batches of 30 s; with this range its loss was falling by then.
SLOWEST, FASTEST = 0.03, 3.0


class MultiHeadSSMWeights(NamedTuple):
    """What the block computes with: a whole module's tensors or slices of them.

    Args:
        in_weight: (num_directions E, D).
        in_bias: (num_directions E,).
        out_weight: (D, num_directions E / 2).
        out_bias: (D,).
    """

    in_weight: Tensor
    in_bias: Tensor
    out_weight: Tensor
    out_bias: Tensor


class MultiHeadSSM(nn.Module):
    """Parameters of one block, and its pass when nothing is elastic.

    Args:
        d_model: D.
        num_heads: H over both directions, a multiple of 4.
        head_dim: channels of a head; E = H / 2 * head_dim.
        state_dim: conjugate pairs of one channel's state.
        bidirectional: False keeps the forward heads only.
    """

    def __init__(
        self, d_model: int, num_heads: int, head_dim: int, state_dim: int, *, bidirectional: bool = True
    ) -> None:
        super().__init__()
        assert num_heads % 4 == 0
        num_directions = 2 if bidirectional else 1
        self.direction_dim = num_heads // 2 * head_dim
        self.num_directions = num_directions
        self.in_proj = nn.Linear(d_model, num_directions * self.direction_dim)
        self.ssm = DiagonalSsm(
            num_directions * self.direction_dim, state_dim, _head_bands(num_heads // 2) * num_directions
        )
        self.out_proj = nn.Linear(num_directions * self.direction_dim // 2, d_model)

    def weights(self) -> MultiHeadSSMWeights:
        """The projections of all directions."""
        return MultiHeadSSMWeights(
            self.in_proj.weight, self.in_proj.bias, self.out_proj.weight, self.out_proj.bias
        )

    def forward(self, x: Tensor, mask: Tensor, operators: SsmOperators) -> Tensor:
        """(N, T, D) to (N, T, D); see `mhssm`."""
        return mhssm(x, mask, self.weights(), operators, self.direction_dim)


def _head_bands(num_heads: int) -> list[tuple[float, float]]:
    """Each head's own band of the time-scale range, so that heads start different."""
    ratio = FASTEST / SLOWEST
    edges = [SLOWEST * ratio ** (i / num_heads) for i in range(num_heads + 1)]
    return list(pairwise(edges))


def mhssm(
    x: Tensor, mask: Tensor, weights: MultiHeadSSMWeights, operators: SsmOperators, direction_dim: int
) -> Tensor:
    """The block's pass.

    Args:
        x: input, (N, T, D).
        mask: 1 inside an utterance, 0 after its end, (N, T, 1) of x's dtype.
        weights: of one direction or both.
        operators: of the same channels.
        direction_dim: E.

    Returns:
        (N, T, D).
    """
    u = linear(x, weights.in_weight, weights.in_bias)
    u = u * mask.to(u.dtype)
    with torch.autocast(u.device.type, enabled=False):  # powers of a decay are noise in half precision
        y = apply_ssm(u, operators, num_forward=direction_dim)
    return linear(gate_heads(y, direction_dim), weights.out_weight, weights.out_bias)


def apply_mhssm_chunk(
    x: Tensor, state: Tensor, weights: MultiHeadSSMWeights, operators: BlockOperators
) -> tuple[Tensor, Tensor]:
    """The forward direction over one chunk.

    Args:
        x: input, (N, B, D).
        state: (E, N, 2S) float32.
        weights: of the forward direction.
        operators: for blocks of B frames.

    Returns:
        output (N, B, D) and the new state.
    """
    u = linear(x, weights.in_weight, weights.in_bias)
    y, state = advance(u, state, operators)
    return linear(gate_heads(y, y.shape[-1]), weights.out_weight, weights.out_bias), state


def gate_heads(y: Tensor, direction_dim: int) -> Tensor:
    """Value times activated gate in each direction: (N, T, num_directions E) to half that width."""
    kernels = gpu.find_kernels("gate", y.device)
    if kernels is not None:
        gated: Tensor = kernels.gate(y, direction_dim // 2)
        return gated
    value, gate = y.unflatten(-1, (-1, 2, direction_dim // 2)).unbind(-2)
    return (value * nn.functional.silu(gate)).flatten(-2)
