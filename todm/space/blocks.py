"""Closed-form counts of the shipped blocks: parameters, multiplications, streaming state.

The same blocks as torch modules are `todm.nn.mhssm` and `todm.nn.feedforward`.
"""

from __future__ import annotations

from dataclasses import dataclass

from todm.config import ModelConfig
from todm.space.spec import LayerSpec

FFN_DIM = "ffn_dim"
"""Name of the feed-forward's elastic dimension."""


def count_linear(inputs: int, outputs: int) -> int:
    """Parameters of a linear map with bias."""
    return inputs * outputs + outputs


@dataclass(frozen=True)
class MultiHeadSSMCounts:
    """Counts of the multi-head SSM; a streaming layer has the forward heads only."""

    def count_params(self, config: ModelConfig, layer: LayerSpec) -> int:
        """Projections, and per channel A, C (2 numbers each per state), dt and D."""
        channels = _count_channels(config, layer)
        ssm = channels * (4 * config.state_dim + 2)
        return ssm + count_linear(config.d_model, channels) + count_linear(channels // 2, config.d_model)

    def count_macs(self, config: ModelConfig, layer: LayerSpec) -> int:
        """The recurrence (6 per state and 1 per channel) and the projections.

        The block form that runs does more multiplications in fewer calls.
        """
        channels = _count_channels(config, layer)
        ssm = channels * (6 * config.state_dim + 1)
        return config.d_model * channels + ssm + channels // 2 * config.d_model

    def count_state_bytes(self, config: ModelConfig, layer: LayerSpec) -> int:
        """Real and imaginary float32 parts of every state; 0 for an offline layer."""
        if layer.mode == "offline":
            return 0
        return _count_channels(config, layer) * config.state_dim * 2 * 4


@dataclass(frozen=True)
class FeedForwardCounts:
    """Counts of the feed-forward, which has no state."""

    def count_params(self, config: ModelConfig, layer: LayerSpec) -> int:
        """Two linear maps, and two numbers per unit for a learned gate."""
        units = layer.width(FFN_DIM)
        gate = 2 * units if config.ffn_gate == "learned" else 0
        return count_linear(config.d_model, units) + gate + count_linear(units, config.d_model)

    def count_macs(self, config: ModelConfig, layer: LayerSpec) -> int:
        """The two matrix products."""
        return 2 * config.d_model * layer.width(FFN_DIM)

    def count_state_bytes(self, config: ModelConfig, layer: LayerSpec) -> int:
        """The feed-forward has no state: 0."""
        return 0


def _count_channels(config: ModelConfig, layer: LayerSpec) -> int:
    """SSM channels of a layer: both directions offline, the forward direction streaming."""
    return (2 if layer.mode == "offline" else 1) * config.num_heads // 2 * config.head_dim
