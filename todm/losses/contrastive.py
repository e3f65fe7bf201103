"""Contrastive loss between two views of each utterance (SimCSE, Gao et al.).

SimCSE (arXiv 2104.08821) passes a sentence twice, with other dropout masks each time; 2-Tier SimCSE (arXiv
2501.13758) trains so first and with labels afterwards. Here a view is the mean over time of the encoder's
output.

Shapes: N batch, T encoder frames, J joiner width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from todm.nn.transducer import length_mask


def info_nce(one: Tensor, other: Tensor, *, temperature: float) -> Tensor:
    """Compute InfoNCE: identification of each view's partner among the views of all utterances.

    Per utterance -log softmax of cosine similarity / temperature (Gao et al., equation 1), summed.

    Args:
        one: (N, J) first views.
        other: (N, J) second views of the same utterances, in the same order.
        temperature: above 0.

    Returns:
        Scalar, in nats, at least 0; 0 for a batch of one utterance, which has no negatives.
    """
    # Not as a matrix product, which autocast would compute in half precision: temperatures are small.
    similarity = nn.functional.cosine_similarity(one[:, None], other[None], dim=-1)
    logits = similarity / temperature
    partners = torch.arange(len(one), device=one.device)
    return nn.functional.cross_entropy(logits, partners, reduction="sum")


def pool(encoder_out: Tensor, lens: Tensor) -> Tensor:
    """Average over each utterance's own frames: (N, T, J) and lengths (N,) to (N, J) float32."""
    encoder_out = encoder_out.float()
    mask = length_mask(lens, encoder_out)
    return (encoder_out * mask).sum(1) / lens.clamp(min=1)[:, None]
