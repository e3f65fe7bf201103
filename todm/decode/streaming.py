"""A streaming net fed chunk by chunk, in torch: what a device does, before any export.

Shapes: N batch, T feature frames, T' encoder frames, J joiner width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from todm.errors import UserError
from todm.nn.transducer import Transducer
from todm.runtime.chunks import Chunks
from todm.runtime.fbank import DEFAULT_FBANK


def chunk_frames(chunk_ms: int, factor: int) -> int:
    """Encoder frames in `chunk_ms` milliseconds of audio; `UserError` when it is no whole number of them."""
    period = round(DEFAULT_FBANK.frame_shift_ms * factor)
    if chunk_ms < period or chunk_ms % period:
        raise UserError(f"export.chunk_ms: {chunk_ms} is not a multiple of {period} ms, one encoder frame")
    return chunk_ms // period


def make_streaming_view(net: Transducer, chunk_ms: int) -> Chunks | None:
    """How a host feeds `net` when it is exported for chunks of `chunk_ms`; None for an offline net."""
    if net.spec.mode == "offline":
        return None
    shift = net.subsampling_factor * chunk_frames(chunk_ms, net.subsampling_factor)
    return Chunks(window=shift + net.subsampling.overlap, shift=shift)


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
