"""The plain encoder layer: two residual branches, MH-SSM and feed-forward, each behind a norm.

Shapes: N batch, T encoder frames, B frames of a chunk, D encoder width, E channels of a direction, S pairs.
"""

from __future__ import annotations

from torch import Tensor, nn

from todm.config import ModelConfig
from todm.nn.feedforward import FeedForward
from todm.nn.mhssm import MultiHeadSSM, apply_mhssm_chunk
from todm.nn.norm import make_norm
from todm.nn.ssm import block_operators
from todm.nn.ssm_scan import ssm_operators


class EncoderLayer(nn.Module):
    """One layer.

    Args:
        config: dimensions.
        ffn_dim: hidden width of the feed-forward.
        bidirectional: False leaves the backward heads out.
    """

    def __init__(self, config: ModelConfig, ffn_dim: int, *, bidirectional: bool) -> None:
        super().__init__()
        self.ssm_norm = make_norm(config.d_model)
        self.mhssm = MultiHeadSSM(
            config.d_model, config.num_heads, config.head_dim, config.state_dim, bidirectional=bidirectional
        )
        self.ffn_norm = make_norm(config.d_model)
        self.ffn = FeedForward(
            config.d_model, ffn_dim, config.ffn_gate, config.ffn_gate_scale, config.ffn_gate_bias
        )

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(N, T, D) and a mask (N, T, 1), 0 after an utterance's end, to (N, T, D)."""
        x = x + self.mhssm(self.ssm_norm(x), mask, ssm_operators(self.mhssm.ssm.coefficients(), x.shape[1]))
        return x + self.ffn(self.ffn_norm(x))

    def forward_chunk(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """A streaming layer over one chunk: (N, B, D) and (E, N, 2S) to the same shapes."""
        operators = block_operators(self.mhssm.ssm.coefficients(), x.shape[1])
        branch, state = apply_mhssm_chunk(self.ssm_norm(x), state, self.mhssm.weights(), operators)
        x = x + branch
        return x + self.ffn(self.ffn_norm(x)), state
