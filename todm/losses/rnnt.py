"""The transducer loss behind one function, whatever computes it.

Letters: N batch, T frames, U labels, S symbols of one frame's window, V vocabulary, J joiner dim.
The topology is the regular one: blank moves from frame t to t + 1, a label from position u to u + 1
within the frame; a path ends by the blank of the last frame at position U. Blank is id 0.
"""

from __future__ import annotations

from torch import Tensor

from todm.errors import UserError
from todm.losses.band import Band
from todm.losses.interface import Join, LossInputs, TransducerLoss

__all__ = ["Band", "TransducerLoss", "rnnt_loss"]


def rnnt_loss(
    *,
    encoder_out: Tensor,
    predictor_out: Tensor,
    join: Join,
    labels: Tensor,
    encoder_lens: Tensor,
    label_lens: Tensor,
    am: Tensor | None = None,
    lm: Tensor | None = None,
    band: Band | None = None,
    prune_range: int = 5,
    band_size: int | None = None,
    lm_scale: float = 0.25,
    am_scale: float = 0.0,
    path_power: float = 1.0,
    with_log_probs: bool = True,
    backend: str = "native",
) -> TransducerLoss:
    """Negative log-likelihood of the labels, per utterance.

    With ``am`` and ``lm`` the smoothed loss of the additive joiner is computed. The joiner runs on
    ``band`` where one is given (the students of a step run on the teacher's), else on the band that the
    smoothed loss's occupations choose, else on the full lattice.
    What stands in padded frames and labels, NaN included, reaches neither losses nor gradients.
    The losses are computed outside autocast, in float32 at least.

    Args:
        encoder_out: (N, T, J) encoder output, projected to the joiner's width.
        predictor_out: (N, U + 1, J) predictor output, likewise.
        join: maps (N, T, 1, J) and (N, T, S, J) to logits (N, T, S, V).
        labels: (N, U) int64, 1 to V - 1; the padding may hold anything.
        encoder_lens: (N,) int64, frames of each utterance, 1 to T.
        label_lens: (N,) int64, labels of each utterance, 0 to U.
        am: (N, T, V) logits of the smoothed loss from the encoder.
        lm: (N, U + 1, V) logits of the smoothed loss from the predictor.
        band: the nodes to run the joiner on, instead of choosing them; not for ``torchaudio``.
        prune_range: positions per frame S, at least 2. It is made smaller for batches with fewer
            labels, and larger where an utterance has more than T (S - 1) labels.
        band_size: the feasible positions per frame, where they are known (`todm.losses.band.feasible_size`):
            to find them takes the lengths' values, for which a GPU is waited for in the midst of its work.
        lm_scale: share of the label-only model in the smoothed loss.
        am_scale: share of the audio-only model in the smoothed loss.
        path_power: tau >= 1, see `todm.losses.native`; above 1 for ``native`` only.
        with_log_probs: False if nobody will ask for `TransducerLoss.log_probs`; ``native`` then needs less
            memory.
        backend: ``native``, ``k2``, ``torchaudio`` (always the full lattice) or ``reference`` (tests).

    Returns:
        `TransducerLoss`: ``simple`` and ``pruned`` (N,), the band, and the joiner's log-probabilities.

    Raises:
        UserError: the backend is unknown or not installed, or ``prune_range`` is below 2.
    """
    if prune_range < 2:
        raise UserError(f"train.loss.prune_range: {prune_range} leaves no path; use 2 or more")
    assert (am is None) == (lm is None), "am and lm go together"
    inputs = LossInputs.clean(
        encoder_out=encoder_out,
        predictor_out=predictor_out,
        join=join,
        labels=labels,
        encoder_lens=encoder_lens,
        label_lens=label_lens,
        am=am,
        lm=lm,
        band=band,
        prune_range=prune_range,
        band_size=band_size,
        lm_scale=lm_scale,
        am_scale=am_scale,
        path_power=path_power,
        with_log_probs=with_log_probs,
    )
    if path_power != 1.0 and backend not in ("native", "reference"):
        raise UserError(f"train.loss.path_power: {backend} knows 1 only; set it to 1 or use native")
    return _compute(inputs, backend)


def _compute(inputs: LossInputs, backend: str) -> TransducerLoss:
    """Import the backend that was asked for, and nothing of the others."""
    if backend == "native":
        from todm.losses import native

        return native.compute(inputs)
    if backend == "k2":
        from todm.losses import k2_backend

        return k2_backend.compute(inputs)
    if backend == "torchaudio":
        from todm.losses import torchaudio_backend

        return torchaudio_backend.compute(inputs)
    if backend == "reference":
        from todm.losses import reference

        return reference.compute(inputs)
    raise UserError(f"train.loss.backend: {backend!r} is unknown; use native, k2 or torchaudio")
