"""What goes into a transducer loss and what comes out, the same for every backend.

Letters: N batch, T frames, U labels, S symbols of one frame's window, V vocabulary, J joiner dim.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from todm.losses.band import Band, feasible_size

Join = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class TransducerLoss:
    """The losses of one pass.

    Args:
        simple: (N,) smoothed loss of the additive joiner; zeros where it was not asked for.
        pruned: (N,) loss of the full joiner on the band.
        band: the nodes that the joiner ran on.
        normalise: gives `log_probs`; called when they are asked for, because not every backend has them.
    """

    simple: Tensor
    pruned: Tensor
    band: Band
    normalise: Callable[[], Tensor]

    @cached_property
    def log_probs(self) -> Tensor:
        """Log-softmax of the joiner on the band, (N, T, S, V), with gradient.

        Finite, but without meaning, at nodes outside an utterance.
        """
        return self.normalise()


@dataclass(frozen=True, kw_only=True)
class LossInputs:
    """Arguments of `todm.losses.rnnt.rnnt_loss`, padding overwritten by zeros (labels: by blank)."""

    encoder_out: Tensor
    predictor_out: Tensor
    join: Join
    labels: Tensor
    encoder_lens: Tensor
    label_lens: Tensor
    am: Tensor | None
    lm: Tensor | None
    band: Band | None
    prune_range: int
    band_size: int | None
    lm_scale: float
    am_scale: float
    path_power: float
    with_log_probs: bool

    @classmethod
    def clean(
        cls,
        *,
        encoder_out: Tensor,
        predictor_out: Tensor,
        join: Join,
        labels: Tensor,
        encoder_lens: Tensor,
        label_lens: Tensor,
        am: Tensor | None,
        lm: Tensor | None,
        band: Band | None,
        prune_range: int,
        band_size: int | None,
        lm_scale: float,
        am_scale: float,
        path_power: float,
        with_log_probs: bool,
    ) -> LossInputs:
        """Check the shapes and overwrite the padding, so that not even a NaN there gets any further."""
        num_utterances, num_frames, _ = encoder_out.shape
        num_labels = labels.shape[1]
        assert labels.shape[0] == num_utterances, (labels.shape, encoder_out.shape)
        assert predictor_out.shape[:2] == (num_utterances, num_labels + 1), predictor_out.shape
        assert encoder_lens.shape == label_lens.shape == (num_utterances,), (encoder_lens, label_lens)
        assert am is None or am.shape[:2] == (num_utterances, num_frames), am.shape
        assert lm is None or lm.shape[:2] == (num_utterances, num_labels + 1), lm.shape
        if band is not None:
            assert band.begin.shape == (num_utterances, num_frames), band.begin.shape
            assert 1 <= band.size <= num_labels + 1, (band.size, num_labels)
        assert band_size is None or 1 <= band_size <= num_labels + 1, (band_size, num_labels)

        device = encoder_out.device
        positions = torch.arange(num_labels + 1, device=device)
        frame_padding = torch.arange(num_frames, device=device) >= encoder_lens[:, None]
        position_padding = positions > label_lens[:, None]
        label_padding = positions[:-1] >= label_lens[:, None]
        return cls(
            encoder_out=_zero(encoder_out, frame_padding),
            predictor_out=_zero(predictor_out, position_padding),
            join=join,
            labels=labels.masked_fill(label_padding, 0),
            encoder_lens=encoder_lens,
            label_lens=label_lens,
            am=None if am is None else _zero(am, frame_padding),
            lm=None if lm is None else _zero(lm, position_padding),
            band=band,
            prune_range=prune_range,
            band_size=band_size,
            lm_scale=lm_scale,
            am_scale=am_scale,
            path_power=path_power,
            with_log_probs=with_log_probs,
        )

    def choose_band_size(self) -> int:
        """Positions of a frame's window: the size that was given, or else a feasible one."""
        num_labels = self.labels.shape[1]
        if self.band_size is not None:
            return self.band_size
        return feasible_size(self.prune_range, self.encoder_lens, self.label_lens, num_labels)

    def padded_labels(self) -> Tensor:
        """Labels with one blank behind: the label move out of every position, (N, U + 1) int64."""
        return torch.nn.functional.pad(self.labels, (0, 1))


def _zero(x: Tensor, padding: Tensor) -> Tensor:
    """``x`` (N, L, ...) with the rows where ``padding`` (N, L) holds set to zero, gradient included."""
    return x.masked_fill(padding.unsqueeze(-1), 0.0)
