"""Transcripts and word error rate of a plain net over batches."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from todm.decode.greedy import greedy_search
from todm.decode.wer import Utterance, make_utterances
from todm.nn.transducer import Transducer
from todm.runtime.bundle import PATIENCE_FRAMES
from todm.runtime.fbank import LOG_FLOOR

# A stream's host lets silence follow the last sample, or the last words would never leave the encoder.
STREAM_TAIL_FRAMES = 36 + PATIENCE_FRAMES


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
    net: Transducer, batches: Iterable[TextBatch], tokenizer: Detokenizer, *, tail_frames: int | None = None
) -> list[Utterance]:
    """Greedy transcripts of every utterance in `batches`, beside what was said.

    Args:
        net: in eval mode; the batches are moved to its device.
        batches: features with transcripts, padded with `LOG_FLOOR`.
        tokenizer: turns labels into text.
        tail_frames: frames of silence put behind each utterance; by default what a streaming net's host
            appends, `STREAM_TAIL_FRAMES`, and none for an offline net.
    """
    device = net.norm.weight.device
    if tail_frames is None:
        tail_frames = STREAM_TAIL_FRAMES if net.spec.mode == "streaming" else 0
    scored: list[Utterance] = []
    for batch in batches:
        feats = torch.nn.functional.pad(batch.feats.to(device), (0, 0, 0, tail_frames), value=LOG_FLOOR)
        encoder_out, lens = net.encode(feats, batch.feat_lens.to(device) + tail_frames)
        hypotheses = [tokenizer.decode(labels) for labels in greedy_search(net, encoder_out, lens)]
        scored += make_utterances(batch.ids, batch.texts, hypotheses)
    return scored
