"""Two views of each utterance attract each other and repel the other utterances' (SimCSE, Gao et al.).

SimCSE (arXiv 2104.08821) passes a sentence twice, with other dropout masks each time; 2-Tier SimCSE (arXiv
2501.13758) trains so first and with labels afterwards. Here a view is the mean over time of what an encoder
says.

Shapes: N batch, T encoder frames, J joiner width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from todm.nn.transducer import length_mask


def info_nce(one: Tensor, other: Tensor, *, temperature: float) -> Tensor:
    """InfoNCE: how hard it is to tell each view's partner from the other utterances' views.

    Per utterance -log softmax of cosine similarity / temperature (Gao et al., equation 1), summed.

    Args:
        one: (N, J) first views.
        other: (N, J) second views, row by row of the same utterances.
        temperature: above 0.

    Returns:
        scalar, nats, at least 0; 0 for a batch of one, which has nobody to be told from.
    """
    # Not as a matrix product, which autocast would take in half precision: temperatures are small.
    similarity = nn.functional.cosine_similarity(one[:, None], other[None], dim=-1)
    logits = similarity / temperature
    partners = torch.arange(len(one), device=one.device)
    return nn.functional.cross_entropy(logits, partners, reduction="sum")


def pool(encoder_out: Tensor, lens: Tensor) -> Tensor:
    """The mean over each utterance's own frames: (N, T, J) and lengths (N,) to (N, J) float32."""
    encoder_out = encoder_out.float()
    mask = length_mask(lens, encoder_out)
    return (encoder_out * mask).sum(1) / lens.clamp(min=1)[:, None]
