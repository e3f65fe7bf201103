"""Batched greedy search, one symbol per encoder frame at most, as device hosts do.

Shapes: N batch, T' encoder frames, J joiner width, K context size, V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor

from todm.nn.transducer import Transducer
from todm.runtime.constants import BLANK_ID

UNK = 2  # hosts skip <unk> like blank


@torch.inference_mode()
def greedy_search(net: Transducer, encoder_out: Tensor, encoder_lens: Tensor) -> list[list[int]]:
    """Best symbol frame by frame.

    Args:
        net: supplies predictor and joiner.
        encoder_out: (N, T', J).
        encoder_lens: (N,) int64, frames that count.

    Returns:
        N lists of label ids, without blank and ``<unk>``.
    """
    batch, num_frames, _ = encoder_out.shape
    context = net.predictor.start(batch, encoder_out.device)
    predictor_out = net.predict_step(context)
    lens = encoder_lens.to(encoder_out.device)
    symbols = torch.full((batch, num_frames), BLANK_ID, dtype=torch.int64, device=encoder_out.device)
    for t in range(num_frames):
        best = net.join(encoder_out[:, t], predictor_out).argmax(dim=-1)
        emits = (best != BLANK_ID) & (best != UNK) & (t < lens)
        if bool(emits.any()):
            shifted = torch.cat((context[:, 1:], best[:, None]), dim=1)
            context = torch.where(emits[:, None], shifted, context)
            predictor_out = net.predict_step(context)
            symbols[:, t] = torch.where(emits, best, BLANK_ID)
    return [[label for label in row if label != BLANK_ID] for row in symbols.tolist()]
