"""Streaming in torch: the chunking of a host, and encoding chunk by chunk, before any export.

Shapes: N batch, T feature frames, T' encoder frames, J joiner width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from todm.config import Config
from todm.errors import UserError
from todm.nn.transducer import Transducer
from todm.runtime.chunks import Chunks, compute_tail_frames
from todm.runtime.fbank import DEFAULT_FBANK, LOG_FLOOR


def chunk_frames(chunk_ms: int, factor: int) -> int:
    """Convert a chunk length into encoder frames.

    Args:
        chunk_ms: milliseconds of audio per chunk.
        factor: feature frames per encoder frame.

    Raises:
        UserError: `chunk_ms` is not a positive multiple of an encoder frame.
    """
    period = round(DEFAULT_FBANK.frame_shift_ms * factor)
    if chunk_ms < period or chunk_ms % period:
        raise UserError(f"export.chunk_ms: {chunk_ms} is not a multiple of {period} ms, one encoder frame")
    return chunk_ms // period


def make_streaming_view(net: Transducer, chunk_ms: int, delay: int = 0) -> Chunks | None:
    """Make the chunking with which a host feeds `net`, exported for chunks of `chunk_ms`.

    Args:
        net: a plain net.
        chunk_ms: milliseconds of audio per chunk.
        delay: encoder frames by which the net emits late, from which the tail is computed; 0 appends the
            silence of an unknown delay.

    Returns:
        None for an offline net.
    """
    if net.spec.mode == "offline":
        return None
    shift = net.subsampling_factor * chunk_frames(chunk_ms, net.subsampling_factor)
    window = shift + net.subsampling.overlap
    tail_frames = compute_tail_frames(window, net.subsampling_factor, delay)
    return Chunks(window=window, shift=shift, stated_tail_frames=tail_frames)


def make_configured_view(net: Transducer, config: Config) -> Chunks | None:
    """Make the chunking of the bundle of `net`: chunks and tail by the settings of its training.

    Returns:
        None for an offline net.
    """
    # Nets of one mode have no offline lattice that they could follow late.
    delay = config.train.loss.streaming_delay if len(config.space.modes) > 1 else 0
    return make_streaming_view(net, config.export.chunk_ms, delay)


def apply_streaming_view(feats: Tensor, feat_lens: Tensor, chunks: Chunks | None) -> tuple[Tensor, Tensor]:
    """Append trailing silence and drop the last partial chunk, as a streaming host does.

    Args:
        feats: (N, T, 80), padded with `LOG_FLOOR`.
        feat_lens: (N,) int64.
        chunks: chunking of the host; None returns the inputs unchanged.

    Returns:
        features (N, T + tail, 80) and lengths (N,) int64.
    """
    if chunks is None:
        return feats, feat_lens
    feats = torch.nn.functional.pad(feats, (0, 0, 0, chunks.tail_frames), value=LOG_FLOOR)
    consumed = [chunks.num_consumed_frames(length + chunks.tail_frames) for length in feat_lens.tolist()]
    return feats, torch.tensor(consumed)


@torch.inference_mode()
def encode_in_chunks(net: Transducer, feats: Tensor, chunk_frames: int) -> Tensor:
    """Encode utterances of equal length chunk by chunk.

    Args:
        net: a plain net with a streaming spec.
        feats: (N, T, 80) float32.
        chunk_frames: encoder frames per chunk, at least 1; the last chunk may be shorter.

    Returns:
        (N, T', J), equal to `Transducer.encode` of the whole utterances.
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
