"""Search and streaming of this package against sherpa-onnx, on the same models and audio."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from todm.runtime.bundle import open_bundle
from todm.runtime.decoding import Method, make_search
from todm.runtime.fbank import compute_fbank
from todm.runtime.hosts import open_host
from todm.runtime.offline import OfflineRecognizer
from todm.runtime.recognizer import open_recognizer
from todm.runtime.resample import resample
from todm.runtime.streaming import EndpointRule, EndpointRules, StreamingRecognizer
from todm.runtime.transcript import Transcript

sherpa_onnx = pytest.importorskip("sherpa_onnx")

LENGTHS = (16000, 1601, 39999, 80123, 27777, 9000, 120001, 53531)
METHODS = {"greedy": "greedy_search", "beam": "modified_beam_search"}


def host_arguments(folder: Path, method: str, **options: Any) -> dict[str, Any]:
    files = {name: str(folder / f"{name}.onnx") for name in ("encoder", "decoder", "joiner")}
    return {
        **files,
        "tokens": str(folder / "tokens.txt"),
        "num_threads": 1,
        "decoding_method": METHODS[method],
        **options,
    }


def decode_offline(
    folder: Path, utterances: Sequence[np.ndarray], method: str, **options: Any
) -> list[tuple[str, list[str], list[float]]]:
    host = sherpa_onnx.OfflineRecognizer.from_transducer(**host_arguments(folder, method, **options))
    streams = [host.create_stream() for _ in utterances]
    for stream, samples in zip(streams, utterances, strict=True):
        stream.accept_waveform(16000, samples)
    host.decode_streams(streams)
    return [(s.result.text.strip(), s.result.tokens, s.result.timestamps) for s in streams]


def assert_same(ours: Transcript, theirs: tuple[str, list[str], list[float]]) -> None:
    text, tokens, timestamps = theirs
    assert ours.text == text
    assert list(ours.tokens) == tokens
    assert len(ours.timestamps) == len(timestamps)
    # sherpa-onnx counts from the start of the segment.
    assert np.allclose(np.subtract(ours.timestamps, ours.start_time), timestamps, atol=1e-4)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("penalty", [0.0, 1.5])
@pytest.mark.parametrize("context", [1, 2, 4])
def test_offline_results_equal_the_host(
    method: Method,
    penalty: float,
    context: int,
    tmp_path: Path,
    save_bundle: Callable[..., Path],
    make_utterances: Callable[..., list[np.ndarray]],
) -> None:
    utterances = make_utterances(LENGTHS)
    folder = save_bundle(tmp_path / "m", "offline", seed=context, context=context)
    bundle = open_bundle(folder)
    recognizer = OfflineRecognizer(bundle, make_search(bundle, method, blank_penalty=penalty))
    theirs = decode_offline(folder, utterances, method, blank_penalty=penalty)
    for batch_size in (1, 3, 8):
        ours = recognizer.transcribe(utterances, batch_size=batch_size)
        for one, other in zip(ours, theirs, strict=True):
            assert_same(one, other)
    num_tokens = sum(len(tokens) for _, tokens, _ in theirs)
    num_frames = sum(LENGTHS) // 640
    assert 0.05 * num_frames < num_tokens < 0.9 * num_frames  # neither silence nor a symbol everywhere


@pytest.mark.parametrize("paths", [1, 2, 10])
def test_offline_beams_of_other_widths_equal_the_host(
    paths: int, offline_bundle: Path, make_utterances: Callable[..., list[np.ndarray]]
) -> None:
    utterances = make_utterances(LENGTHS, seed=1)
    bundle = open_bundle(offline_bundle)
    recognizer = OfflineRecognizer(bundle, make_search(bundle, "beam", max_active_paths=paths))
    theirs = decode_offline(offline_bundle, utterances, "beam", max_active_paths=paths)
    for one, other in zip(recognizer.transcribe(utterances), theirs, strict=True):
        assert_same(one, other)


class HostStream:
    """sherpa-onnx's streaming recognizer with the interface of ours."""

    def __init__(self, folder: Path, method: str, **options: Any) -> None:
        self.host = sherpa_onnx.OnlineRecognizer.from_transducer(**host_arguments(folder, method, **options))
        self.streams: list[Any] = []

    def result(self, stream: Any) -> tuple[str, list[str], list[float]]:
        result = self.host.get_result_all(stream)
        return result.text.strip(), result.tokens, result.timestamps


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("chunk", [2, 8])
def test_partial_and_final_streaming_results_equal_the_host(
    method: Method,
    chunk: int,
    tmp_path: Path,
    save_bundle: Callable[..., Path],
    make_utterances: Callable[..., list[np.ndarray]],
) -> None:
    folder = save_bundle(tmp_path / "m", "streaming", chunk=chunk)
    bundle = open_bundle(folder)
    ours = StreamingRecognizer(bundle, make_search(bundle, method))
    theirs = HostStream(folder, method)
    utterances = make_utterances(LENGTHS[:5])
    assert bundle.streaming is not None
    tail = bundle.streaming.tail_frames
    our_streams = [ours.create_stream() for _ in utterances]
    their_streams = [theirs.host.create_stream() for _ in utterances]
    sizes = np.random.default_rng(3).integers(1, 9000, size=200)
    position, seen = 0, 0
    for size in sizes:
        for samples, mine, other in zip(utterances, our_streams, their_streams, strict=True):
            piece = samples[position : position + size]
            if len(piece):
                mine.accept_waveform(16000, piece)
                other.accept_waveform(16000, piece)
            if position < len(samples) <= position + size:
                mine.input_finished()
                other.accept_waveform(16000, np.zeros(160 * tail, np.float32))
                other.input_finished()
        position += int(size)
        while ready := [s for s in our_streams if ours.is_ready(s)]:
            ready_there = [s for s in their_streams if theirs.host.is_ready(s)]
            assert [our_streams.index(s) for s in ready] == [their_streams.index(s) for s in ready_there]
            ours.decode_streams(ready)
            theirs.host.decode_streams(ready_there)
            for mine, other in zip(our_streams, their_streams, strict=True):
                result = ours.get_result(mine)
                assert_same(result, theirs.result(other))
                seen += len(result.tokens)
        assert not any(theirs.host.is_ready(s) for s in their_streams)
    assert position > max(len(samples) for samples in utterances)
    assert seen > 100


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("silence", "reset_encoder"), [(0.8, False), (0.16, False), (0.16, True)])
def test_endpoints_and_segments_equal_the_host(
    method: Method,
    silence: float,
    reset_encoder: bool,
    streaming_bundle: Path,
    make_utterances: Callable[..., list[np.ndarray]],
) -> None:
    bundle = open_bundle(streaming_bundle)
    # The toy model is never silent for long: shorter rules let every one of them act.
    rules = EndpointRules(
        rule1=EndpointRule(needs_speech=False, min_trailing_silence=silence, min_utterance_length=0.0),
        rule2=EndpointRule(needs_speech=True, min_trailing_silence=silence / 2, min_utterance_length=0.0),
        rule3=EndpointRule(needs_speech=False, min_trailing_silence=0.0, min_utterance_length=3.0),
    )
    search = make_search(bundle, method)
    ours = StreamingRecognizer(bundle, search, endpoint=rules, reset_encoder=reset_encoder)
    theirs = HostStream(
        streaming_bundle,
        method,
        enable_endpoint_detection=True,
        rule1_min_trailing_silence=silence,
        rule2_min_trailing_silence=silence / 2,
        rule3_min_utterance_length=3.0,
        reset_encoder=reset_encoder,
    )
    mine, other = ours.create_stream(), theirs.host.create_stream()
    (samples,) = make_utterances([16000 * 20], seed=5)
    samples[50000:80000] = 0
    samples[160000:] *= 0.01
    num_resets = 0
    for begin in range(0, len(samples), 1234):
        mine.accept_waveform(16000, samples[begin : begin + 1234])
        other.accept_waveform(16000, samples[begin : begin + 1234])
        while ours.is_ready(mine):
            assert theirs.host.is_ready(other)
            ours.decode_streams([mine])
            theirs.host.decode_stream(other)
            assert ours.is_endpoint(mine) == theirs.host.is_endpoint(other)
            if ours.is_endpoint(mine):
                num_resets += not ours.get_result(mine).tokens
                ours.reset(mine)
                theirs.host.reset(other)
            result = ours.get_result(mine)
            assert_same(result, theirs.result(other))
            assert result.start_time == pytest.approx(theirs.host.start_time(other), abs=1e-4)
            assert result.segment == theirs.host.get_result_all(other).segment
    assert ours.get_result(mine).segment >= 3
    assert num_resets or not reset_encoder


