"""Host for unmodified sherpa-onnx: `OfflineRecognizer` for utterances, model type ``lstm`` for streams."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from ..bundle import Bundle, describe_bundle
from ..decoding import Method
from ..fbank import DEFAULT_FBANK, FloatArray
from ..layout import BundleFiles, Precision
from ..samples import StreamInput
from . import BundleHost, HostStream

_METHODS = {"greedy": "greedy_search", "beam": "modified_beam_search"}


class SherpaHost(BundleHost):
    """Host with a recognizer of sherpa-onnx.

    Args:
        recognizer: OfflineRecognizer or OnlineRecognizer, as the mode of the bundle requires.
        bundle: description of the model folder; its sessions are not used.
    """

    def __init__(self, recognizer: Any, bundle: Bundle) -> None:
        super().__init__(bundle)
        self._recognizer = recognizer

    def create_stream(self) -> HostStream:
        """Make a new stream."""
        if self._bundle.streaming is None:
            return _Offline(self._recognizer)
        return _Streaming(self._recognizer, self._bundle.streaming.tail_frames)


class _Offline:
    def __init__(self, recognizer: Any) -> None:
        self._recognizer = recognizer
        self._stream = recognizer.create_stream()
        self._input = StreamInput()

    def accept_waveform(self, sample_rate: int, samples: FloatArray) -> bool:
        samples = self._input.accept(sample_rate, samples)
        self._stream.accept_waveform(self._input.sample_rate, samples)
        return False

    def input_finished(self) -> bool:
        if not self._input.finish():
            return False
        self._recognizer.decode_stream(self._stream)
        return True

    def get_result(self) -> str:
        return str(self._stream.result.text).strip()


class _Streaming:
    def __init__(self, recognizer: Any, tail_frames: int) -> None:
        self._recognizer = recognizer
        self._stream = recognizer.create_stream()
        self._tail_frames = tail_frames
        # sherpa-onnx checks nothing: NaN stays in its states, and another rate ends the process.
        self._input = StreamInput()

    def accept_waveform(self, sample_rate: int, samples: FloatArray) -> bool:
        samples = self._input.accept(sample_rate, samples)
        self._stream.accept_waveform(self._input.sample_rate, samples)
        return self._decode()

    def input_finished(self) -> bool:
        if not self._input.finish():
            return False
        if self._input.has_audio:  # without audio there is no text, as in `todm.runtime.streaming.Stream`
            rate = self._input.sample_rate
            self._stream.accept_waveform(rate, make_tail(self._tail_frames, rate))
        self._stream.input_finished()
        return self._decode()

    def get_result(self) -> str:
        return str(self._recognizer.get_result(self._stream)).strip()

    def _decode(self) -> bool:
        ran = False
        while self._recognizer.is_ready(self._stream):
            self._recognizer.decode_stream(self._stream)
            ran = True
        return ran


def make_tail(tail_frames: int, sample_rate: int) -> FloatArray:
    """Make the silence that ends a stream: the frames that `todm.runtime.streaming.Stream` appends.

    Args:
        tail_frames: frames of silence after the audio.
        sample_rate: samples per second of the audio; sherpa-onnx refuses another rate within a stream.

    Returns:
        (num_samples,) zeros at `sample_rate`. Another rate than that of the features gets a few more, because
        the resampler of sherpa-onnx never returns the last samples, half the length of its filter.
    """
    count = tail_frames * sample_rate * DEFAULT_FBANK.frame_shift // DEFAULT_FBANK.sample_rate
    if sample_rate != DEFAULT_FBANK.sample_rate:
        ticks = math.lcm(sample_rate, DEFAULT_FBANK.sample_rate)  # its unit of time, per second
        lower = min(sample_rate, DEFAULT_FBANK.sample_rate)
        held = ticks * 600 // (99 * lower)  # 6 zero crossings of a cutoff at 0.99 of the lower Nyquist
        count += -(-held * sample_rate // ticks)
    return np.zeros(count, np.float32)


def open_segmenter(folder: Path, *, reset_encoder: bool) -> tuple[Any, int]:
    """Open a streaming model folder in sherpa-onnx with its default endpoint rules.

    Args:
        folder: the bundle.
        reset_encoder: whether a reset after a segment without tokens includes the encoder states.

    Returns:
        The OnlineRecognizer, and the frames of silence that a stream needs at its end.
    """
    import sherpa_onnx

    bundle = describe_bundle(folder)
    assert bundle.streaming is not None
    settings = _make_settings(bundle, "greedy", num_threads=1)
    online = sherpa_onnx.OnlineRecognizer.from_transducer(
        **settings, model_type="lstm", enable_endpoint_detection=True, reset_encoder=reset_encoder
    )
    return online, bundle.streaming.tail_frames


def _make_settings(bundle: Bundle, method: Method, num_threads: int) -> dict[str, Any]:
    encoder, decoder, joiner = (str(file) for file in bundle.files)
    return {
        "encoder": encoder,
        "decoder": decoder,
        "joiner": joiner,
        "tokens": str(BundleFiles(bundle.folder).tokens),
        "num_threads": num_threads,
        "decoding_method": _METHODS[method],
    }


def open_host(folder: Path, *, precision: Precision, method: Method, num_threads: int) -> SherpaHost:
    """Open a model folder with sherpa-onnx; see `todm.runtime.hosts.open_host`."""
    import sherpa_onnx

    # sherpa-onnx ends the process when metadata is missing, so the metadata is checked first.
    bundle = describe_bundle(folder, precision)
    settings = _make_settings(bundle, method, num_threads)
    if bundle.mode == "offline":
        return SherpaHost(sherpa_onnx.OfflineRecognizer.from_transducer(**settings), bundle)
    online = sherpa_onnx.OnlineRecognizer.from_transducer(**settings, model_type="lstm")
    return SherpaHost(online, bundle)
