"""Our own recognisers on onnxruntime."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..fbank import FloatArray
from ..layout import Precision
from ..offline import OfflineRecognizer
from ..recognize import open_recognizer
from ..searches import Method
from ..streaming import StreamingRecognizer
from . import BundleHost, HostStream


class RecognizerHost(BundleHost):
    """Features, streaming and search of this package; the sessions may be any runtime's."""

    def __init__(self, recognizer: OfflineRecognizer | StreamingRecognizer) -> None:
        super().__init__(recognizer.bundle)
        self._recognizer = recognizer

    def start(self) -> HostStream:
        """A stream at its beginning."""
        if isinstance(self._recognizer, StreamingRecognizer):
            return _Streaming(self._recognizer)
        return _Offline(self._recognizer)


class _Offline:
    def __init__(self, recognizer: OfflineRecognizer) -> None:
        self._recognizer = recognizer
        self._pieces: list[FloatArray] = []
        self._text = ""

    def accept(self, samples: FloatArray) -> bool:
        self._pieces.append(samples)
        return False

    def finish(self) -> bool:
        samples = np.concatenate(self._pieces) if self._pieces else np.zeros(0, np.float32)
        self._text = self._recognizer.transcribe([samples])[0].text
        return True

    def text(self) -> str:
        return self._text


class _Streaming:
    def __init__(self, recognizer: StreamingRecognizer) -> None:
        self._recognizer = recognizer
        self._stream = recognizer.create_stream()

    def accept(self, samples: FloatArray) -> bool:
        self._stream.accept(samples)
        return self._decode()

    def finish(self) -> bool:
        self._stream.finish()
        return self._decode()

    def text(self) -> str:
        return self._recognizer.result(self._stream).text

    def _decode(self) -> bool:
        ran = False
        while self._recognizer.is_ready(self._stream):
            self._recognizer.decode([self._stream])
            ran = True
        return ran


def open_host(folder: Path, *, precision: Precision, method: Method, num_threads: int) -> RecognizerHost:
    """Open a folder with onnxruntime; see `todm.runtime.hosts.open_host`."""
    return RecognizerHost(
        open_recognizer(folder, precision=precision, method=method, num_threads=num_threads)
    )