@pytest.mark.parametrize("rate", [8000, 44100])
def test_audio_of_another_rate_gives_the_features_of_the_host(rate: int, streaming_bundle: Path) -> None:
    host = HostStream(streaming_bundle, "greedy").host
    stream = host.create_stream()
    samples = np.random.default_rng(rate).uniform(-0.5, 0.5, rate).astype(np.float32)
    stream.accept_waveform(rate, samples)
    theirs = np.array([stream.get_frames(i, 1) for i in range(90)]).reshape(90, -1)
    ours = compute_fbank(resample(samples, rate, 16000))[:90]
    assert np.abs(ours - theirs).max() < 0.02


@pytest.mark.parametrize("mode", ["offline", "streaming"])
@pytest.mark.parametrize("rate", [8000, 44100])
def test_audio_of_another_rate_gives_the_text_of_the_host(
    mode: str,
    rate: int,
    offline_bundle: Path,
    streaming_bundle: Path,
    make_utterances: Callable[..., list[np.ndarray]],
) -> None:
    folder = offline_bundle if mode == "offline" else streaming_bundle
    ours = open_recognizer(folder)
    host = open_host("sherpa-onnx", folder, precision="fp32", method="greedy", num_threads=1)
    num_tokens = 0
    for samples in make_utterances([2 * rate, 3 * rate + 77, rate // 2 + 5], seed=rate):
        stream = host.create_stream()
        stream.accept_waveform(rate, samples)
        stream.input_finished()
        if isinstance(ours, StreamingRecognizer):
            own = ours.create_stream()
            for begin in range(0, len(samples), 1000):
                own.accept_waveform(rate, samples[begin : begin + 1000])
            own.input_finished()
            while ours.is_ready(own):
                ours.decode_streams([own])
            result = ours.get_result(own)
        else:
            result = ours.transcribe([resample(samples, rate, 16000)])[0]
        num_tokens += len(result.tokens)
        assert stream.get_result() == result.text.strip()
    assert num_tokens > 10


def test_unk_is_treated_as_blank(
    offline_bundle: Path, make_utterances: Callable[..., list[np.ndarray]]
) -> None:
    """The toy model must emit <unk> at times; otherwise the comparisons above do not cover it."""
    bundle = open_bundle(offline_bundle)
    assert bundle.tokens.unk_id == 2
    naive = replace(bundle, tokens=replace(bundle.tokens, unk_id=-1))
    utterances = make_utterances(LENGTHS)
    silent = OfflineRecognizer(bundle).transcribe(utterances)
    spoken = OfflineRecognizer(naive).transcribe(utterances)
    assert not any(2 in result.ids for result in silent)
    assert any(2 in result.ids for result in spoken)
