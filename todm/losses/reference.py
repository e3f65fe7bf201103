"""A slow, plain transducer loss, the reference in the tests of the other backends.

One scalar at a time, straight from the recursion's definition, differentiated by autograd; the
occupations that choose the band are autograd's gradient of the smoothed score.
"""

from __future__ import annotations

import torch
from torch import Tensor

from todm.losses.band import Band, choose_band, full_band
from todm.losses.interface import TransducerInputs, TransducerLoss, TransducerLossOptions


def compute(inputs: TransducerInputs, options: TransducerLossOptions) -> TransducerLoss:
    """Compute the loss by scalar loops over utterances, frames and positions."""
    everything = full_band(
        inputs.num_utterances, inputs.num_frames, inputs.num_labels, inputs.encoder_out.device
    )
    simple = inputs.encoder_out.new_zeros(inputs.num_utterances)
    band = inputs.band or everything
    if inputs.am is not None and inputs.lm is not None:
        log_probs = _smoothed(inputs, options)
        blank, label = _moves(log_probs, inputs.labels, everything)
        score = _score(blank, label, everything, inputs)
        simple = -score
        blank_occupation, label_occupation = torch.autograd.grad(
            score.sum(), (blank, label), retain_graph=True, materialize_grads=True
        )
        size = inputs.choose_band_size(options.prune_range)
        band = inputs.band or choose_band(
            blank_occupation, label_occupation, inputs.encoder_lens, inputs.label_lens, size
        )
    positions = band.indices()
    batch = torch.arange(inputs.num_utterances, device=positions.device)[:, None, None]
    log_probs = inputs.join(inputs.encoder_out[:, :, None], inputs.predictor_out[batch, positions])
    log_probs = log_probs.log_softmax(-1)
    blank, label = _moves(log_probs, inputs.labels, band)
    power = options.path_power
    pruned = -_score(power * blank, power * label, band, inputs) / power
    return TransducerLoss(simple=simple, pruned=pruned, band=band, normalise=lambda: log_probs)


def _smoothed(inputs: TransducerInputs, options: TransducerLossOptions) -> Tensor:
    """Compute the smoothed model's log-probabilities on the full lattice and vocabulary, (N, T, U + 1, V)."""
    assert inputs.am is not None and inputs.lm is not None
    joint = (inputs.am[:, :, None] + inputs.lm[:, None]).log_softmax(-1)
    label_only = inputs.lm.log_softmax(-1)
    unigram = torch.stack(
        [row[: int(n) + 1].mean(0) for row, n in zip(label_only.exp(), inputs.label_lens, strict=True)]
    )
    audio_only = (inputs.am + unigram.log()[:, None]).log_softmax(-1)
    rest = 1.0 - options.lm_scale - options.am_scale
    return rest * joint + options.lm_scale * label_only[:, None] + options.am_scale * audio_only[:, :, None]


def _moves(log_probs: Tensor, labels: Tensor, band: Band) -> tuple[Tensor, Tensor]:
    """Blank and next label, (N, T, S) each."""
    padded = torch.nn.functional.pad(labels, (0, 1))[:, None].expand(-1, log_probs.shape[1], -1)
    next_labels = padded.gather(2, band.indices())
    return log_probs[..., 0], log_probs.gather(3, next_labels.unsqueeze(-1)).squeeze(-1)


def _score(blank: Tensor, label: Tensor, band: Band, inputs: TransducerInputs) -> Tensor:
    """alpha(t, u) = logaddexp(alpha(t-1, u) + blank(t-1, u), alpha(t, u-1) + label(t, u-1)), to the end."""
    scores = []
    for n in range(blank.shape[0]):
        num_frames, num_labels = int(inputs.encoder_lens[n]), int(inputs.label_lens[n])
        alpha: dict[tuple[int, int], Tensor] = {}
        for t in range(num_frames):
            begin = int(band.begin[n, t])
            for u in range(begin, min(begin + band.size, num_labels + 1)):
                ways = [blank.new_zeros(())] if t == u == 0 else []
                if (t - 1, u) in alpha:
                    ways.append(alpha[t - 1, u] + blank[n, t - 1, u - int(band.begin[n, t - 1])])
                if (t, u - 1) in alpha:
                    ways.append(alpha[t, u - 1] + label[n, t, u - 1 - begin])
                if ways:
                    alpha[t, u] = torch.stack(ways).logsumexp(0)
        last = blank[n, num_frames - 1, num_labels - int(band.begin[n, num_frames - 1])]
        scores.append(alpha[num_frames - 1, num_labels] + last)
    return torch.stack(scores)
