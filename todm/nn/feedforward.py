"""Position-wise feed-forward, with standout's gate if asked for.

Shapes: N batch, T encoder frames, D encoder width, F hidden width.

Standout (Ba & Frey, NIPS 2013) keeps a hidden unit with probability sigmoid(alpha z + beta), z its own
pre-activation. What is kept is not scaled up, so that the expectation is the unit times that probability: a
gate, which stays in the net when training is over. Whether it is sampled is the pass's affair.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from todm.nn.dropout import LayerDropout
from todm.nn.linear import linear

NO_DROPOUT = LayerDropout()


class FeedForwardWeights(NamedTuple):
    """What the feed-forward computes with: a whole module's tensors or slices of them.

    Args:
        in_weight: (F, D).
        in_bias: (F,).
        out_weight: (D, F).
        out_bias: (D,).
        gate_scale: alpha of each unit, (F,); None without a gate.
        gate_bias: beta of each unit, (F,).
    """

    in_weight: Tensor
    in_bias: Tensor
    out_weight: Tensor
    out_bias: Tensor
    gate_scale: Tensor | None = None
    gate_bias: Tensor | None = None


class FeedForward(nn.Module):
    """Linear, SiLU, linear.

    Args:
        d_model: D.
        ffn_dim: F.
        gate: ``tied`` has one fixed alpha and beta, ``learned`` begins with them and gives each unit its own.
        gate_scale: alpha.
        gate_bias: beta.
    """

    gate_scale: Tensor | None
    gate_bias: Tensor | None

    def __init__(
        self,
        d_model: int,
        ffn_dim: int,
        gate: Literal["none", "tied", "learned"] = "none",
        gate_scale: float = 1.0,
        gate_bias: float = 0.0,
    ) -> None:
        super().__init__()
        self.in_proj = nn.Linear(d_model, ffn_dim)
        self.out_proj = nn.Linear(ffn_dim, d_model)
        for name, value in (("gate_scale", gate_scale), ("gate_bias", gate_bias)):
            values = torch.full((ffn_dim,), value) if gate != "none" else None
            if values is not None and gate == "learned":
                # ScaledAdam moves a tensor in proportion to its size: zeros would stay what they are.
                self.register_parameter(name, nn.Parameter(values + 0.02 * torch.rand(ffn_dim)))
            else:
                self.register_buffer(name, values, persistent=False)

    def weights(self) -> FeedForwardWeights:
        """The module's tensors."""
        return FeedForwardWeights(
            self.in_proj.weight,
            self.in_proj.bias,
            self.out_proj.weight,
            self.out_proj.bias,
            self.gate_scale,
            self.gate_bias,
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, T, D) to (N, T, D)."""
        return feed_forward(x, self.weights())


def feed_forward(
    x: Tensor,
    weights: FeedForwardWeights,
    dropout: LayerDropout = NO_DROPOUT,
    generator: torch.Generator | None = None,
) -> Tensor:
    """The pass: (N, T, D) to (N, T, D), with the layer's dropout inside (not on the branch's output)."""
    if dropout.ffn_weights is not None:
        weights = dropout.ffn_weights(weights, generator)
    z = linear(x, weights.in_weight, weights.in_bias)
    hidden = activate(z, weights, dropout, generator)
    hidden = dropout.ffn_hidden(hidden, generator)
    return linear(hidden, weights.out_weight, weights.out_bias)


def activate(
    z: Tensor,
    weights: FeedForwardWeights,
    dropout: LayerDropout = NO_DROPOUT,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Pre-activations (..., F) to hidden units (..., F), times their keep probability if there is a gate."""
    hidden = nn.functional.silu(z)
    if weights.gate_scale is None or weights.gate_bias is None:
        return hidden
    keep = torch.sigmoid(weights.gate_scale * z + weights.gate_bias)
    return hidden * dropout.ffn_gate(keep, generator)
