"""Closed-form cost of a spec: parameters, multiplications, streaming state."""

from __future__ import annotations

from todm.config import ModelConfig
from todm.runtime.constants import FRAMES_PER_SECOND, NUM_MEL_BINS
from todm.space.blocks import count_linear
from todm.space.dimensions import select_blocks
from todm.space.lengths import subsample_length
from todm.space.spec import SubnetSpec


def count_params(config: ModelConfig, spec: SubnetSpec, vocab_size: int) -> int:
    """Parameters of the net that `extract` returns for `spec`: equal to its ``numel()`` sum.

    Args:
        config: dimensions of the supernet.
        spec: the subnet.
        vocab_size: V, blank included.
    """
    d_model = config.d_model
    norm = 2 * d_model
    total = _count_subsampling(config) + _count_predictor(config, vocab_size)
    total += norm + count_linear(d_model, config.joiner_dim) + count_linear(config.joiner_dim, vocab_size)
    blocks = select_blocks(spec.widths)
    for layer in spec.layer_specs():
        total += sum(norm + block.load_counts().count_params(config, layer) for block in blocks)
    return total


def count_macs(config: ModelConfig, spec: SubnetSpec, vocab_size: int) -> int:
    """Multiplications of weights, states and activations per second of audio with greedy search.

    Norms, activations and the predictor, which runs once per label, are not counted.

    Args:
        config: dimensions of the supernet.
        spec: the subnet.
        vocab_size: V, blank included.
    """
    total = sum(
        block.load_counts().count_macs(config, layer)
        for layer in spec.layer_specs()
        for block in select_blocks(spec.widths)
    )
    total += config.d_model * config.joiner_dim + config.joiner_dim * vocab_size
    inputs, bins = 1, NUM_MEL_BINS
    frames: int = config.subsampling_factor
    while frames > 1:
        bins, frames = subsample_length(bins, 2), frames // 2
        total += frames * bins * config.subsampling_channels * inputs * 9
        inputs = config.subsampling_channels
    total += config.subsampling_channels * bins * config.d_model
    return total * FRAMES_PER_SECOND // config.subsampling_factor


def count_state_bytes(config: ModelConfig, spec: SubnetSpec) -> int:
    """Bytes of one stream's encoder state; 0 for an offline spec."""
    return sum(
        block.load_counts().count_state_bytes(config, layer)
        for layer in spec.layer_specs()
        for block in select_blocks(spec.widths)
    )


def _count_subsampling(config: ModelConfig) -> int:
    channels = config.subsampling_channels
    bins = subsample_length(NUM_MEL_BINS, config.subsampling_factor)
    num_convs = config.subsampling_factor.bit_length() - 1
    convs = (channels * 9 + channels) + (num_convs - 1) * (channels * channels * 9 + channels)
    return convs + count_linear(channels * bins, config.d_model) + 2 * config.d_model  # norm


def _count_predictor(config: ModelConfig, vocab_size: int) -> int:
    dim = config.predictor_dim
    return vocab_size * dim + dim * config.context_size + count_linear(dim, config.joiner_dim)
