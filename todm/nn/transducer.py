"""The plain transducer: one size, one mode, nothing elastic. `todm.extract` returns it.

Shapes: N batch, T feature frames, T' encoder frames, U labels, K context size, D encoder width,
J joiner width, V vocabulary, L layers, E SSM channels of one direction, S pairs of one channel's state.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from todm.config import ModelConfig
from todm.nn.encoder import EncoderLayer
from todm.nn.joiner import Joiner
from todm.nn.norm import make_norm
from todm.nn.predictor import Predictor
from todm.nn.subsampling import Conv2dSubsampling, subsampled_lens
from todm.runtime.constants import NUM_MEL_BINS
from todm.runtime.fbank import LOG_FLOOR
from todm.space.spec import SubnetSpec

State = tuple[Tensor, Tensor]


class Transducer(nn.Module):
    """RNN-T with an MH-SSM encoder, a stateless predictor and an additive joiner.

    Args:
        config: dimensions of the supernet it belongs to.
        spec: the size and the mode of this net.
        vocab_size: V, blank (0) included.
    """

    def __init__(self, config: ModelConfig, spec: SubnetSpec, vocab_size: int) -> None:
        super().__init__()
        self.config = config
        self.spec = spec
        self.vocab_size = vocab_size
        self.subsampling = Conv2dSubsampling(
            NUM_MEL_BINS, config.subsampling_channels, config.d_model, config.subsampling_factor
        )
        self.layers = nn.ModuleList(EncoderLayer(config, layer) for layer in spec.layer_specs())
        self.norm = make_norm(config.d_model)
        self.encoder_proj = nn.Linear(config.d_model, config.joiner_dim)
        self.predictor = Predictor(vocab_size, config.predictor_dim, config.context_size, config.joiner_dim)
        self.joiner = Joiner(config.joiner_dim, vocab_size)

    @property
    def encoder_layers(self) -> tuple[EncoderLayer, ...]:
        """The layers in order, with their type."""
        return tuple(cast(EncoderLayer, layer) for layer in self.layers)

    @property
    def state_dim(self) -> int:
        """Width of one part of a layer's streaming state: channels of one direction times pairs."""
        return self.encoder_layers[0].mhssm.direction_dim * self.config.state_dim

    @property
    def context_size(self) -> int:
        """Number of labels that the predictor reads, K."""
        return self.config.context_size

    @property
    def joiner_dim(self) -> int:
        """Width of the joiner, J."""
        return self.config.joiner_dim

    @property
    def subsampling_factor(self) -> int:
        """Feature frames per encoder frame, 4 or 8."""
        return self.config.subsampling_factor

    @property
    def end_silence_frames(self) -> int:
        """Feature frames of silence that the net appends to an utterance; 0 for a streaming net."""
        return self.config.end_silence_frames if self.spec.mode == "offline" else 0

    def encode(self, feats: Tensor, feat_lens: Tensor) -> tuple[Tensor, Tensor]:
        """Encode whole utterances.

        An offline net appends ``end_silence_frames`` frames of silence itself. Audio without a single encoder
        frame of its own keeps a length of 0.

        Args:
            feats: log-mel, (N, T, 80) float32.
            feat_lens: frames of each utterance, (N,) int64.

        Returns:
            encoder output (N, T', J) and its lengths (N,) int64.
        """
        lens = subsampled_lens(feat_lens, self.subsampling_factor)
        if self.end_silence_frames:
            feats, feat_lens = append_end_silence(feats, feat_lens, self.end_silence_frames)
            lens = subsampled_lens(feat_lens, self.subsampling_factor) * (lens > 0)
        feats = pad_to_receptive_field(feats, self.subsampling_factor)
        x = self.subsampling(feats)
        mask = length_mask(lens, x)
        for layer in self.encoder_layers:
            x = layer(x, mask)
        return self.encoder_proj(self.norm(x)), lens

    def predict(self, labels: Tensor, context: Tensor | None = None) -> Tensor:
        """(N, U) int64 to (N, U + 1, J), the empty prefix first; `context` (N, K) precedes the labels."""
        return self.predictor(labels, context)

    def predict_step(self, context: Tensor) -> Tensor:
        """The last K labels (N, K) int64, negative before the first label, to (N, J)."""
        return self.predictor.step(context)

    def join(self, encoder_out: Tensor, predictor_out: Tensor) -> Tensor:
        """(..., J) and (..., J) to logits (..., V)."""
        return self.joiner(encoder_out, predictor_out)

    def init_state(self, batch: int) -> State:
        """Streaming state at the start of audio: real and imaginary part, each (L, N, E S) float32 zeros."""
        assert self.spec.mode == "streaming"
        zeros = self.norm.weight.new_zeros((len(self.layers), batch, self.state_dim))
        return zeros, zeros.clone()

    def encode_chunk(self, feats: Tensor, state: State) -> tuple[Tensor, State]:
        """Encode the next chunk of a stream.

        Args:
            feats: (N, factor B + factor - 1, 80) for B encoder frames; the last factor - 1 frames are
                repeated at the start of the next chunk.
            state: result of `init_state` or of the previous chunk.

        Returns:
            encoder output (N, B, J) and the new state.
        """
        x = self.subsampling(feats)
        batch = x.shape[0]
        reals, imags = [], []
        for layer, real, imag in zip(self.encoder_layers, *state, strict=True):
            packed = torch.cat(
                (_unpack(real, batch, self.config.state_dim), _unpack(imag, batch, self.config.state_dim)), -1
            )
            x, packed = layer.forward_chunk(x, packed)
            next_real, next_imag = packed.chunk(2, dim=-1)
            reals.append(_pack(next_real))
            imags.append(_pack(next_imag))
        return self.encoder_proj(self.norm(x)), (torch.stack(reals), torch.stack(imags))


def _unpack(part: Tensor, batch: int, state_dim: int) -> Tensor:
    """(N, E S) to (E, N, S)."""
    return part.view(batch, -1, state_dim).transpose(0, 1)


def _pack(part: Tensor) -> Tensor:
    """(E, N, S) to (N, E S)."""
    return part.transpose(0, 1).flatten(1)


def length_mask(lens: Tensor, like: Tensor) -> Tensor:
    """1 inside an utterance and 0 after its end: (N,) and (N, T, ...) to (N, T, 1) of like's dtype."""
    frames = torch.arange(like.shape[1], device=like.device)
    return (frames < lens[:, None]).unsqueeze(-1).to(like.dtype)


def append_end_silence(feats: Tensor, feat_lens: Tensor, num_frames: int) -> tuple[Tensor, Tensor]:
    """Append frames of silence to each utterance, whatever its padding holds.

    Args:
        feats: log-mel, (N, T, C).
        feat_lens: frames of each utterance, (N,) int64.
        num_frames: frames to append.

    Returns:
        features (N, T + num_frames, C) and their lengths (N,).
    """
    padded = nn.functional.pad(feats, (0, 0, 0, num_frames), value=LOG_FLOOR)
    frames = torch.arange(padded.shape[1], device=feats.device)
    outside = (frames >= feat_lens[:, None]).unsqueeze(-1)
    return padded.masked_fill(outside, LOG_FLOOR), feat_lens + num_frames


def pad_to_receptive_field(feats: Tensor, factor: int) -> Tensor:
    """Append zeros up to the first encoder frame's receptive field, 7 frames for 4x and 15 for 8x.

    The utterance's length is unchanged, so it has no encoder frame.
    """
    missing = 2 * factor - 1 - feats.shape[1]
    return nn.functional.pad(feats, (0, 0, 0, missing)) if missing > 0 else feats
