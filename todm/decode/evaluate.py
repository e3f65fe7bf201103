"""Transcripts and word error rate of a plain net over batches."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from todm.decode.greedy import greedy_search
from todm.decode.wer import Utterance, make_utterances
from todm.nn.transducer import Transducer
from todm.runtime.chunks import Chunks
from todm.runtime.fbank import LOG_FLOOR


class TextBatch(Protocol):
    """What decoding reads of a batch: features (N, T, 80), lengths (N,), transcripts and ids."""

    @property
    def feats(self) -> Tensor: ...
    @property
    def feat_lens(self) -> Tensor: ...
    @property
    def texts(self) -> tuple[str, ...]: ...
    @property
    def ids(self) -> tuple[str, ...]: ...


class Detokenizer(Protocol):
    """Label ids to text."""

    def decode(self, ids: Sequence[int]) -> str: ...


@torch.inference_mode()
def transcribe_batches(
    net: Transducer, batches: Iterable[TextBatch], tokenizer: Detokenizer, *, chunks: Chunks | None = None
) -> list[Utterance]:
    """Greedy transcripts of every utterance in `batches`, beside what was said.

    Args:
        net: in eval mode; the batches are moved to its device.
        batches: features with transcripts, padded with `LOG_FLOOR`.
        tokenizer: turns labels into text.
        chunks: chunking of the streaming host (`make_streaming_view`); trailing silence is appended and the
            last partial chunk is dropped; None takes the batches as they are.
    """
    device = net.norm.weight.device
    scored: list[Utterance] = []
    for batch in batches:
        feats, feat_lens = hear(batch.feats, batch.feat_lens, chunks)
        encoder_out, lens = net.encode(feats.to(device), feat_lens.to(device))
        hypotheses = [tokenizer.decode(labels) for labels in greedy_search(net, encoder_out, lens)]
        scored += make_utterances(batch.ids, batch.texts, hypotheses)
    return scored


def hear(feats: Tensor, feat_lens: Tensor, chunks: Chunks | None) -> tuple[Tensor, Tensor]:
    """What a host lets a net hear of utterances: with `chunks`, silence behind them, in whole chunks.

    Args:
        feats: (N, T, 80), padded with `LOG_FLOOR`.
        feat_lens: (N,) int64.
        chunks: of a streaming net's host; None changes nothing.

    Returns:
        features (N, T + tail, 80) and lengths (N,).
    """
    if chunks is None:
        return feats, feat_lens
    feats = torch.nn.functional.pad(feats, (0, 0, 0, chunks.tail_frames), value=LOG_FLOOR)
    return feats, torch.tensor(
        [chunks.num_consumed_frames(length + chunks.tail_frames) for length in feat_lens.tolist()]
    )
