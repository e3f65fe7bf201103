"""Any sequence of good and bad calls gives the text of the good calls alone, in every host of streams."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from todm.inference import Model, load
from todm.runtime.bundle import open_bundle
from todm.runtime.errors import AudioError
from todm.runtime.hosts import open_host
from todm.runtime.samples import MAX_MAGNITUDE, MAX_RATE, MIN_RATE, StreamInput
from todm.runtime.streaming import StreamingRecognizer
from todm.runtime.transcript import Transcript

MakeUtterances = Callable[..., list[np.ndarray]]

BAD_RATES = (
    0,
    -1,
    -16000,
    16000.5,
    float("nan"),
    float("inf"),
    "16000",
    None,
    True,
    [16000],
    1j,
    7,
    4 * 10**9,
)
BAD_SAMPLES: tuple[Any, ...] = (
    np.array([0.1, np.nan], np.float32),
    np.full(3000, np.inf),
    np.full(10, -1e18, np.float32),
    np.array([1.01 * MAX_MAGNITUDE]),
    np.zeros(100, np.int16),
    np.zeros((2, 100), np.float32),
    np.array(["a"]),
    [[0.0], [0.0, 0.1]],
    object(),
    None,
)


class Host(Protocol):
    """Stream of any host."""

    def accept_waveform(self, sample_rate: Any, samples: Any) -> Any: ...
    def input_finished(self) -> Any: ...
    def get_result(self) -> str | Transcript: ...


class RuntimeStream:
    """`StreamingRecognizer` with misuse of `decode_streams` at every call."""

    def __init__(self, recognizer: StreamingRecognizer) -> None:
        self.recognizer = recognizer
        self.stream = recognizer.create_stream()

    def accept_waveform(self, sample_rate: Any, samples: Any) -> None:
        self.stream.accept_waveform(sample_rate, samples)
        self.decode()

    def input_finished(self) -> None:
        self.stream.input_finished()
        self.decode()

    def get_result(self) -> Transcript:
        return self.recognizer.get_result(self.stream)

    def decode(self) -> None:
        while self.recognizer.is_ready(self.stream):
            other = self.recognizer.create_stream()
            for streams in ([self.stream, self.stream], [self.stream, other], [other, self.stream]):
                with pytest.raises(AudioError, match=r"^stream: "):
                    self.recognizer.decode_streams(streams)
            self.recognizer.decode_streams([self.stream])
        with pytest.raises(AudioError, match="not ready"):
            self.recognizer.decode_streams([self.stream])


def make_factory(name: str, offline: Path, streaming: Path) -> Callable[[], Host]:
    host, _, mode = name.partition(" ")
    if host == "runtime":
        recognizer = StreamingRecognizer(open_bundle(streaming))
        return lambda: RuntimeStream(recognizer)
    if host == "api":
        model: Model = load(streaming)
        return model.stream
    folder = offline if mode == "offline" else streaming
    opened = open_host(host, folder, precision="fp32", method="greedy", num_threads=1)
    return opened.create_stream


@pytest.mark.parametrize(
    "name",
    [
        "runtime streaming",
        "api streaming",
        "onnxruntime offline",
        "onnxruntime streaming",
        "sherpa-onnx offline",
        "sherpa-onnx streaming",
    ],
)
def test_bad_calls_leave_no_trace(
    name: str, offline_bundle: Path, streaming_bundle: Path, make_utterances: MakeUtterances
) -> None:
    if name.startswith("sherpa") and importlib.util.find_spec("sherpa_onnx") is None:
        pytest.skip("sherpa-onnx is not installed")
    create = make_factory(name, offline_bundle, streaming_bundle)
    (samples,) = make_utterances([24000], seed=3)
    good = st.integers(0, 9000).map(lambda size: ("good", size))
    bad = st.one_of(
        st.sampled_from(BAD_SAMPLES).map(lambda values: ("samples", values)),
        st.sampled_from(BAD_RATES).map(lambda rate: ("rate", rate)),
        st.just(("other rate", 8000)),
    )
    calls = st.lists(st.one_of(good, bad), max_size=12)

    @settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
    @given(calls=calls, rate=st.sampled_from([16000, 16000.0, np.int64(16000)]))
    def check(calls: list[tuple[str, Any]], rate: Any) -> None:
        mine, clean = create(), create()
        begin = 0
        for kind, value in [*calls, ("good", len(samples))]:
            if kind == "good":
                piece = samples[begin : begin + value].copy()
                begin += len(piece)
                clean.accept_waveform(rate, piece)
                mine.accept_waveform(rate, piece)
                piece[:] = np.nan  # the caller's buffer is free again
            elif kind == "samples":
                with pytest.raises(AudioError, match=r"^audio: [^\n]*$"):
                    mine.accept_waveform(rate, value)
            elif kind == "rate":
                with pytest.raises(AudioError, match=r"^sample_rate: must be [^\n]*$"):
                    mine.accept_waveform(value, samples)
            elif begin:
                with pytest.raises(AudioError, match="the sample rate changed from 16000 to 8000"):
                    mine.accept_waveform(value, samples)
            assert mine.get_result() == clean.get_result()
        for _ in range(2):  # a second call has no effect
            mine.input_finished()
        clean.input_finished()
        with pytest.raises(AudioError, match=r"audio after input_finished\(\)"):
            mine.accept_waveform(16000, samples)
        assert mine.get_result() == clean.get_result()
        assert mine.get_result() not in ("", Transcript(text=""))

    check()


def test_audio_that_never_came_has_no_text(offline_bundle: Path, streaming_bundle: Path) -> None:
    hosts = ["onnxruntime", *(["sherpa-onnx"] if importlib.util.find_spec("sherpa_onnx") else [])]
    for host in hosts:
        stream = open_host(
            host, streaming_bundle, precision="fp32", method="greedy", num_threads=1
        ).create_stream()
        with pytest.raises(AudioError):
            stream.accept_waveform(16000, np.full(10, np.nan))
        stream.input_finished()
        assert stream.get_result() == ""
    stream = open_host(
        "onnxruntime", offline_bundle, precision="fp32", method="greedy", num_threads=1
    ).create_stream()
    assert stream.input_finished() and not stream.input_finished() and stream.get_result() == ""


@pytest.mark.parametrize("rate", [MIN_RATE, MAX_RATE])
def test_the_limits_of_the_rate_are_usable(rate: int, streaming_bundle: Path) -> None:
    stream = load(streaming_bundle).stream()
    stream.accept_waveform(rate, np.zeros(rate // 10))
    stream.input_finished()
    assert StreamInput().accept(rate, [0.5]).dtype == np.float32


def test_reset_of_the_api_stream_recovers(streaming_bundle: Path, make_utterances: MakeUtterances) -> None:
    (samples,) = make_utterances([40000])
    model = load(streaming_bundle)
    expected = model.transcribe(samples)
    stream = model.stream(reset_encoder=True)
    stream.accept_waveform(8000, samples)
    for bad in BAD_SAMPLES:
        with pytest.raises(AudioError):
            stream.accept_waveform(8000, bad)
    stream.input_finished()
    stream.reset()
    stream.accept_waveform(16000, samples)
    stream.input_finished()
    assert stream.get_result() == expected


def test_any_order_of_calls_with_resets_and_ends(
    streaming_bundle: Path, make_utterances: MakeUtterances
) -> None:
    """Refused calls between audio, resets and ends of the Python API's stream change nothing."""
    model = load(streaming_bundle)
    (samples,) = make_utterances([60000], seed=9)
    sizes = st.integers(0, 20000)
    call = st.one_of(
        sizes,
        st.sampled_from(["reset", "end"]),
        st.sampled_from(BAD_SAMPLES).map(lambda values: (16000, values)),
        st.sampled_from(BAD_RATES).map(lambda rate: (rate, samples)),
    )

    @settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
    @given(calls=st.lists(call, max_size=14), reset_encoder=st.booleans())
    def check(calls: list[Any], reset_encoder: bool) -> None:
        mine, clean = model.stream(reset_encoder=reset_encoder), model.stream(reset_encoder=reset_encoder)
        at, finished = 0, False
        for each in calls:
            if isinstance(each, tuple):
                with pytest.raises(AudioError):
                    mine.accept_waveform(*each)
            elif isinstance(each, str):
                finished = each == "end" or (finished and each != "reset")
                for stream in (mine, clean):
                    stream.reset() if each == "reset" else stream.input_finished()
            else:
                piece = samples[at : at + each]
                at = (at + each) % len(samples)
                for stream in (mine, clean):
                    if finished:
                        with pytest.raises(AudioError, match=r"call reset\(\)"):
                            stream.accept_waveform(16000, piece)
                    else:
                        stream.accept_waveform(16000, piece)
            assert mine.get_result() == clean.get_result() and mine.is_endpoint() == clean.is_endpoint()
        for stream in (mine, clean):
            stream.input_finished()
            stream.reset()
            stream.accept_waveform(8000, samples[:20000])  # a new flow of audio of another rate
            stream.input_finished()
        assert mine.get_result() == clean.get_result() != Transcript(text="")

    check()
