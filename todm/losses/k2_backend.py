"""The pruned transducer loss by k2, an optional package.

k2 has no wheel for current Python and PyTorch in the public package index; it is found at run time
and never required. https://k2-fsa.github.io/k2/installation/ lists its own wheels.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from todm.errors import UserError
from todm.losses.band import Band, full_band
from todm.losses.interface import TransducerInputs, TransducerLoss, TransducerLossOptions
from todm.losses.native import join_on_band
from todm.nn.precision import at_least_float32


def compute(inputs: TransducerInputs, options: TransducerLossOptions) -> TransducerLoss:
    """Compute the loss with k2's mutual-information recursion.

    With ``am_scale`` above 0 the smoothed loss differs from the native one: k2 averages its unigram
    over the batch, padding included.

    Raises:
        UserError: k2 is missing or broken.
    """
    k2 = _import_k2()
    num_utterances, num_labels = inputs.num_utterances, inputs.num_labels
    zero = torch.zeros_like(inputs.label_lens)
    boundary = torch.stack((zero, zero, inputs.label_lens, inputs.encoder_lens), dim=1)
    simple = at_least_float32(inputs.encoder_out.new_zeros(num_utterances))
    band = full_band(num_utterances, inputs.num_frames, num_labels, inputs.encoder_out.device)
    if inputs.am is not None:
        simple, band = _smoothed(k2, inputs, options, boundary, band)
    band = inputs.band or band
    logits = join_on_band(inputs.join, inputs.encoder_out, inputs.predictor_out, band.indices())
    with torch.autocast(logits.device.type, enabled=False):
        logits = at_least_float32(logits)
        pruned = k2.rnnt_loss_pruned(
            logits=logits,
            symbols=inputs.labels,
            ranges=band.indices(),
            termination_symbol=0,
            boundary=boundary,
            reduction="none",
        )
    return TransducerLoss(simple=simple, pruned=pruned, band=band, normalise=lambda: logits.log_softmax(-1))


def _smoothed(
    k2: Any, inputs: TransducerInputs, options: TransducerLossOptions, boundary: Tensor, everything: Band
) -> tuple[Tensor, Band]:
    """Compute the smoothed loss (N,) and the band from its occupations."""
    am, lm = inputs.am, inputs.lm
    assert am is not None and lm is not None
    with torch.autocast(am.device.type, enabled=False):
        simple, (label_occupation, blank_occupation) = k2.rnnt_loss_smoothed(
            lm=at_least_float32(lm),
            am=at_least_float32(am),
            symbols=inputs.labels,
            termination_symbol=0,
            lm_only_scale=options.lm_scale,
            am_only_scale=options.am_scale,
            boundary=boundary,
            reduction="none",
            return_grad=True,
        )
    size = inputs.choose_band_size(options.prune_range)
    # A window as large as the lattice makes k2 print a warning per batch and return the same.
    if size == inputs.num_labels + 1:
        return simple, everything
    ranges = k2.get_rnnt_prune_ranges(
        px_grad=label_occupation, py_grad=blank_occupation, boundary=boundary, s_range=size
    )
    return simple, Band(begin=ranges[..., 0].long(), size=ranges.shape[-1])


def _import_k2() -> ModuleType:
    try:
        import k2
    except (ImportError, OSError) as error:
        raise UserError(
            "train.loss.backend: k2 cannot be imported; install a wheel that matches your torch from "
            "https://k2-fsa.github.io/k2/installation/, or use native"
        ) from error
    module: ModuleType = k2
    return module
