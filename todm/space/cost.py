"""What a spec costs, in closed form."""

from __future__ import annotations

from todm.config import ModelConfig
from todm.space.spec import SubnetSpec

NUM_MEL_BINS = 80


def count_params(config: ModelConfig, spec: SubnetSpec, vocab_size: int) -> int:
    """Parameters of the net that `extract` returns for `spec`: equal to its ``numel()`` sum, exactly.

    Args:
        config: dimensions of the supernet.
        spec: which slice of it.
        vocab_size: V, blank included.
    """
    d_model = config.d_model
    shared = _subsampling(config) + _predictor(config, vocab_size)
    shared += 2 * d_model  # norm after the last layer
    shared += _linear(d_model, config.joiner_dim) + _linear(config.joiner_dim, vocab_size)
    return shared + sum(_layer(config, spec, ffn_dim) for ffn_dim in spec.ffn_dims)


def _linear(inputs: int, outputs: int) -> int:
    return inputs * outputs + outputs


def _layer(config: ModelConfig, spec: SubnetSpec, ffn_dim: int) -> int:
    d_model = config.d_model
    num_directions = 2 if spec.mode == "offline" else 1
    channels = num_directions * config.num_heads // 2 * config.head_dim
    norms = 2 * 2 * d_model
    ssm = channels * (4 * config.state_dim + 2)  # a, w, Re C, Im C per state; dt and D per channel
    projections = _linear(d_model, channels) + _linear(channels // 2, d_model)
    gate = 2 * ffn_dim if config.ffn_gate == "learned" else 0
    return norms + ssm + projections + _linear(d_model, ffn_dim) + gate + _linear(ffn_dim, d_model)


def _subsampling(config: ModelConfig) -> int:
    channels, bins = config.subsampling_channels, NUM_MEL_BINS
    num_convs = config.subsampling_factor.bit_length() - 1
    for _ in range(num_convs):
        bins = (bins - 1) // 2
    convs = (channels * 9 + channels) + (num_convs - 1) * (channels * channels * 9 + channels)
    return convs + _linear(channels * bins, config.d_model) + 2 * config.d_model  # norm


def _predictor(config: ModelConfig, vocab_size: int) -> int:
    dim = config.predictor_dim
    return vocab_size * dim + dim * config.context_size + _linear(dim, config.joiner_dim)
