"""What a bundle hears and says, frame by frame: for calibration, and to compare one form of it with another.

Shapes: M encoder frames of all utterances in a row, K labels of context, J joiner width, V vocabulary.
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
    """The path of greedy search through some utterances.

    Args:
        encoder_out: (M, J) float32.
        contexts: (M, K) int64, the labels before each frame.
        predictor_out: (M, J) float32, for those labels.
    """

    encoder_out: FloatArray
    contexts: npt.NDArray[np.int64]
    predictor_out: FloatArray


class _Recorder:
    """A session that tells what it is given."""

    def __init__(self, session: Any, note: Callable[..., None]) -> None:
        self._session = session
        self._note = note

    def get_inputs(self) -> Any:
        return self._session.get_inputs()

    def run(self, names: Any, feeds: Feed) -> Any:
        self._note(*feeds.values())
        return self._session.run(names, feeds)


def trace_bundle(bundle: Bundle, utterances: Sequence[np.ndarray]) -> Trace:
    """Transcribe `utterances`, one at a time, and keep what went through decoder and joiner.

    Args:
        bundle: an opened model folder of either mode.
        utterances: samples (S,) float32 at 16 kHz, at least one of them with a frame.
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

    taped = replace(
        bundle,
        decoder=_Recorder(bundle.decoder, note_context),
        joiner=_Recorder(bundle.joiner, note_frame),
    )
    recognizer = StreamingRecognizer(taped) if taped.streaming else OfflineRecognizer(taped)
    recognizer.transcribe(list(utterances), batch_size=1)
    assert encoder_out, "nothing was heard"
    return Trace(
        encoder_out=np.concatenate(encoder_out),
        contexts=np.concatenate(contexts),
        predictor_out=np.concatenate(predictor_out),
    )


def feed_parts(bundle: Bundle, utterances: Sequence[np.ndarray]) -> dict[str, Callable[[], Iterator[Feed]]]:
    """Inputs of ``encoder``, ``decoder`` and ``joiner`` while the bundle hears `utterances`.

    Those of the encoder are made one by one: a streaming one's states would fill the memory.
    """
    trace = trace_bundle(bundle, utterances)

    def named(session: Any, *values: np.ndarray) -> Feed:
        return {entry.name: value for entry, value in zip(session.get_inputs(), values, strict=True)}

    def encoder() -> Iterator[Feed]:
        for samples in utterances:
            for values in _encoder_inputs(bundle, samples):
                yield named(bundle.encoder, *values)

    return {
        "encoder": encoder,
        "decoder": lambda: iter([named(bundle.decoder, trace.contexts)]),
        "joiner": lambda: iter([named(bundle.joiner, trace.encoder_out, trace.predictor_out)]),
    }


def _encoder_inputs(bundle: Bundle, samples: np.ndarray) -> Iterator[tuple[np.ndarray, ...]]:
    """What the encoder is given for samples (S,): once, or chunk by chunk with its own states."""
    if bundle.streaming is None:
        feats = compute_fbank(samples)[None]
        if feats.shape[1] >= 2 * bundle.subsampling_factor - 1:
            yield feats, np.array([feats.shape[1]])
        return
    states = bundle.init_states(1)
    window, shift = bundle.streaming.window, bundle.streaming.shift
    # The recogniser ends a stream with digital silence, quieter than anything in it: an extreme that counts.
    silence = np.zeros(bundle.streaming.tail_frames * DEFAULT_FBANK.frame_shift, np.float32)
    feats = compute_fbank(np.concatenate((samples, silence)))[None]
    for start in range(0, feats.shape[1] - window, shift):
        chunk = np.ascontiguousarray(feats[:, start : start + window])
        yield chunk, *states
        _, states = bundle.encode_chunk(chunk, states)
