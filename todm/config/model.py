"""Settings ``model.*`` and ``space.*``: dimensions of the supernet and what is elastic in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from todm.config.fields import made_setting, setting

Mode = Literal["offline", "streaming"]


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Fixed dimensions of the supernet. `SpaceConfig` holds the elastic ones."""

    num_layers: int = setting(6, "Encoder layers of the whole supernet.", ge=1, le=256)
    d_model: int = setting(144, "Encoder width D.", ge=1, le=16_384)
    num_heads: int = setting(
        8,
        "SSM heads H, a multiple of 4. Half of the head pairs run forward in time, half backward.",
        ge=4,
        le=1024,
    )
    head_dim: int = setting(32, "Channels of one head.", ge=1, le=4096)
    state_dim: int = setting(8, "Conjugate pairs of one channel's state.", ge=1, le=1024)
    subsampling_factor: Literal[4, 8] = setting(
        4, "Feature frames per encoder frame: 4 gives a frame every 40 ms, 8 every 80 ms."
    )
    end_silence_frames: int = setting(
        32,
        "Feature frames of silence that an offline net appends to an utterance by itself, in torch and in "
        "ONNX. Training utterances end in silence, and without it a net often omits the last word of audio "
        "that ends with the speech.",
        ge=0,
        le=1000,
    )
    subsampling_channels: int = setting(
        32, "Channels of the convolutions that subsample the features.", ge=1, le=4096
    )
    predictor_dim: int = setting(128, "Width of the stateless predictor.", ge=1, le=16_384)
    context_size: int = setting(2, "Number of previous labels that the predictor reads.", ge=1, le=16)
    joiner_dim: int = setting(128, "Width J of the joiner.", ge=1, le=16_384)
    ffn_gate: Literal["none", "tied", "learned"] = setting(
        "none",
        "Multiplies the hidden units of the feed-forward by sigmoid(alpha z + beta), where z is their "
        "pre-activation: the keep probability of standout (Ba & Frey, NIPS 2013), which the dropout policy "
        "``standout`` samples from. ``tied`` fixes alpha and beta, ``learned`` gives each unit its own.",
    )
    ffn_gate_scale: float = setting(1.0, "Alpha of the gate, or its first value.", ge=-100.0, le=100.0)
    ffn_gate_bias: float = setting(
        0.0, "Beta of the gate, or its first value. A larger one keeps more.", ge=-100.0, le=100.0
    )


@dataclass(frozen=True, kw_only=True)
class SpaceConfig:
    """What is elastic: depth, widths per layer, and direction."""

    depths: tuple[int, ...] = setting(
        (4, 5, 6),
        "Numbers of encoder layers that a subnet may have, ascending; the last equals ``model.num_layers``.",
        ge=1,
        le=256,
        min_items=1,
        ascending=True,
    )
    widths: dict[str, tuple[int, ...]] = made_setting(
        lambda: {"ffn_dim": (192, 320, 448, 576)},
        "Widths that a layer may have, by dimension name (``ffn_dim``: hidden units of the feed-forward), "
        "each list ascending; the last is the full width.",
        ge=1,
        le=131_072,
        min_items=1,
        ascending=True,
    )
    modes: tuple[Mode, ...] = setting(
        ("offline", "streaming"),
        "``offline`` runs all SSM heads, ``streaming`` only those that run forward in time.",
        min_items=1,
        unique=True,
    )
