"""Joiner: two projected vectors to logits over the vocabulary."""

from __future__ import annotations

from torch import Tensor, nn

from todm.nn.linear import linear


class Joiner(nn.Module):
    """``output(tanh(encoder + predictor))``; the projections to J belong to the encoder and the predictor.

    Args:
        joiner_dim: J.
        vocab_size: V.
    """

    def __init__(self, joiner_dim: int, vocab_size: int) -> None:
        super().__init__()
        self.output = nn.Linear(joiner_dim, vocab_size)

    def forward(self, encoder_out: Tensor, predictor_out: Tensor) -> Tensor:
        """(..., J) and (..., J), broadcast against each other, to logits (..., V)."""
        # In place: on a band of the lattice only the logits are larger.
        return linear((encoder_out + predictor_out).tanh_(), self.output.weight, self.output.bias)
