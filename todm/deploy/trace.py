"""Record the inputs and outputs of a bundle frame by frame, for calibration and sensitivity.

Shapes: M encoder frames of all utterances concatenated, K labels of context, J joiner width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from todm.runtime.bundle import Bundle
from todm.runtime.fbank import DEFAULT_FBANK, FloatArray, compute_fbank
from todm.runtime.offline import OfflineRecognizer
from todm.runtime.streaming import StreamingRecognizer

Feed = Mapping[str, np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Trace:
    """Path of greedy search through some utterances.

    Args:
        encoder_out: (M, J) float32.
        contexts: (M, K) int64, the labels before each frame.
        predictor_out: (M, J) float32, for these labels.
    """

    encoder_out: FloatArray
    contexts: npt.NDArray[np.int64]
    predictor_out: FloatArray


class _Recorder:
    """Session that reports its inputs to a callback."""

    def __init__(self, session: Any, note: Callable[..., None]) -> None:
        self._session = session
        self._note = note

    def get_inputs(self) -> Any:
        return self._session.get_inputs()

    def run(self, names: Any, feeds: Feed) -> Any:
        self._note(*feeds.values())
        return self._session.run(names, feeds)


def trace_bundle(bundle: Bundle, utterances: Sequence[np.ndarray]) -> Trace:
    """Transcribe utterances one at a time and record the inputs of decoder and joiner.

    Args:
        bundle: an opened model folder of either mode.
        utterances: samples (S,) float32 at 16 kHz, at least one of which has a frame.
    """
    encoder_out: list[FloatArray] = []
    predictor_out: list[FloatArray] = []
    contexts: list[npt.NDArray[np.int64]] = []
    latest: list[npt.NDArray[np.int64]] = []

    def note_context(context: npt.NDArray[np.int64]) -> None:
        latest[:] = [context.copy()]

    def note_frame(encoder: FloatArray, predictor: FloatArray) -> None:
        encoder_out.append(encoder.copy())
        predictor_out.append(predictor.copy())
        contexts.append(latest[0])

    recorded = replace(
        bundle,
        decoder=_Recorder(bundle.decoder, note_context),
        joiner=_Recorder(bundle.joiner, note_frame),
    )
    recognizer = StreamingRecognizer(recorded) if recorded.streaming else OfflineRecognizer(recorded)
    recognizer.transcribe(list(utterances), batch_size=1)
    assert encoder_out, "no frame was decoded"
    return Trace(
        encoder_out=np.concatenate(encoder_out),
        contexts=np.concatenate(contexts),
        predictor_out=np.concatenate(predictor_out),
    )


def feed_parts(bundle: Bundle, utterances: Sequence[np.ndarray]) -> dict[str, Callable[[], Iterator[Feed]]]:
    """Inputs of ``encoder``, ``decoder`` and ``joiner`` while the bundle transcribes `utterances`.

    Inputs of the encoder are generated one by one, because the states of a streaming encoder are large.
    """
    trace = trace_bundle(bundle, utterances)

    def name_inputs(session: Any, *values: np.ndarray) -> Feed:
        return {entry.name: value for entry, value in zip(session.get_inputs(), values, strict=True)}

    def encoder() -> Iterator[Feed]:
        for samples in utterances:
            for values in _encoder_inputs(bundle, samples):
                yield name_inputs(bundle.encoder, *values)

    return {
        "encoder": encoder,
        "decoder": lambda: iter([name_inputs(bundle.decoder, trace.contexts)]),
        "joiner": lambda: iter([name_inputs(bundle.joiner, trace.encoder_out, trace.predictor_out)]),
    }


def _encoder_inputs(bundle: Bundle, samples: np.ndarray) -> Iterator[tuple[np.ndarray, ...]]:
    """Inputs of the encoder for samples (S,): one, or one per chunk with the states of the previous chunk."""
    if bundle.streaming is None:
        feats = compute_fbank(samples)[None]
        if feats.shape[1] >= 2 * bundle.subsampling_factor - 1:
            yield feats, np.array([feats.shape[1]])
        return
    states = bundle.init_states(1)
    window, shift = bundle.streaming.window, bundle.streaming.shift
    # The recognizer appends digital silence, the minimum of the inputs, which belongs to the calibration.
    silence = np.zeros(bundle.streaming.tail_frames * DEFAULT_FBANK.frame_shift, np.float32)
    feats = compute_fbank(np.concatenate((samples, silence)))[None]
    for start in range(0, feats.shape[1] - window, shift):
        chunk = np.ascontiguousarray(feats[:, start : start + window])
        yield chunk, *states
        _, states = bundle.encode_chunk(chunk, states)
