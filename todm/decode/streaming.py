"""A streaming net fed chunk by chunk, in torch: what a device does, before any export.

Shapes: N batch, T feature frames, T' encoder frames, J joiner width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from todm.nn.transducer import Transducer


@torch.inference_mode()
def encode_in_chunks(net: Transducer, feats: Tensor, chunk_frames: int) -> Tensor:
    """Encode utterances of one length in chunks.

    Args:
        net: of a streaming spec.
        feats: (N, T, 80) float32.
        chunk_frames: encoder frames per chunk, at least 1; a shorter last chunk takes the rest.

    Returns:
        (N, T', J), what `Transducer.encode` gives for the whole.
    """
    assert chunk_frames >= 1
    factor, overlap = net.subsampling_factor, net.subsampling.overlap
    state = net.init_state(feats.shape[0])
    outputs = []
    start = 0
    while (ready := (feats.shape[1] - start - overlap) // factor) > 0:
        frames = min(ready, chunk_frames)
        out, state = net.encode_chunk(feats[:, start : start + frames * factor + overlap], state)
        outputs.append(out)
        start += frames * factor
    return torch.cat(outputs, dim=1) if outputs else feats.new_zeros(feats.shape[0], 0, net.joiner_dim)
