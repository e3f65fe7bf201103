"""Runtimes of the in-use checks: fresh starts, and one stream that is segmented at its endpoints."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from todm.runtime.constants import SAMPLE_RATE
from todm.runtime.hosts import Host, open_host
from todm.runtime.hosts.sherpa import make_tail, open_segmenter
from todm.runtime.recognizer import open_recognizer
from todm.runtime.streaming import StreamingRecognizer


@dataclass(frozen=True, kw_only=True)
class InUseRuntime:
    """A bundle in one runtime.

    Args:
        name: key of `todm.runtime.hosts.HOSTS`.
        host: the opened bundle.
        transcribe_segments: text of samples (S,) at 16 kHz as one stream that is reset at its endpoints, with
            ``reset_encoder`` or without (second argument); None for an offline bundle.
    """

    name: str
    host: Host
    transcribe_segments: Callable[[np.ndarray, bool], str] | None

    def transcribe(self, utterances: Sequence[np.ndarray], sample_rate: int = SAMPLE_RATE) -> list[str]:
        """Transcribe each of the utterances (S,) from a fresh start; words are separated by single spaces."""
        texts = []
        with _quiet():
            for samples in utterances:
                stream = self.host.create_stream()
                stream.accept_waveform(sample_rate, samples)
                stream.input_finished()
                texts.append(" ".join(stream.get_result().split()))
        return texts


def open_runtime(name: str, bundle: Path) -> InUseRuntime:
    """Open a bundle in fp32 in ``onnxruntime`` (this project's runtime) or ``sherpa-onnx``."""
    with _quiet():
        host = open_host(name, bundle, precision="fp32", method="greedy", num_threads=1)
        segments: Callable[[np.ndarray, bool], str] | None = None
        if host.mode == "streaming":
            segments = _open_segments(bundle) if name == "onnxruntime" else _open_sherpa_segments(bundle)
    return InUseRuntime(name=name, host=host, transcribe_segments=segments)


def _open_segments(bundle: Path) -> Callable[[np.ndarray, bool], str]:
    def transcribe(samples: np.ndarray, reset_encoder: bool) -> str:
        recognizer = open_recognizer(bundle, reset_encoder=reset_encoder)
        assert isinstance(recognizer, StreamingRecognizer)
        stream = recognizer.create_stream()
        stream.accept_waveform(SAMPLE_RATE, samples)
        stream.input_finished()
        texts = []
        while recognizer.is_ready(stream):
            recognizer.decode_streams([stream])
            if recognizer.is_endpoint(stream):
                texts.append(recognizer.get_result(stream).text)
                recognizer.reset(stream)
        return " ".join([*texts, recognizer.get_result(stream).text])

    return transcribe


def _open_sherpa_segments(bundle: Path) -> Callable[[np.ndarray, bool], str]:
    def transcribe(samples: np.ndarray, reset_encoder: bool) -> str:
        recognizer, tail_frames = open_segmenter(bundle, reset_encoder=reset_encoder)
        stream = recognizer.create_stream()
        stream.accept_waveform(SAMPLE_RATE, samples)
        stream.accept_waveform(SAMPLE_RATE, make_tail(tail_frames, SAMPLE_RATE))
        stream.input_finished()
        texts = []
        while recognizer.is_ready(stream):
            recognizer.decode_stream(stream)
            if recognizer.is_endpoint(stream):
                texts.append(str(recognizer.get_result(stream)))
                recognizer.reset(stream)
        return " ".join([*texts, str(recognizer.get_result(stream))])

    return transcribe


@contextmanager
def _quiet() -> Iterator[None]:
    """Discard what C++ code writes to stderr: sherpa-onnx prints four lines per stream of another rate."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "wb") as sink:
            os.dup2(sink.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
