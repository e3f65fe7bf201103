"""The transducer loss and the registry of its backends.

Letters: N batch, T frames, U labels, S symbols of one frame's window, V vocabulary, J joiner dim.
The topology is the regular one: blank moves from frame t to t + 1, a label from position u to u + 1
within the frame; a path ends by the blank of the last frame at position U. Blank is id 0.

A new backend is one new file with a function ``compute`` and one line in `BACKENDS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from todm.config import LossConfig
from todm.errors import UserError
from todm.losses import k2_backend, native, reference, torchaudio_backend
from todm.losses.interface import TransducerInputs, TransducerLoss, TransducerLossOptions

_DEFAULTS = TransducerLossOptions.from_config(LossConfig())


@dataclass(frozen=True)
class Backend:
    """An implementation of the transducer loss.

    Args:
        compute: the loss of inputs whose padding is overwritten.
        has_path_power: whether it supports a ``path_power`` other than 1.
    """

    compute: Callable[[TransducerInputs, TransducerLossOptions], TransducerLoss]
    has_path_power: bool = False


BACKENDS = {
    "native": Backend(native.compute, has_path_power=True),
    "k2": Backend(k2_backend.compute),
    "torchaudio": Backend(torchaudio_backend.compute),
    "reference": Backend(reference.compute, has_path_power=True),
}


def rnnt_loss(inputs: TransducerInputs, options: TransducerLossOptions = _DEFAULTS) -> TransducerLoss:
    """Compute the negative log-likelihood of the labels, per utterance.

    With ``am`` and ``lm`` the smoothed loss of the additive joiner is computed. The joiner runs on
    ``band`` where one is given (the students of a step run on the teacher's), else on the band that the
    occupations of the smoothed loss choose, else on the full lattice.
    Padded frames and labels, NaN included, affect neither losses nor gradients.
    The losses are computed outside autocast, in float32 at least.

    Args:
        inputs: tensors of the pass.
        options: settings of the loss.

    Returns:
        ``simple`` and ``pruned`` (N,), the band, and the joiner's log-probabilities.

    Raises:
        UserError: the backend is unknown, not installed or does not support the options, or
            ``prune_range`` is below 2.
    """
    if options.prune_range < 2:
        raise UserError(f"train.loss.prune_range: {options.prune_range} leaves no path; use 2 or more")
    if options.backend not in BACKENDS:
        raise UserError(f"train.loss.backend: {options.backend!r} is unknown; use native, k2 or torchaudio")
    backend = BACKENDS[options.backend]
    if options.path_power != 1.0 and not backend.has_path_power:
        raise UserError(
            f"train.loss.path_power: {options.backend} supports 1 only; set it to 1 or use native"
        )
    inputs.check_shapes()
    return backend.compute(inputs.without_padding(), options)
