"""Inputs, options and result of the transducer loss, the same for every backend.

Letters: N batch, T frames, U labels, S symbols of one frame's window, V vocabulary, J joiner dim.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from todm.config import LossConfig
from todm.losses.band import Band, feasible_size

Join = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class TransducerLossOptions:
    """Settings of the transducer loss (`todm.config.LossConfig`).

    Args:
        backend: ``native``, ``k2``, ``torchaudio`` (always the full lattice) or ``reference`` (tests).
        prune_range: positions per frame S, at least 2. It is reduced for batches with fewer labels, and
            increased where an utterance has more than T (S - 1) labels.
        lm_scale: share of the label-only model in the smoothed loss, 0 to 1.
        am_scale: share of the audio-only model in the smoothed loss, 0 to 1.
        path_power: tau >= 1, see `todm.losses.native`; above 1 for ``native`` only.
        with_log_probs: whether `TransducerLoss.log_probs` is needed; ``native`` uses less memory without.
    """

    backend: str
    prune_range: int
    lm_scale: float
    am_scale: float
    path_power: float
    with_log_probs: bool

    @classmethod
    def from_config(cls, config: LossConfig, *, with_log_probs: bool = True) -> TransducerLossOptions:
        """Take the options from the settings of a run.

        Args:
            config: section ``train.loss``.
            with_log_probs: see the class.
        """
        return cls(
            backend=config.backend,
            prune_range=config.prune_range,
            lm_scale=config.lm_scale,
            am_scale=config.am_scale,
            path_power=config.path_power,
            with_log_probs=with_log_probs,
        )


@dataclass(frozen=True, kw_only=True)
class TransducerInputs:
    """Tensors of one pass, padded.

    Args:
        encoder_out: (N, T, J) encoder output, projected to the joiner's width.
        predictor_out: (N, U + 1, J) predictor output, projected likewise.
        join: maps (N, T, 1, J) and (N, T, S, J) to logits (N, T, S, V).
        labels: (N, U) int64, 1 to V - 1; the padding may hold any value.
        encoder_lens: (N,) int64, frames of each utterance, 1 to T.
        label_lens: (N,) int64, labels of each utterance, 0 to U.
        am: (N, T, V) logits of the smoothed loss from the encoder; None omits the smoothed loss.
        lm: (N, U + 1, V) logits of the smoothed loss from the predictor; given together with `am`.
        band: the nodes to run the joiner on, instead of choosing them; not for ``torchaudio``.
        band_size: positions per frame where they are known already (`todm.losses.band.feasible_size`).
            Computing them needs the values of the lengths, which synchronises a GPU.
    """

    encoder_out: Tensor
    predictor_out: Tensor
    join: Join
    labels: Tensor
    encoder_lens: Tensor
    label_lens: Tensor
    am: Tensor | None = None
    lm: Tensor | None = None
    band: Band | None = None
    band_size: int | None = None

    @property
    def num_utterances(self) -> int:
        """Number of utterances N."""
        return self.encoder_out.shape[0]

    @property
    def num_frames(self) -> int:
        """Number of frames T, padding included."""
        return self.encoder_out.shape[1]

    @property
    def num_labels(self) -> int:
        """Number of labels U, padding included."""
        return self.labels.shape[1]

    def check_shapes(self) -> None:
        """Assert that all shapes agree."""
        num_utterances, num_frames, num_labels = self.num_utterances, self.num_frames, self.num_labels
        assert self.labels.shape[0] == num_utterances, (self.labels.shape, self.encoder_out.shape)
        assert self.predictor_out.shape[:2] == (num_utterances, num_labels + 1), self.predictor_out.shape
        lens = (self.encoder_lens, self.label_lens)
        assert all(x.shape == (num_utterances,) for x in lens), lens
        assert (self.am is None) == (self.lm is None), "am and lm are given together"
        assert self.am is None or self.am.shape[:2] == (num_utterances, num_frames), self.am.shape
        assert self.lm is None or self.lm.shape[:2] == (num_utterances, num_labels + 1), self.lm.shape
        if self.band is not None:
            assert self.band.begin.shape == (num_utterances, num_frames), self.band.begin.shape
            assert 1 <= self.band.size <= num_labels + 1, (self.band.size, num_labels)
        assert self.band_size is None or 1 <= self.band_size <= num_labels + 1, (self.band_size, num_labels)

    def without_padding(self) -> TransducerInputs:
        """Overwrite the padding by zeros (labels: by blank), so that not even a NaN there has an effect."""
        positions = torch.arange(self.num_labels + 1, device=self.encoder_out.device)
        frames = torch.arange(self.num_frames, device=self.encoder_out.device)
        frame_padding = frames >= self.encoder_lens[:, None]
        position_padding = positions > self.label_lens[:, None]
        label_padding = positions[:-1] >= self.label_lens[:, None]
        return replace(
            self,
            encoder_out=_zero(self.encoder_out, frame_padding),
            predictor_out=_zero(self.predictor_out, position_padding),
            labels=self.labels.masked_fill(label_padding, 0),
            am=None if self.am is None else _zero(self.am, frame_padding),
            lm=None if self.lm is None else _zero(self.lm, position_padding),
        )

    def choose_band_size(self, prune_range: int) -> int:
        """Number of positions of a frame's window: `band_size` if given, or else a feasible one."""
        if self.band_size is not None:
            return self.band_size
        return feasible_size(prune_range, self.encoder_lens, self.label_lens, self.num_labels)

    def next_labels(self) -> Tensor:
        """Label that leaves each position, (N, U + 1) int64; blank at the last position."""
        return torch.nn.functional.pad(self.labels, (0, 1))


@dataclass(frozen=True, kw_only=True)
class TransducerLoss:
    """Losses of one pass.

    Args:
        simple: (N,) smoothed loss of the additive joiner; zeros where it was not computed.
        pruned: (N,) loss of the full joiner on the band.
        band: the nodes that the joiner ran on.
        normalise: computes `log_probs`; called on first access, because not every backend has them.
    """

    simple: Tensor
    pruned: Tensor
    band: Band
    normalise: Callable[[], Tensor]

    @cached_property
    def log_probs(self) -> Tensor:
        """Log-softmax of the joiner on the band, (N, T, S, V), with gradient.

        Finite, but meaningless, at nodes outside an utterance.
        """
        return self.normalise()


def _zero(x: Tensor, padding: Tensor) -> Tensor:
    """``x`` (N, L, ...) with the rows where ``padding`` (N, L) holds set to zero, gradient included."""
    return x.masked_fill(padding.unsqueeze(-1), 0.0)
