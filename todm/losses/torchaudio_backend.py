"""The exact transducer loss on the full lattice, by torchaudio.

N T (U + 1) V numbers of memory: for small vocabularies and for checking. The band is the lattice.
"""

from __future__ import annotations

import torch

from todm.errors import UserError
from todm.losses.band import full_band
from todm.losses.interface import TransducerInputs, TransducerLoss, TransducerLossOptions
from todm.losses.native import join_on_band, simple_loss
from todm.nn.precision import at_least_float32


def compute(inputs: TransducerInputs, options: TransducerLossOptions) -> TransducerLoss:
    """Compute the loss with ``torchaudio.functional.rnnt_loss``, and the smoothed loss natively.

    Raises:
        UserError: torchaudio is missing, or built for another torch; a band smaller than the lattice.
    """
    # torchaudio is optional, and its wheel fails to load with a torch of another build.
    try:
        from torchaudio.functional import rnnt_loss
    except (ImportError, OSError) as error:
        raise UserError(
            "train.loss.backend: torchaudio cannot be imported; install the release that matches "
            "your torch, or use native"
        ) from error
    simple, _ = simple_loss(inputs, options)
    band = full_band(inputs.num_utterances, inputs.num_frames, inputs.num_labels, inputs.encoder_out.device)
    if inputs.band is not None and inputs.band.size != band.size:
        raise UserError(
            "train.loss.backend: torchaudio computes the whole lattice only; set "
            "train.loss.alignment_warmup_steps to 0 or use native"
        )
    logits = join_on_band(inputs.join, inputs.encoder_out, inputs.predictor_out, band.indices())
    with torch.autocast(logits.device.type, enabled=False):
        logits = at_least_float32(logits)
        # torchaudio requires float32 and tensors exactly as long as the longest utterance.
        longest, most = int(inputs.encoder_lens.max()), int(inputs.label_lens.max())
        costs = rnnt_loss(
            logits[:, :longest, : most + 1].float().contiguous(),
            inputs.labels[:, :most].int().contiguous(),
            inputs.encoder_lens.int(),
            inputs.label_lens.int(),
            blank=0,
            reduction="none",
        )
    return TransducerLoss(simple=simple, pruned=costs, band=band, normalise=lambda: logits.log_softmax(-1))
