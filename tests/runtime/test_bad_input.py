"""Refused audio and calls: one sentence, and the stream is as if they had not been made."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from todm.runtime.audio import read_audio
from todm.runtime.bundle import open_bundle
from todm.runtime.errors import AudioError, BundleError
from todm.runtime.offline import OfflineRecognizer
from todm.runtime.samples import MAX_MAGNITUDE
from todm.runtime.streaming import Stream, StreamingRecognizer
from todm.runtime.transcript import Transcript

MakeUtterances = Callable[..., list[np.ndarray]]

BAD_VALUES = (np.nan, np.inf, -np.inf, 1e18, -1e30, 1.01 * MAX_MAGNITUDE)
BAD_BUFFERS: tuple[Any, ...] = (
    np.zeros(100, np.int16),
    np.zeros(100, bool),
    np.zeros((2, 100), np.float32),
    np.float32(0.5),
    np.array(["a"]),
    None,
)


@pytest.fixture(scope="module")
def recognizer(streaming_bundle: Path) -> StreamingRecognizer:
    return StreamingRecognizer(open_bundle(streaming_bundle))


def decode(recognizer: StreamingRecognizer, stream: Stream) -> Transcript:
    while recognizer.is_ready(stream):
        recognizer.decode_streams([stream])
    return recognizer.get_result(stream)


@st.composite
def bad_buffers(draw: st.DrawFn) -> Any:
    if draw(st.integers(0, 3)) == 0:
        return draw(st.sampled_from(BAD_BUFFERS))
    samples = np.zeros(draw(st.integers(1, 3000)), draw(st.sampled_from([np.float32, np.float64])))
    samples[draw(st.integers(0, len(samples) - 1))] = draw(st.sampled_from(BAD_VALUES))
    return samples


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rate=st.sampled_from([16000, 8000, 44100]),
    cuts=st.lists(st.integers(0, 40000), max_size=8),
    bad=st.lists(st.tuples(st.integers(0, 8), bad_buffers()), min_size=1, max_size=4),
)
def test_refused_buffers_leave_no_trace(
    rate: int,
    cuts: list[int],
    bad: list[tuple[int, Any]],
    recognizer: StreamingRecognizer,
    make_utterances: MakeUtterances,
) -> None:
    (samples,) = make_utterances([40000], seed=3)
    mine, clean = recognizer.create_stream(), recognizer.create_stream()
    for i, piece in enumerate(np.split(samples, sorted(cuts))):
        for place, buffer in bad:
            if place == i:
                with pytest.raises(AudioError, match=r"^audio: .*"):
                    mine.accept_waveform(rate, buffer)
        mine.accept_waveform(rate, piece)
        clean.accept_waveform(rate, piece)
        assert decode(recognizer, mine) == decode(recognizer, clean)
    mine.input_finished()
    clean.input_finished()
    assert decode(recognizer, mine) == decode(recognizer, clean)
    assert all(np.array_equal(one, other) for one, other in zip(mine.states, clean.states, strict=True))


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rate=st.sampled_from([0, -1, -16000, 0.5, float("nan"), float("inf"), "16000", None, True]))
def test_a_refused_first_call_does_not_fix_the_rate(
    rate: Any, recognizer: StreamingRecognizer, make_utterances: MakeUtterances
) -> None:
    (samples,) = make_utterances([20000])
    stream = recognizer.create_stream()
    with pytest.raises(AudioError, match="sample_rate: must be a positive whole number of hertz"):
        stream.accept_waveform(rate, samples)
    with pytest.raises(AudioError, match="NaN"):
        stream.accept_waveform(8000, np.full(10, np.nan))
    stream.accept_waveform(16000, samples)
    stream.input_finished()
    assert decode(recognizer, stream) == recognizer.transcribe([samples])[0]


def test_one_sentence_for_each_misuse(
    recognizer: StreamingRecognizer, make_utterances: MakeUtterances
) -> None:
    first, second = make_utterances([30000, 20000])
    streams = [recognizer.create_stream(), recognizer.create_stream()]
    for stream, samples in zip(streams, (first, second), strict=True):
        stream.accept_waveform(16000, samples)
    with pytest.raises(AudioError, match="the sample rate changed from 16000 to 8000"):
        streams[0].accept_waveform(8000, first)
    with pytest.raises(AudioError, match="the same stream is given twice"):
        recognizer.decode_streams([streams[0], streams[1], streams[0]])
    with pytest.raises(AudioError, match="not ready"):
        recognizer.decode_streams([streams[0], recognizer.create_stream()])
    recognizer.decode_streams([])
    for stream, samples in zip(streams, (first, second), strict=True):
        stream.input_finished()
        with pytest.raises(AudioError, match=r"audio after input_finished\(\)"):
            stream.accept_waveform(16000, samples)
        assert decode(recognizer, stream) == recognizer.transcribe([samples])[0]


def test_reset_recovers_from_states_that_are_not_finite(
    recognizer: StreamingRecognizer, make_utterances: MakeUtterances
) -> None:
    (samples,) = make_utterances([30000])
    stream = recognizer.create_stream()
    stream.accept_waveform(16000, np.zeros(16000))
    decode(recognizer, stream)
    stream.states = (np.full_like(stream.states[0], np.nan), stream.states[1])
    recognizer.reset(stream)
    assert all(np.isfinite(state).all() for state in stream.states)
    stream.accept_waveform(16000, samples)
    assert decode(recognizer, stream).ids


@pytest.mark.parametrize("value", BAD_VALUES)
def test_whole_utterances_are_checked(
    value: float, recognizer: StreamingRecognizer, offline_bundle: Path, tmp_path: Path
) -> None:
    samples = np.zeros(4000)
    samples[1234] = value
    for each in (recognizer, OfflineRecognizer(open_bundle(offline_bundle))):
        with pytest.raises(AudioError, match="give finite samples"):
            each.transcribe([np.zeros(100), samples])
    path = tmp_path / "bad.wav"
    soundfile.write(path, samples, 16000, subtype="DOUBLE")
    with pytest.raises(BundleError, match=r"bad\.wav: its (samples contain NaN|largest sample)"):
        read_audio(path)
