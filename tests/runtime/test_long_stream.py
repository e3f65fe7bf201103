"""Endpoints and hours of audio: times, states and memory of one stream."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from todm.inference import load
from todm.runtime.bundle import open_bundle
from todm.runtime.decoding import Method, TokenSearch, make_search
from todm.runtime.decoding.beam import BeamState
from todm.runtime.decoding.greedy import GreedyState
from todm.runtime.machine import rss_mb
from todm.runtime.streaming import EndpointRule, EndpointRules, Stream, StreamingRecognizer
from todm.runtime.transcript import Transcript

MakeUtterances = Callable[..., list[np.ndarray]]
METHODS: tuple[Method, ...] = ("greedy", "beam")


def feed(
    recognizer: StreamingRecognizer,
    stream: Stream,
    samples: np.ndarray,
    *,
    size: int = 1600,
    endpoints: bool = True,
) -> list[Transcript]:
    """Segments that end within `samples`, given `size` samples at a time."""
    segments = []
    for begin in range(0, len(samples), size):
        stream.accept_waveform(16000, samples[begin : begin + size])
        while recognizer.is_ready(stream):
            recognizer.decode_streams([stream])
            if endpoints and recognizer.is_endpoint(stream):
                segments.append(recognizer.get_result(stream))
                recognizer.reset(stream)
    return segments


def finish(recognizer: StreamingRecognizer, stream: Stream) -> Transcript:
    stream.input_finished()
    while recognizer.is_ready(stream):
        recognizer.decode_streams([stream])
    return recognizer.get_result(stream)


def join(utterances: list[np.ndarray], pause: float) -> np.ndarray:
    silence = np.zeros(round(16000 * pause), np.float32)
    return np.concatenate([piece for samples in utterances for piece in (samples, silence)])


@pytest.mark.parametrize("reset_encoder", [False, True])
@pytest.mark.parametrize("size", [1600, 10**7])
def test_segments_are_the_whole_stream_with_its_times(
    size: int, reset_encoder: bool, streaming_bundle: Path, make_utterances: MakeUtterances
) -> None:
    """Utterances end at endpoints, with and without audio of the next ones in the buffer."""
    bundle = open_bundle(streaming_bundle)
    rules = EndpointRules(
        rule1=EndpointRule(needs_speech=False, min_trailing_silence=9, min_utterance_length=0)
    )
    recognizer = StreamingRecognizer(bundle, endpoint=rules, reset_encoder=reset_encoder)
    samples = join(make_utterances([30000, 41234, 27777, 50001], seed=7), pause=2.4)
    whole_stream, stream = recognizer.create_stream(), recognizer.create_stream()
    assert not feed(recognizer, whole_stream, samples, endpoints=False)
    whole = finish(recognizer, whole_stream)
    segments = feed(recognizer, stream, samples, size=size)
    segments.append(finish(recognizer, stream))
    with_tokens = [segment for segment in segments if segment.tokens]
    assert len(with_tokens) == 4
    assert sum((segment.ids for segment in segments), ()) == whole.ids
    assert sum((segment.timestamps for segment in segments), ()) == whole.timestamps
    assert [segment.segment for segment in with_tokens] == [0, 1, 2, 3]
    for earlier, later in pairwise(with_tokens):
        assert earlier.timestamps[-1] < later.start_time <= later.timestamps[0]
    assert "".join(segment.text for segment in segments).replace(" ", "") == whole.text.replace(" ", "")


def test_segments_of_the_python_api_have_the_times_of_the_stream(
    streaming_bundle: Path, make_utterances: MakeUtterances
) -> None:
    model = load(streaming_bundle)
    samples = join(make_utterances([30000, 41234, 27777], seed=7), pause=2.4)
    whole = model.transcribe(samples)
    stream = model.stream()
    segments = []
    for begin in range(0, len(samples), 1600):
        stream.accept_waveform(16000, samples[begin : begin + 1600])
        if stream.is_endpoint():
            segments.append(stream.get_result())
            stream.reset()
    stream.input_finished()
    segments.append(stream.get_result())
    assert len(segments) == 4 and [bool(segment.tokens) for segment in segments] == [True, True, True, False]
    assert sum((segment.ids for segment in segments), ()) == whole.ids
    assert sum((segment.timestamps for segment in segments), ()) == whole.timestamps


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("reset_encoder", [False, True])
def test_after_a_silent_segment_a_stream_starts_anew(
    method: Method,
    reset_encoder: bool,
    tmp_path: Path,
    save_bundle: Callable[..., Path],
    make_utterances: MakeUtterances,
) -> None:
    # With this seed the first labels of a beam in silence are none.
    bundle = open_bundle(save_bundle(tmp_path / "m", "streaming", seed=4))
    recognizer = StreamingRecognizer(bundle, make_search(bundle, method), reset_encoder=reset_encoder)
    first, second = make_utterances([30000, 60000], seed=2)
    stream = recognizer.create_stream()
    segments = feed(recognizer, stream, join([first], pause=4.5))
    assert [bool(segment.tokens) for segment in segments] == [
        True,
        False,
    ]  # 1.2 s after speech, 2.4 s without
    fresh_states = bundle.init_states(1)
    reset = [np.array_equal(one, other) for one, other in zip(stream.states, fresh_states, strict=True)]
    start, pending = stream.start_frame, stream.num_frames_ready
    if stream.num_processed == 0:
        assert all(reset) == reset_encoder
    # The silence that is not decoded yet and the next utterance belong to the new segment.
    silence = np.zeros(len(join([first], pause=4.5)) - 160 * start, np.float32)
    fresh = recognizer.create_stream()
    if method == "greedy":
        # As in sherpa-onnx, the predictor's output for the last labels is in use until the next token.
        last = np.array([segments[0].ids[-bundle.context_size :]], np.int64)
        fresh.search_state.predictor_out = bundle.predict(last)[0]
    assert not feed(recognizer, fresh, np.concatenate([silence, second]), endpoints=False)
    assert not feed(recognizer, stream, second, endpoints=False)
    mine, theirs = finish(recognizer, stream), finish(recognizer, fresh)
    assert pending > 0 and mine.start_time == start / 100 == pytest.approx(theirs.start_time + start / 100)
    assert mine.timestamps[0] > 30000 / 16000 + 3.6
    if reset_encoder:
        assert mine.ids == theirs.ids and len(mine.ids) > 3
        assert np.allclose(mine.timestamps, np.add(theirs.timestamps, start / 100), atol=1e-9)
        for one, other in zip(stream.states, fresh.states, strict=True):
            assert np.allclose(one, other, atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_after_a_segment_with_tokens_the_last_labels_are_the_context(
    method: Method, streaming_bundle: Path, make_utterances: MakeUtterances
) -> None:
    bundle = open_bundle(streaming_bundle)
    recognizer = StreamingRecognizer(bundle, make_search(bundle, method), reset_encoder=True)
    stream = recognizer.create_stream()
    samples = join(make_utterances([30000], seed=2), pause=1.9)
    segments: list[Transcript] = []
    while not segments:  # stops before the next chunk
        segments = feed(recognizer, stream, samples[:160])
        samples = samples[160:]
    (segment,) = segments
    assert segment.tokens and any(np.abs(state).max() > 0 for state in stream.states)
    labels = segment.ids[-bundle.context_size :]
    state = stream.search_state
    contexts = (
        [state.tokens] if isinstance(state, GreedyState) else [h.tokens for h in state.hypotheses.values()]
    )
    assert labels in [tuple(context[-bundle.context_size :]) for context in contexts]
    assert recognizer.get_result(stream).ids == ()


def test_reset_recovers_with_beam_search_from_states_that_are_not_finite(
    streaming_bundle: Path, make_utterances: MakeUtterances
) -> None:
    bundle = open_bundle(streaming_bundle)
    recognizer = StreamingRecognizer(bundle, make_search(bundle, "beam"))
    (samples,) = make_utterances([40000])
    stream = recognizer.create_stream()
    feed(recognizer, stream, samples, endpoints=False)
    stream.states = (np.full_like(stream.states[0], np.nan), np.full_like(stream.states[1], np.inf))
    feed(recognizer, stream, samples[:16000], endpoints=False)
    recognizer.reset(stream)
    start = stream.start_frame
    feed(recognizer, stream, np.concatenate([np.zeros(16000), samples]), endpoints=False)
    result = finish(recognizer, stream)
    assert np.isfinite(stream.states[0]).all() and np.isfinite(stream.states[1]).all()
    assert len(result.ids) > 3 and result.timestamps[0] >= start / 100
    assert np.isfinite([h.log_prob for h in stream.search_state.hypotheses.values()]).all()


class LongBeam:
    """`make_search` without the sharing of labels, as a reference."""

    def __init__(self, search: Any) -> None:
        search._share = lambda state: None
        self.search: TokenSearch = search


def test_shared_labels_do_not_change_the_beam(
    streaming_bundle: Path, make_utterances: MakeUtterances
) -> None:
    bundle = open_bundle(streaming_bundle)
    mine = StreamingRecognizer(bundle, make_search(bundle, "beam"))
    plain = StreamingRecognizer(bundle, LongBeam(make_search(bundle, "beam")).search)
    samples = join(make_utterances([70000, 50000, 60000], seed=11), pause=1.5)
    ours, theirs = mine.create_stream(), plain.create_stream()
    assert feed(mine, ours, samples) == feed(plain, theirs, samples)
    assert finish(mine, ours) == finish(plain, theirs)


@pytest.mark.parametrize(("method", "minutes"), [("greedy", 60), ("beam", 10)])
def test_an_hour_of_audio(
    method: Method, minutes: int, tmp_path: Path, save_bundle: Callable[..., Path]
) -> None:
    """Nothing but the transcript grows, and times come from whole frames."""
    bundle = open_bundle(save_bundle(tmp_path / "m", "streaming", chunk=50))  # of 2 s, for few calls
    assert bundle.streaming is not None
    recognizer = StreamingRecognizer(bundle, make_search(bundle, method))
    rng = np.random.default_rng(0)
    noise = 0.1 * rng.standard_normal((4, 16000)).astype(np.float32)
    silence = np.zeros(9 * 16000, np.float32)
    stream = recognizer.create_stream()
    buffered, beams, memory = [], [0], []
    for step in range(6 * minutes):
        feed(recognizer, stream, np.concatenate([noise[step % 4], silence]), size=160000, endpoints=False)
        recognizer.is_endpoint(stream)
        buffered.append(stream.num_frames_ready - stream.num_processed)
        memory.append(rss_mb() or 0.0)
        if isinstance(stream.search_state, BeamState):
            beams.append(max(len(h.tokens) for h in stream.search_state.hypotheses.values()))
    assert max(buffered) <= 200 + bundle.streaming.window
    assert max(beams) < 200
    assert [state.shape for state in stream.states] == [state.shape for state in bundle.init_states(1)]
    assert all(np.abs(state).max() < 100 for state in stream.states)
    assert memory[-1] - memory[len(memory) // 10] < 20  # MB; the features of an hour would take 115
    result = finish(recognizer, stream)
    num_frames = 6000 * minutes + bundle.streaming.tail_frames
    assert stream.num_processed == bundle.streaming.num_consumed_frames(num_frames) - 3
    assert isinstance(stream.num_processed, int) and isinstance(stream.start_frame, int)
    assert len(result.ids) > 6 * minutes
    for at in result.timestamps:
        assert at == round(at * 25) * 40 / 1000  # whole encoder frames of 40 ms, without drift
    assert all(np.diff(result.timestamps) > 0)
    assert 60 * minutes - 11 <= result.timestamps[-1] < 60 * minutes


def test_audio_of_another_rate_keeps_the_resampler_small(streaming_bundle: Path) -> None:
    recognizer = StreamingRecognizer(open_bundle(streaming_bundle))
    stream = recognizer.create_stream()
    piece = np.zeros(44100 * 5, np.float32)
    for _ in range(24):
        stream.accept_waveform(44100, piece)
        assert stream._resampler is not None and len(stream._resampler._buffer) < 100
    assert stream._resampler is not None and stream._resampler._num_in == 44100 * 120
    assert 12000 - 5 <= stream.num_frames_ready <= 12000
