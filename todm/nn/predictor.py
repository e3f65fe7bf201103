"""Stateless predictor: embedding and a convolution over the last few labels (Ghodsi et al., ICASSP 2020).

Shapes: N batch, U labels, K context size, P predictor width, J joiner width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from todm.runtime.constants import BLANK_ID


class Predictor(nn.Module):
    """Maps the last K labels to a vector of the joiner's width.

    Args:
        vocab_size: V.
        dim: P.
        context_size: K.
        joiner_dim: J.
    """

    def __init__(self, vocab_size: int, dim: int, context_size: int, joiner_dim: int) -> None:
        super().__init__()
        self.context_size = context_size
        self.embedding = nn.Embedding(vocab_size, dim)
        self.conv = nn.Conv1d(dim, dim, kernel_size=context_size, groups=dim, bias=False)
        self.proj = nn.Linear(dim, joiner_dim)
        nn.init.normal_(self.embedding.weight, std=dim**-0.5)

    def forward(self, labels: Tensor, context: Tensor | None = None) -> Tensor:
        """Every prefix of `labels` (N, U) int64, the empty one included: (N, U + 1, J).

        Args:
            labels: (N, U) int64.
            context: (N, K) int64, the labels before the first one; None starts a stream.
        """
        if context is None:
            context = self.start(labels.shape[0], labels.device)
        return self._convolve(torch.cat((context, labels), dim=1))

    def step(self, context: Tensor) -> Tensor:
        """One position: the last K labels (N, K) int64, negative before the first label, to (N, J)."""
        return self._convolve(context)[:, 0]

    def start(self, batch: int, device: torch.device | str = "cpu") -> Tensor:
        """Context before the first label, (N, K) int64: no label K - 1 times, then blank."""
        context = torch.full((batch, self.context_size), -1, dtype=torch.int64, device=device)
        context[:, -1] = BLANK_ID
        return context

    def _convolve(self, ids: Tensor) -> Tensor:
        """(N, U + K) ids to (N, U + 1, J); a negative id has a zero embedding (device hosts pad with -1)."""
        embedded = self.embedding(ids.clamp(min=0)) * (ids >= 0).unsqueeze(-1)
        mixed = self.conv(embedded.transpose(1, 2)).transpose(1, 2)
        return self.proj(nn.functional.relu(mixed))
