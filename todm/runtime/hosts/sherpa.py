"""Host for unmodified sherpa-onnx: `OfflineRecognizer` for utterances, model type ``lstm`` for streams."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..bundle import Bundle, describe_bundle
from ..decoding import Method
from ..fbank import DEFAULT_FBANK, FloatArray
from ..layout import BundleFiles, Precision
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
        # The same silence that `todm.runtime.streaming.Stream` appends.
        tail = self._bundle.streaming.tail_frames * DEFAULT_FBANK.frame_shift
        return _Streaming(self._recognizer, np.zeros(tail, np.float32))


class _Offline:
    def __init__(self, recognizer: Any) -> None:
        self._recognizer = recognizer
        self._stream = recognizer.create_stream()

    def accept_waveform(self, sample_rate: int, samples: FloatArray) -> bool:
        self._stream.accept_waveform(sample_rate, samples)
        return False

    def input_finished(self) -> bool:
        self._recognizer.decode_stream(self._stream)
        return True

    def get_result(self) -> str:
        return str(self._stream.result.text).strip()


class _Streaming:
    def __init__(self, recognizer: Any, tail: FloatArray) -> None:
        self._recognizer = recognizer
        self._stream = recognizer.create_stream()
        self._tail = tail

    def accept_waveform(self, sample_rate: int, samples: FloatArray) -> bool:
        self._stream.accept_waveform(sample_rate, samples)
        return self._decode()

    def input_finished(self) -> bool:
        self._stream.accept_waveform(DEFAULT_FBANK.sample_rate, self._tail)
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


def open_host(folder: Path, *, precision: Precision, method: Method, num_threads: int) -> SherpaHost:
    """Open a model folder with sherpa-onnx; see `todm.runtime.hosts.open_host`."""
    import sherpa_onnx

    # sherpa-onnx ends the process when metadata is missing, so the metadata is checked first.
    bundle = describe_bundle(folder, precision)
    encoder, decoder, joiner = (str(file) for file in bundle.files)
    settings = {
        "encoder": encoder,
        "decoder": decoder,
        "joiner": joiner,
        "tokens": str(BundleFiles(folder).tokens),
        "num_threads": num_threads,
        "decoding_method": _METHODS[method],
    }
    if bundle.mode == "offline":
        return SherpaHost(sherpa_onnx.OfflineRecognizer.from_transducer(**settings), bundle)
    online = sherpa_onnx.OnlineRecognizer.from_transducer(**settings, model_type="lstm")
    return SherpaHost(online, bundle)
