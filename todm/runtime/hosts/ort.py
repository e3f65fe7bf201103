"""Host that runs the recognizers of this package on onnxruntime."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..constants import SAMPLE_RATE
from ..decoding import Method
from ..fbank import FloatArray
from ..layout import Precision
from ..offline import OfflineRecognizer
from ..recognizer import open_recognizer
from ..resample import resample
from ..samples import StreamInput
from ..streaming import StreamingRecognizer
from . import BundleHost, HostStream


class RecognizerHost(BundleHost):
    """Host with the features, streaming and decoding of this package; sessions may be of any runtime.

    Args:
        recognizer: an opened offline or streaming recognizer.
    """

    def __init__(self, recognizer: OfflineRecognizer | StreamingRecognizer) -> None:
        super().__init__(recognizer.bundle)
        self._recognizer = recognizer

    def create_stream(self) -> HostStream:
        """Make a new stream."""
        if isinstance(self._recognizer, StreamingRecognizer):
            return _Streaming(self._recognizer)
        return _Offline(self._recognizer)


class _Offline:
    def __init__(self, recognizer: OfflineRecognizer) -> None:
        self._recognizer = recognizer
        self._input = StreamInput()
        self._pieces: list[FloatArray] = []
        self._text = ""

    def accept_waveform(self, sample_rate: int, samples: FloatArray) -> bool:
        self._pieces.append(self._input.accept(sample_rate, samples).copy())
        return False

    def input_finished(self) -> bool:
        if not self._input.finish():
            return False
        samples = np.concatenate([np.zeros(0, np.float32), *self._pieces])
        samples = resample(samples, self._input.sample_rate or SAMPLE_RATE, SAMPLE_RATE)
        self._text = self._recognizer.transcribe([samples])[0].text
        return True

    def get_result(self) -> str:
        return self._text


class _Streaming:
    def __init__(self, recognizer: StreamingRecognizer) -> None:
        self._recognizer = recognizer
        self._stream = recognizer.create_stream()

    def accept_waveform(self, sample_rate: int, samples: FloatArray) -> bool:
        self._stream.accept_waveform(sample_rate, samples)
        return self._decode()

    def input_finished(self) -> bool:
        self._stream.input_finished()
        return self._decode()

    def get_result(self) -> str:
        return self._recognizer.get_result(self._stream).text

    def _decode(self) -> bool:
        ran = False
        while self._recognizer.is_ready(self._stream):
            self._recognizer.decode_streams([self._stream])
            ran = True
        return ran


def open_host(folder: Path, *, precision: Precision, method: Method, num_threads: int) -> RecognizerHost:
    """Open a model folder with onnxruntime; see `todm.runtime.hosts.open_host`."""
    return RecognizerHost(
        open_recognizer(folder, precision=precision, method=method, num_threads=num_threads)
    )
