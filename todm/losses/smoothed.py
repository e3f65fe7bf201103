"""Node log-probabilities of the smoothed "simple" loss (pruned RNN-T, Kuang et al., arXiv 2206.13236).

The additive joiner am(t) + lm(u) is cheap on the whole lattice, because its normaliser is a product:
sum_v exp(am + lm) = exp(am) . exp(lm). Smoothing mixes in (linearly, in the log domain) what the
labels alone and the audio alone predict, section 3.3 of the paper.

Letters: N batch, T frames, U labels, V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor

# Products of disjoint peaks underflow; below this value the logarithm is constant, so that its slope
# stays below float32's largest number.
_LOWEST = 1e-30


def smoothed_log_probs(
    am: Tensor, lm: Tensor, padded_labels: Tensor, label_lens: Tensor, *, lm_scale: float, am_scale: float
) -> tuple[Tensor, Tensor]:
    """Log-probability of blank and next label at every node.

    The audio-only model joins ``am`` with the utterance's own unigram: its label-only distribution,
    averaged over its positions. (Averages over a whole batch, as elsewhere, would let an utterance's
    loss depend on its neighbours.)

    Args:
        am: (N, T, V) logits from the encoder, finite also in padding.
        lm: (N, U + 1, V) logits from the predictor, likewise.
        padded_labels: (N, U + 1) int64, the next label of every position, anything at u >= U.
        label_lens: (N,) int64.
        lm_scale: weight of the label-only log-probability, 0 to 1.
        am_scale: weight of the audio-only log-probability, 0 to 1.

    Returns:
        blank, label: (N, T, U + 1) each.
    """
    num_utterances, num_frames, _ = am.shape
    num_positions = lm.shape[1]
    joint_scale = 1.0 - lm_scale - am_scale

    am_label = am.gather(2, padded_labels.unsqueeze(1).expand(-1, num_frames, -1))  # (N, T, U + 1)
    lm_label = lm.gather(2, padded_labels.unsqueeze(2)).transpose(1, 2)  # (N, 1, U + 1)
    am_blank = am[:, :, :1]  # (N, T, 1)
    lm_blank = lm[:, :, 0].unsqueeze(1)  # (N, 1, U + 1)

    am_max = am.detach().amax(-1, keepdim=True)
    lm_max = lm.detach().amax(-1, keepdim=True)
    am_exp = (am - am_max).exp()
    lm_exp = (lm - lm_max).exp()
    joint = torch.matmul(am_exp, lm_exp.transpose(1, 2)).clamp(min=_LOWEST)
    joint = joint.log() + am_max + lm_max.transpose(1, 2)  # (N, T, U + 1)

    blank = joint_scale * (am_blank + lm_blank - joint)
    label = joint_scale * (am_label + lm_label - joint)
    if lm_scale == 0.0 and am_scale == 0.0:
        return blank, label

    lm_total = lm_exp.sum(-1, keepdim=True)
    lm_norm = (lm_total.log() + lm_max).transpose(1, 2)  # (N, 1, U + 1)
    if lm_scale != 0.0:
        blank = blank + lm_scale * (lm_blank - lm_norm)
        label = label + lm_scale * (lm_label - lm_norm)
    if am_scale != 0.0:
        own = torch.arange(num_positions, device=lm.device) <= label_lens[:, None]
        weight = own / (label_lens[:, None] + 1).to(lm.dtype)
        unigram = (lm_exp / lm_total * weight.unsqueeze(-1)).sum(1).clamp(min=_LOWEST)  # (N, V)
        am_norm = torch.matmul(am_exp, unigram.unsqueeze(-1)).log() + am_max  # (N, T, 1)
        unigram = unigram.log()
        blank = blank + am_scale * (am_blank + unigram[:, None, :1] - am_norm)
        unigram_label = unigram.gather(1, padded_labels).unsqueeze(1)  # (N, 1, U + 1)
        label = label + am_scale * (am_label + unigram_label - am_norm)
    assert blank.shape == label.shape == (num_utterances, num_frames, num_positions)
    return blank, label
