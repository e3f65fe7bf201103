"""Batched greedy search against one utterance at a time, and streaming against the full pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.nets import SPACE, make_batch, make_feats, make_talkative
from todm.data.tokenizer import Tokenizer
from todm.decode.evaluate import transcribe_batches
from todm.decode.greedy import UNK, greedy_search
from todm.decode.streaming import encode_in_chunks, make_streaming_view
from todm.nn.transducer import Transducer
from todm.runtime.fbank import LOG_FLOOR


@torch.no_grad()
def search_one(net: Transducer, encoder_out: Tensor) -> list[int]:
    """Plain greedy search of one utterance (T', J): at most one symbol per frame."""
    context = [-1] * (net.context_size - 1) + [0]
    labels: list[int] = []
    for frame in encoder_out:
        predictor_out = net.predict_step(torch.tensor([context]))
        best = int(net.join(frame[None], predictor_out).argmax())
        if best not in (0, UNK):
            labels.append(best)
            context = [*context[1:], best]
    return labels


def test_batched_search_equals_a_plain_loop() -> None:
    net = make_talkative(SPACE.max())
    batch = make_batch([161, 99, 160, 40, 6], [1] * 5)
    encoder_out, lens = net.encode(batch.feats, batch.feat_lens)
    together = greedy_search(net, encoder_out, lens)
    alone = [search_one(net, row[: int(length)]) for row, length in zip(encoder_out, lens, strict=True)]
    assert together == alone
    frames = int(lens.sum())
    assert 0.1 * frames < sum(map(len, together)) < 0.95 * frames
    assert together[-1] == []
    best = net.join(encoder_out, net.predict(torch.zeros(5, 0, dtype=torch.int64))).argmax(-1)
    assert bool((best == UNK).any())  # otherwise <unk> is not covered


def test_padding_does_not_change_results() -> None:
    net = make_talkative(SPACE.max())
    batch = make_batch([161, 99], [1, 1])
    encoder_out, lens = net.encode(batch.feats, batch.feat_lens)
    spoiled = encoder_out.clone()
    spoiled[1, int(lens[1]) :] = 50.0
    assert greedy_search(net, spoiled, lens) == greedy_search(net, encoder_out, lens)


@pytest.mark.parametrize("factor", [4, 8])
@settings(max_examples=15, deadline=None)
@given(num_frames=st.integers(0, 130), chunk=st.integers(1, 40))
def test_any_chunking_equals_the_full_pass(factor: Literal[4, 8], num_frames: int, chunk: int) -> None:
    net = make_talkative(SPACE.max("streaming"), factor=factor)
    feats = make_feats(num_frames, batch=2, seed=num_frames)
    out = encode_in_chunks(net, feats, chunk)
    whole, lens = net.encode(feats, torch.tensor([num_frames] * 2))
    assert out.shape[1] == int(lens[0])
    torch.testing.assert_close(out, whole[:, : out.shape[1]], atol=2e-5, rtol=1e-5)


class Spell(Tokenizer):
    """Tokenizer of single letters, without a model."""

    def __init__(self) -> None:
        pass

    def decode(self, ids: Sequence[int]) -> str:
        return " ".join(chr(ord("A") + label) for label in ids)


@pytest.mark.parametrize("mode", SPACE.modes)
def test_transcribe_batches_applies_the_streaming_view(mode: Literal["offline", "streaming"]) -> None:
    net = make_talkative(SPACE.max(mode))
    batch = make_batch([100, 60], [1, 1])
    chunks = make_streaming_view(net, 160)
    assert (chunks is None) == (mode == "offline")
    scored = transcribe_batches(net, [batch, batch], Spell(), chunks=chunks)
    assert [utterance.id for utterance in scored] == ["0", "1", "0", "1"]
    tail = 0 if chunks is None else chunks.tail_frames
    for row, length in enumerate((100, 60)):
        silence = torch.full((1, tail, 80), LOG_FLOOR)
        feats = torch.cat((batch.feats[row : row + 1, :length], silence), dim=1)
        consumed = length if chunks is None else chunks.num_consumed_frames(length + tail)
        encoder_out, _ = net.encode(feats[:, :consumed], torch.tensor([consumed]))
        wanted = Spell().decode(search_one(net, encoder_out[0]))
        assert " ".join(scored[row].hyp) == wanted != ""
