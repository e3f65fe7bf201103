"""Position-wise feed-forward with an elastic hidden width, optionally with standout's gate.

Shapes: N batch, T encoder frames, D encoder width, F hidden width.

Standout (Ba & Frey, NIPS 2013) keeps a hidden unit with probability sigmoid(alpha z + beta), z its own
pre-activation. Kept units are not scaled up, so the expectation is the unit times that probability: a gate
that remains in the net after training. The dropout of a pass decides whether the gate is sampled.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from todm.config import ModelConfig
from todm.nn.block import Block, LayerContext, narrow
from todm.nn.dropout import NO_LAYER_DROPOUT, LayerDropout
from todm.nn.linear import linear
from todm.nn.weights import FeedForwardWeights
from todm.space.blocks import FFN_DIM
from todm.space.spec import LayerSpec


class FeedForward(Block):
    """Linear, SiLU, linear.

    Args:
        d_model: D.
        num_units: F.
        gate: ``tied`` has one fixed alpha and beta; ``learned`` initialises each unit's own alpha and beta
            there.
        gate_scale: alpha.
        gate_bias: beta.
    """

    gate_scale: Tensor | None
    gate_bias: Tensor | None

    def __init__(
        self,
        d_model: int,
        num_units: int,
        gate: Literal["none", "tied", "learned"] = "none",
        gate_scale: float = 1.0,
        gate_bias: float = 0.0,
    ) -> None:
        super().__init__()
        self.in_proj = nn.Linear(d_model, num_units)
        self.out_proj = nn.Linear(num_units, d_model)
        for name, value in (("gate_scale", gate_scale), ("gate_bias", gate_bias)):
            values = torch.full((num_units,), value) if gate != "none" else None
            if values is not None and gate == "learned":
                # ScaledAdam moves a tensor in proportion to its size: zeros would stay what they are.
                self.register_parameter(name, nn.Parameter(values + 0.02 * torch.rand(num_units)))
            else:
                self.register_buffer(name, values, persistent=False)

    @classmethod
    def build(cls, config: ModelConfig, layer: LayerSpec) -> FeedForward:
        """Make the block at the hidden width of `layer`."""
        width = layer.width(FFN_DIM)
        return cls(config.d_model, width, config.ffn_gate, config.ffn_gate_scale, config.ffn_gate_bias)

    def weights(self) -> FeedForwardWeights:
        """The module's tensors at full width."""
        return FeedForwardWeights(
            self.in_proj.weight,
            self.in_proj.bias,
            self.out_proj.weight,
            self.out_proj.bias,
            self.gate_scale,
            self.gate_bias,
        )

    def slice_weights(self, layer: LayerSpec, prepared: Any = None) -> FeedForwardWeights:
        """The first hidden units, as many as `layer` runs."""
        return self.slice_units(layer.width(FFN_DIM))

    def slice_units(self, count: int) -> FeedForwardWeights:
        """The first `count` hidden units as views."""
        whole = self.weights()
        return FeedForwardWeights(
            in_weight=narrow(whole.in_weight, count),
            in_bias=narrow(whole.in_bias, count),
            out_weight=narrow(whole.out_weight, count, dim=1),
            out_bias=whole.out_bias,
            gate_scale=None if whole.gate_scale is None else narrow(whole.gate_scale, count),
            gate_bias=None if whole.gate_bias is None else narrow(whole.gate_bias, count),
        )

    @staticmethod
    def run(x: Tensor, weights: FeedForwardWeights, context: LayerContext) -> tuple[Tensor, None]:
        """Compute the branch with `apply_feed_forward`."""
        return apply_feed_forward(x, weights, context.dropout, context.generator), None

    def live_widths(self, layer: LayerSpec) -> Mapping[str, int]:
        """Hidden units of `layer` that are not dead, see `find_live_units`."""
        return {FFN_DIM: int(find_live_units(self.slice_weights(layer)).sum())}

    def load_slice(self, source: FeedForward, layer: LayerSpec) -> None:
        """Copy the live units of `source` at `layer`."""
        own = self.weights()._asdict()
        for name, tensor in remove_dead_units(source.slice_weights(layer))._asdict().items():
            if tensor is not None:
                own[name].copy_(tensor)

    def forward(self, x: Tensor) -> Tensor:
        """(N, T, D) to (N, T, D) at full width, without dropout."""
        return apply_feed_forward(x, self.weights())


def apply_feed_forward(
    x: Tensor,
    weights: FeedForwardWeights,
    dropout: LayerDropout = NO_LAYER_DROPOUT,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Compute the branch, (N, T, D) to (N, T, D), with the dropout of weights, gate and hidden units."""
    if dropout.ffn_weights is not None:
        weights = dropout.ffn_weights(weights, generator)
    z = linear(x, weights.in_weight, weights.in_bias)
    hidden = activate(z, weights, dropout, generator)
    hidden = dropout.ffn_hidden(hidden, generator)
    return linear(hidden, weights.out_weight, weights.out_bias)


def activate(
    z: Tensor,
    weights: FeedForwardWeights,
    dropout: LayerDropout = NO_LAYER_DROPOUT,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Pre-activations (..., F) to hidden units (..., F), times their keep probability if there is a gate."""
    hidden = nn.functional.silu(z)
    if weights.gate_scale is None or weights.gate_bias is None:
        return hidden
    keep = torch.sigmoid(weights.gate_scale * z + weights.gate_bias)
    return hidden * dropout.ffn_gate(keep, generator)


def find_live_units(weights: FeedForwardWeights) -> Tensor:
    """Mask (F,) of units with at least one nonzero input and one nonzero output weight.

    At least one unit is kept: the first, if there is none.
    """
    live = weights.in_weight.any(1) & weights.out_weight.any(0)
    if not live.any():
        live[0] = True
    return live


def remove_dead_units(weights: FeedForwardWeights) -> FeedForwardWeights:
    """The live units only, computing the same: the constant output of dead units is added to the bias."""
    live = find_live_units(weights)
    if live.all():
        return weights
    hidden = activate(weights.in_bias, weights)  # output of units without input weights
    return FeedForwardWeights(
        in_weight=weights.in_weight[live],
        in_bias=weights.in_bias[live],
        out_weight=weights.out_weight[:, live],
        out_bias=weights.out_bias + weights.out_weight[:, ~live] @ hidden[~live],
        gate_scale=None if weights.gate_scale is None else weights.gate_scale[live],
        gate_bias=None if weights.gate_bias is None else weights.gate_bias[live],
    )
