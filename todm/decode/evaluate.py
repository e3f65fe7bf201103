"""Transcripts of a plain net over batches of features."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from todm.data.batch import Batch
from todm.data.tokenizer import Tokenizer
from todm.decode.greedy import greedy_search
from todm.decode.streaming import apply_streaming_view
from todm.decode.wer import Utterance, make_utterances
from todm.nn.transducer import Transducer
from todm.runtime.chunks import Chunks


@torch.inference_mode()
def transcribe_batches(
    net: Transducer, batches: Iterable[Batch], tokenizer: Tokenizer, *, chunks: Chunks | None = None
) -> list[Utterance]:
    """Greedy transcripts of all utterances, paired with their reference transcripts.

    Args:
        net: a plain net in eval mode; batches are moved to its device.
        batches: features with transcripts, padded with `LOG_FLOOR`.
        tokenizer: converts labels into text.
        chunks: chunking of the streaming host (`make_streaming_view`); appends trailing silence and drops the
            last partial chunk; None decodes the batches unchanged.
    """
    device = next(net.parameters()).device
    scored: list[Utterance] = []
    for batch in batches:
        feats, feat_lens = apply_streaming_view(batch.feats, batch.feat_lens, chunks)
        encoder_out, lens = net.encode(feats.to(device), feat_lens.to(device))
        hypotheses = [tokenizer.decode(labels) for labels in greedy_search(net, encoder_out, lens)]
        scored += make_utterances(batch.ids, batch.texts, hypotheses)
    return scored
