"""Batched greedy search in torch, with at most one symbol per encoder frame as in sherpa-onnx.

Shapes: N batch, T' encoder frames, J joiner width, K context size, V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor

from todm.nn.transducer import Transducer
from todm.runtime.constants import BLANK_ID

UNK = 2  # sherpa-onnx treats <unk> as blank


@torch.inference_mode()
def greedy_search(net: Transducer, encoder_out: Tensor, encoder_lens: Tensor) -> list[list[int]]:
    """Decode the best symbol of every encoder frame.

    Args:
        net: a plain net, of which predictor and joiner are used.
        encoder_out: (N, T', J).
        encoder_lens: (N,) int64, number of valid frames.

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
