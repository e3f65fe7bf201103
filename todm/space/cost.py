"""What a spec costs, in closed form."""

from __future__ import annotations

from todm.config import ModelConfig
from todm.runtime.constants import FRAMES_PER_SECOND, NUM_MEL_BINS
from todm.space.spec import SubnetSpec


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
    return shared + sum(_layer(config, spec, ffn_dim) for ffn_dim in spec.width("ffn_dim"))


def count_macs(config: ModelConfig, spec: SubnetSpec, vocab_size: int) -> int:
    """Multiplications of weights, states and activations per second of audio with greedy search.

    The SSM counts as its recurrence, 6 S + 1 a frame and channel; the block form that runs does more of them
    in fewer calls. Norms, activations and the predictor, which runs once a label, are left out.

    Args:
        config: dimensions of the supernet.
        spec: which slice of it.
        vocab_size: V, blank included.
    """
    d_model, channels = config.d_model, _channels(config, spec)
    ssm = channels * (6 * config.state_dim + 1)
    layer = d_model * channels + ssm + channels // 2 * d_model
    total = sum(layer + 2 * d_model * ffn_dim for ffn_dim in spec.width("ffn_dim"))
    total += d_model * config.joiner_dim + config.joiner_dim * vocab_size
    inputs, bins = 1, NUM_MEL_BINS
    frames: int = config.subsampling_factor
    while frames > 1:
        bins, frames = (bins - 1) // 2, frames // 2
        total += frames * bins * config.subsampling_channels * inputs * 9
        inputs = config.subsampling_channels
    total += config.subsampling_channels * bins * d_model
    return total * FRAMES_PER_SECOND // config.subsampling_factor


def count_state_bytes(config: ModelConfig, spec: SubnetSpec) -> int:
    """Bytes of one stream's encoder state, float32 real and imaginary parts; 0 for an offline spec."""
    if spec.mode == "offline":
        return 0
    return spec.depth * _channels(config, spec) * config.state_dim * 2 * 4


def _channels(config: ModelConfig, spec: SubnetSpec) -> int:
    """SSM channels of a layer: those of both directions, or the forward ones."""
    return (2 if spec.mode == "offline" else 1) * config.num_heads // 2 * config.head_dim


def _linear(inputs: int, outputs: int) -> int:
    return inputs * outputs + outputs


def _layer(config: ModelConfig, spec: SubnetSpec, ffn_dim: int) -> int:
    d_model = config.d_model
    channels = _channels(config, spec)
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
