"""Recognize audio as it arrives, with the semantics of sherpa-onnx's ``lstm`` host.

Each encoder call takes ``window`` frames and advances by ``shift``. As in the host, a chunk runs when
strictly more than ``window`` unread frames are available; `Stream.input_finished` appends the silence that
the end of an utterance needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .bundle import Bundle
from .decoding import TokenSearch, make_search
from .errors import AudioError, BundleError
from .fbank import DEFAULT_FBANK, FbankSettings, FbankStream, FloatArray
from .resample import Resampler
from .samples import StreamInput, check_samples
from .transcript import Transcript, make_transcript


@dataclass(frozen=True, kw_only=True)
class EndpointRule:
    """Condition for the end of an utterance; all of its parts must hold.

    Args:
        needs_speech: require a decoded token.
        min_trailing_silence: seconds since the last token.
        min_utterance_length: seconds since the last reset.
    """

    needs_speech: bool
    min_trailing_silence: float
    min_utterance_length: float

    def holds(self, trailing_silence: np.float32, utterance_length: np.float32) -> bool:
        """Whether the rule holds for two durations in seconds, float32 as in sherpa-onnx."""
        return (
            (not self.needs_speech or bool(utterance_length > trailing_silence))
            and bool(trailing_silence >= np.float32(self.min_trailing_silence))
            and bool(utterance_length >= np.float32(self.min_utterance_length))
        )


@dataclass(frozen=True, kw_only=True)
class EndpointRules:
    """Rules for the end of an utterance, any of which suffices: silence, silence after speech, length."""

    rule1: EndpointRule = EndpointRule(needs_speech=False, min_trailing_silence=2.4, min_utterance_length=0.0)
    rule2: EndpointRule = EndpointRule(needs_speech=True, min_trailing_silence=1.2, min_utterance_length=0.0)
    rule3: EndpointRule = EndpointRule(
        needs_speech=False, min_trailing_silence=0.0, min_utterance_length=20.0
    )

    def hold(self, trailing_frames: int, num_frames: int) -> bool:
        """Whether any rule holds for two durations in feature frames of 10 ms."""
        shift = np.float32(DEFAULT_FBANK.frame_shift_ms / 1000)
        silence, length = np.float32(trailing_frames) * shift, np.float32(num_frames) * shift
        return any(rule.holds(silence, length) for rule in (self.rule1, self.rule2, self.rule3))


class Stream:
    """State of one audio stream, made by `StreamingRecognizer.create_stream`.

    Args:
        settings: the filter bank.
        states: encoder states, each (L, 1, dim).
        search_state: state of the recognizer's search.
        tail_frames: frames of silence that `input_finished` appends by default.
    """

    def __init__(
        self,
        settings: FbankSettings,
        states: tuple[FloatArray, FloatArray],
        search_state: Any,
        tail_frames: int,
    ) -> None:
        self.states = states
        self.search_state = search_state
        self.segment = 0
        self.start_frame = 0  # feature frame at which the segment starts
        self.num_processed = 0  # feature frames of the segment that the window has passed
        self._settings = settings
        self._fbank = FbankStream(settings)
        self._tail_frames = tail_frames
        self._resampler: Resampler | None = None
        self._input = StreamInput()

    @property
    def num_frames_ready(self) -> int:
        """Feature frames of the current segment, processed or not."""
        return self._fbank.num_frames_ready - self.start_frame

    def accept_waveform(self, sample_rate: int, samples: npt.ArrayLike) -> None:
        """Append mono audio.

        Args:
            sample_rate: samples per second, the same in every call; other rates than that of the features are
                resampled.
            samples: (num_samples,) in [-1, 1]; num_samples may be 0.

        Raises:
            AudioError: samples or a rate that are unusable, a rate that changed, or audio after
                `input_finished`, see `StreamInput`. The stream is unchanged and takes further audio.
        """
        samples = self._input.accept(sample_rate, samples)
        if self._resampler is None and self._input.sample_rate != self._settings.sample_rate:
            self._resampler = Resampler(self._input.sample_rate, self._settings.sample_rate)
        self._fbank.accept_waveform(samples if self._resampler is None else self._resampler.push(samples))

    def input_finished(self, tail_frames: int | None = None) -> None:
        """Mark the end of the audio and append silence; further calls have no effect.

        Args:
            tail_frames: frames of digital silence, needed to decode the last frames of speech;
                `Chunks.tail_frames` when None; at least 0.
        """
        count = self._tail_frames if tail_frames is None else tail_frames
        assert count >= 0, count
        if not self._input.finish():
            return
        if not self._input.has_audio:
            count = 0  # without audio there is no text: appended silence alone could produce tokens
        num_samples = count * self._settings.frame_shift
        if self._resampler is not None:
            # Through the resampler, as in sherpa-onnx, which takes audio of one rate only.
            num_samples = num_samples * self._input.sample_rate // self._settings.sample_rate
            self._fbank.accept_waveform(self._resampler.push(np.zeros(num_samples, np.float32)))
            self._fbank.accept_waveform(self._resampler.flush())
        else:
            self._fbank.accept_waveform(np.zeros(num_samples, np.float32))
        self._fbank.input_finished()

    def get_frames(self, count: int) -> FloatArray:
        """Return the next ``count`` frames (count, C) without advancing."""
        return self._fbank.get_frames(self.start_frame + self.num_processed, count)

    def next_segment(self) -> None:
        """Start a segment at the current frame; unprocessed audio belongs to it."""
        self.start_frame += self.num_processed
        self.num_processed = 0


class StreamingRecognizer:
    """Transcribe streams chunk by chunk, any number of them at once.

    Args:
        bundle: an opened streaming model folder.
        search: greedy when None; see `todm.runtime.decoding.make_search`.
        endpoint: rules of `is_endpoint`.
        reset_encoder: after a segment without tokens `reset` also resets the encoder states, as in the host.
        settings: filter bank that the model was trained with.

    Raises:
        BundleError: the bundle is offline.
    """

    def __init__(
        self,
        bundle: Bundle,
        search: TokenSearch | None = None,
        *,
        endpoint: EndpointRules | None = None,
        reset_encoder: bool = False,
        settings: FbankSettings = DEFAULT_FBANK,
    ) -> None:
        if bundle.streaming is None:
            raise BundleError(f"{bundle.folder}: is an offline model; use OfflineRecognizer")
        self.bundle = bundle
        self._shape = bundle.streaming
        self._search = make_search(bundle) if search is None else search
        self._endpoint = EndpointRules() if endpoint is None else endpoint
        self._reset_encoder = reset_encoder
        self._settings = settings

    def create_stream(self) -> Stream:
        """Make a new stream."""
        return Stream(
            self._settings, self.bundle.init_states(1), self._search.start(), self._shape.tail_frames
        )

    def is_ready(self, stream: Stream) -> bool:
        """Whether a chunk can run."""
        return stream.num_frames_ready > stream.num_processed + self._shape.window

    def decode_streams(self, streams: Sequence[Stream]) -> None:
        """Decode one chunk of each stream in one batch; without streams there is no effect.

        Raises:
            AudioError: a stream is given twice or is not ready; no stream is changed.
        """
        if not streams:
            return
        if len({id(stream) for stream in streams}) < len(streams):
            raise AudioError("stream: the same stream is given twice; give each stream once per call")
        if not all(self.is_ready(stream) for stream in streams):
            raise AudioError("stream: one of the streams is not ready; ask is_ready() first")
        feats = np.stack([stream.get_frames(self._shape.window) for stream in streams])
        first, second = (np.concatenate([stream.states[k] for stream in streams], axis=1) for k in (0, 1))
        encoder_out, (first, second) = self.bundle.encode_chunk(feats, (first, second))
        self._search.advance([stream.search_state for stream in streams], encoder_out)
        for i, stream in enumerate(streams):
            stream.states = (first[:, i : i + 1], second[:, i : i + 1])
            stream.num_processed += self._shape.shift

    def get_result(self, stream: Stream) -> Transcript:
        """Transcript of the current segment so far."""
        return make_transcript(
            self.bundle,
            self._search.best(stream.search_state),
            segment=stream.segment,
            start_frame=stream.start_frame,
        )

    def is_endpoint(self, stream: Stream) -> bool:
        """Whether the current segment has ended by the endpoint rules."""
        blanks = self._search.num_trailing_blanks(stream.search_state)
        return self._endpoint.hold(blanks * self.bundle.subsampling_factor, stream.num_processed)

    def reset(self, stream: Stream) -> None:
        """Start a new segment.

        After a segment with tokens, encoder states and the last labels are kept; after one without tokens the
        labels are reset and, with `reset_encoder`, the encoder states too. If the states are not finite,
        states and labels are reset. Audio that is not decoded yet belongs to the new segment.
        """
        has_tokens = self._search.has_tokens(stream.search_state)
        stream.segment += has_tokens
        finite = all(np.isfinite(state).all() for state in stream.states)
        if (self._reset_encoder and not has_tokens) or not finite:
            stream.states = self.bundle.init_states(1)
        # Labels and scores that come from states that are not finite are no context.
        search = self._search
        stream.search_state = search.restart(stream.search_state) if finite else search.start()
        stream.next_segment()

    def transcribe(
        self, utterances: Sequence[npt.ArrayLike], *, chunk_ms: int = 100, batch_size: int = 8
    ) -> list[Transcript]:
        """Transcribe whole utterances as streams, ``batch_size`` at a time.

        Args:
            utterances: each (num_samples,) mono in [-1, 1] at the features' sample rate; may be empty.
            chunk_ms: milliseconds of audio per `Stream.accept_waveform`; does not change the result.
            batch_size: streams decoded together, at least 1.

        Returns:
            One result per utterance, in the same order; endpoints are ignored.

        Raises:
            AudioError: samples that `check_samples` refuses.
        """
        checked = [check_samples(samples) for samples in utterances]
        size = max(1, self._settings.sample_rate * chunk_ms // 1000)
        results: list[Transcript] = []
        for begin in range(0, len(checked), batch_size):
            batch = checked[begin : begin + batch_size]
            streams = [self.create_stream() for _ in batch]
            for at in range(0, max(len(samples) for samples in batch) + size, size):
                for samples, stream in zip(batch, streams, strict=True):
                    if at < len(samples):
                        stream.accept_waveform(self._settings.sample_rate, samples[at : at + size])
                    else:
                        stream.input_finished()
                while ready := [stream for stream in streams if self.is_ready(stream)]:
                    self.decode_streams(ready)
            results += [self.get_result(stream) for stream in streams]
        return results
