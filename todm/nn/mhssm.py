"""Multi-head state-space block (MH-SSM, Fathullah et al., arXiv 2305.12498) with directions by heads.

Shapes: N batch, T encoder frames, D encoder width, E channels of one direction, H heads.

Every head is a projection of the input through its own SSM. Heads come in pairs: one head of a pair, through
an activation, multiplies the other (inter-head gating). Half of the pairs run forward in time and half
backward, so that leaving the backward half out, projections included, gives a streaming net. Channels lie as

    [ forward values | forward gates | backward values | backward gates ],   each E / 2 wide.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from todm.config import ModelConfig
from todm.kernels import gpu
from todm.nn.block import Block, LayerContext, narrow
from todm.nn.linear import linear
from todm.nn.ssm import BlockOperators, DiagonalSsm, advance, block_operators, discretise
from todm.nn.ssm_scan import SsmOperators, apply_ssm, ssm_operators
from todm.space.spec import LayerSpec

MIN_DT, MAX_DT = 0.03, 3.0
"""Range of dt over all heads, per encoder frame. A phone lasts two or three frames.

S4's range of 1e-3 to 1e-1 suits sequences of thousands of samples; nets did not learn with it.
"""


class MultiHeadSSMWeights(NamedTuple):
    """Tensors that the block computes with: those of a module, or slices of them.

    Args:
        in_weight: (num_directions E, D).
        in_bias: (num_directions E,).
        out_weight: (D, num_directions E / 2).
        out_bias: (D,).
        operators: operators of the same channels.
        direction_dim: E.
    """

    in_weight: Tensor
    in_bias: Tensor
    out_weight: Tensor
    out_bias: Tensor
    operators: SsmOperators
    direction_dim: int


class MultiHeadSSM(Block):
    """The block's parameters; a streaming spec runs the forward channels only.

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

    @classmethod
    def build(cls, config: ModelConfig, layer: LayerSpec) -> MultiHeadSSM:
        """Make the block: both directions for an offline layer, the forward one for streaming."""
        return cls(
            config.d_model,
            config.num_heads,
            config.head_dim,
            config.state_dim,
            bidirectional=layer.mode == "offline",
        )

    @classmethod
    def prepare(
        cls, blocks: Sequence[MultiHeadSSM], num_frames: int, *, one_chunk: bool = False
    ) -> Sequence[SsmOperators]:
        """Operators of all channels of each layer, discretised together."""
        layers = [block.ssm for block in blocks]
        coefficients = discretise(layers)
        if one_chunk:
            return block_operators(coefficients, num_frames).split(len(layers[0].skip))
        return ssm_operators(coefficients, num_frames).split(len(layers[0].skip))

    def slice_weights(self, layer: LayerSpec, prepared: Any = None) -> MultiHeadSSMWeights:
        """The forward channels of a streaming layer, all channels of an offline one."""
        return self.slice_channels(self.count_channels(layer), prepared)

    def slice_channels(self, channels: int, operators: SsmOperators) -> MultiHeadSSMWeights:
        """The first `channels` channels as views: E or all of them.

        Args:
            channels: E or num_directions E.
            operators: operators of all channels.
        """
        return MultiHeadSSMWeights(
            *self._slice_projections(channels),
            operators=operators.first(channels),
            direction_dim=self.direction_dim,
        )

    def _slice_projections(self, channels: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Weight and bias of both projections for the first `channels` channels, as views."""
        return (
            narrow(self.in_proj.weight, channels),
            narrow(self.in_proj.bias, channels),
            narrow(self.out_proj.weight, channels // 2, dim=1),
            self.out_proj.bias,
        )

    def count_channels(self, layer: LayerSpec) -> int:
        """Channels that `layer` runs."""
        return self.direction_dim * (self.num_directions if layer.mode == "offline" else 1)

    @staticmethod
    def run(x: Tensor, weights: MultiHeadSSMWeights, context: LayerContext) -> tuple[Tensor, Tensor | None]:
        """The convolution form for whole utterances, the chunk form when there is a state."""
        if context.state is not None:
            return apply_multi_head_ssm_chunk(x, context.state, weights)
        assert context.mask is not None
        return apply_multi_head_ssm(x, context.mask, weights), None

    def load_slice(self, source: MultiHeadSSM, layer: LayerSpec) -> None:
        """Copy the channels of `source` that `layer` runs."""
        channels = source.count_channels(layer)
        own = self._slice_projections(self.count_channels(layer))
        for target, tensor in zip(own, source._slice_projections(channels), strict=True):
            target.copy_(tensor)
        for name, target in self.ssm.named_parameters():
            target.copy_(source.ssm.get_parameter(name)[:channels])

    def forward(self, x: Tensor, mask: Tensor, operators: SsmOperators) -> Tensor:
        """(N, T, D) to (N, T, D) with all channels; see `apply_multi_head_ssm`."""
        channels = self.num_directions * self.direction_dim
        return apply_multi_head_ssm(x, mask, self.slice_channels(channels, operators))


def _head_bands(num_heads: int) -> list[tuple[float, float]]:
    """Each head's own band of the time-scale range, so that heads start different."""
    ratio = MAX_DT / MIN_DT
    edges = [MIN_DT * ratio ** (i / num_heads) for i in range(num_heads + 1)]
    return list(pairwise(edges))


def apply_multi_head_ssm(x: Tensor, mask: Tensor, weights: MultiHeadSSMWeights) -> Tensor:
    """Run the block over whole utterances.

    Args:
        x: input, (N, T, D).
        mask: 1 inside an utterance, 0 after its end, (N, T, 1) of x's dtype.
        weights: weights of one direction or both.

    Returns:
        (N, T, D).
    """
    u = linear(x, weights.in_weight, weights.in_bias)
    u = u * mask.to(u.dtype)
    with torch.autocast(u.device.type, enabled=False):  # half precision is too coarse for powers of a decay
        y = apply_ssm(u, weights.operators, num_forward=weights.direction_dim)
    return linear(gate_heads(y, weights.direction_dim), weights.out_weight, weights.out_bias)


def apply_multi_head_ssm_chunk(
    x: Tensor, state: Tensor, weights: MultiHeadSSMWeights
) -> tuple[Tensor, Tensor]:
    """Run the forward direction over one chunk.

    Args:
        x: input, (N, B, D).
        state: (E, N, 2S) float32.
        weights: weights of the forward direction, with operators for blocks of B frames.

    Returns:
        output (N, B, D) and the new state.
    """
    u = linear(x, weights.in_weight, weights.in_bias)
    assert isinstance(weights.operators, BlockOperators)
    y, state = advance(u, state, weights.operators)
    return linear(gate_heads(y, y.shape[-1]), weights.out_weight, weights.out_bias), state


def gate_heads(y: Tensor, direction_dim: int) -> Tensor:
    """Value times activated gate in each direction: (N, T, num_directions E) to half that width."""
    kernels = gpu.find_kernels("gate", y.device)
    if kernels is not None:
        gated: Tensor = kernels.gate(y, direction_dim // 2)
        return gated
    value, gate = y.unflatten(-1, (-1, 2, direction_dim // 2)).unbind(-2)
    return (value * nn.functional.silu(gate)).flatten(-2)
