"""Recognition of audio as it arrives, with the semantics of sherpa-onnx's ``lstm`` host.

The encoder sees ``window`` frames per call and moves on by ``shift``. A chunk runs when strictly more
than ``window`` unread frames are there, as in the host, so the tail of an utterance needs silence
behind it: `Stream.finish` adds that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .bundle import Bundle
from .errors import BundleError
from .fbank import DEFAULT_FBANK, FbankSettings, FbankStream, FloatArray
from .offline import Transcript, make_transcript
from .resample import Resampler
from .search import Search
from .searches import make_search


@dataclass(frozen=True, kw_only=True)
class EndpointRule:
    """One condition under which an utterance has ended; all its parts must hold.

    Args:
        needs_speech: something other than silence must have been decoded.
        min_trailing_silence: seconds without a token at the end.
        min_utterance_length: seconds since the last reset.
    """

    needs_speech: bool
    min_trailing_silence: float
    min_utterance_length: float

    def holds(self, trailing_silence: np.float32, utterance_length: np.float32) -> bool:
        """ObjectiveSet two durations in seconds; float32, so that ties fall as in the host."""
        return (
            (not self.needs_speech or bool(utterance_length > trailing_silence))
            and bool(trailing_silence >= np.float32(self.min_trailing_silence))
            and bool(utterance_length >= np.float32(self.min_utterance_length))
        )


@dataclass(frozen=True, kw_only=True)
class EndpointRules:
    """The end has come when any rule holds: long silence, silence after speech, long utterance."""

    rule1: EndpointRule = EndpointRule(needs_speech=False, min_trailing_silence=2.4, min_utterance_length=0.0)
    rule2: EndpointRule = EndpointRule(needs_speech=True, min_trailing_silence=1.2, min_utterance_length=0.0)
    rule3: EndpointRule = EndpointRule(
        needs_speech=False, min_trailing_silence=0.0, min_utterance_length=20.0
    )

    def hold(self, trailing_frames: int, num_frames: int) -> bool:
        """ObjectiveSet two durations in feature frames of 10 ms."""
        shift = np.float32(DEFAULT_FBANK.frame_shift_ms / 1000)
        silence, length = np.float32(trailing_frames) * shift, np.float32(num_frames) * shift
        return any(rule.holds(silence, length) for rule in (self.rule1, self.rule2, self.rule3))


class Stream:
    """One flow of audio; make it with `StreamingRecognizer.create_stream`.

    Args:
        settings: the filter bank.
        states: encoder states, each (L, 1, dim).
        search_state: of the recogniser's search.
        tail_frames: frames of silence that `finish` adds by default.
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
        self.num_processed = 0  # feature frames of the segment that the window has moved past
        self._settings = settings
        self._fbank = FbankStream(settings)
        self._tail_frames = tail_frames
        self._resampler: Resampler | None = None
        self._input_rate = 0
        self._has_audio = False
        self._finished = False

    @property
    def num_frames_ready(self) -> int:
        """Feature frames of the current segment, read or not."""
        return self._fbank.num_frames_ready - self.start_frame

    def accept(self, samples: npt.ArrayLike, sample_rate: int | None = None) -> None:
        """Take in mono audio.

        Args:
            samples: (num_samples,) in [-1, 1]; any number, also 0.
            sample_rate: of the samples, the same in every call; the features' rate when None.

        Raises:
            ValueError: the rate changed, or audio came after `finish`.
        """
        rate = self._settings.sample_rate if sample_rate is None else sample_rate
        if self._finished:
            raise ValueError("this stream is finished; create a new one")
        if self._input_rate not in (0, rate):
            raise ValueError(f"the sample rate changed from {self._input_rate} to {rate} within a stream")
        if not self._input_rate and rate != self._settings.sample_rate:
            self._resampler = Resampler(rate, self._settings.sample_rate)
        self._input_rate = rate
        self._has_audio = self._has_audio or np.size(samples) > 0
        self._fbank.accept(samples if self._resampler is None else self._resampler.push(samples))

    def finish(self, tail_frames: int | None = None) -> None:
        """Say that no more audio comes.

        Args:
            tail_frames: frames of digital silence to add, so that the last real frames are decoded and what
                was said in them is written; `Chunks.tail` when None.
        """
        if self._finished:
            return
        if self._resampler is not None:
            self._fbank.accept(self._resampler.flush())
        count = self._tail_frames if tail_frames is None else tail_frames
        if not self._has_audio:
            count = 0  # nothing was said: silence alone must not make the model talk
        self._fbank.accept(np.zeros(count * self._settings.frame_shift, np.float32))
        self._fbank.finish()
        self._finished = True

    def frames(self, count: int) -> FloatArray:
        """The next ``count`` frames (count, C), without moving on."""
        return self._fbank.frames(self.start_frame + self.num_processed, count)

    def next_segment(self) -> None:
        """Count frames from here on; audio that is not read yet belongs to the new segment."""
        self.start_frame += self.num_processed
        self.num_processed = 0


class StreamingRecognizer:
    """Transcribes streams chunk by chunk, any number of them at once.

    Args:
        bundle: an opened streaming model folder.
        search: greedy when None; see `todm.runtime.searches.make_search`.
        endpoint: when `is_endpoint` says that an utterance is over.
        reset_encoder: a segment without a token also ends what the encoder remembers, as in the host.
        settings: the filter bank the model was trained on.

    Raises:
        BundleError: the bundle is an offline one.
    """

    def __init__(
        self,
        bundle: Bundle,
        search: Search | None = None,
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
        """A stream at its beginning."""
        return Stream(self._settings, self.bundle.init_states(1), self._search.start(), self._shape.tail)

    def is_ready(self, stream: Stream) -> bool:
        """Whether a chunk can run."""
        return stream.num_frames_ready > stream.num_processed + self._shape.window

    def decode(self, streams: Sequence[Stream]) -> None:
        """Run one chunk of each stream, all in one batch; each must be ready, none twice."""
        assert streams and all(self.is_ready(stream) for stream in streams)
        feats = np.stack([stream.frames(self._shape.window) for stream in streams])
        first, second = (np.concatenate([stream.states[k] for stream in streams], axis=1) for k in (0, 1))
        encoder_out, (first, second) = self.bundle.encode_chunk(feats, (first, second))
        self._search.advance([stream.search_state for stream in streams], encoder_out)
        for i, stream in enumerate(streams):
            stream.states = (first[:, i : i + 1], second[:, i : i + 1])
            stream.num_processed += self._shape.shift

    def result(self, stream: Stream) -> Transcript:
        """The current segment's text so far."""
        return make_transcript(
            self.bundle,
            self._search.best(stream.search_state),
            segment=stream.segment,
            start_time=stream.start_frame * self._settings.frame_shift_ms / 1000,
        )

    def is_endpoint(self, stream: Stream) -> bool:
        """Whether the current segment is over by the endpoint rules."""
        blanks = self._search.best(stream.search_state).num_trailing_blanks
        return self._endpoint.hold(blanks * self.bundle.subsampling_factor, stream.num_processed)

    def reset(self, stream: Stream) -> None:
        """Begin a new segment.

        After a segment with tokens, encoder states and the last labels' context are kept; after one without,
        the labels are forgotten and, with `reset_encoder`, the states too.
        """
        spoke = self._search.has_tokens(stream.search_state)
        stream.segment += spoke
        if self._reset_encoder and not spoke:
            stream.states = self.bundle.init_states(1)
        stream.search_state = self._search.restart(stream.search_state)
        stream.next_segment()

    def transcribe(
        self, utterances: Sequence[npt.ArrayLike], *, chunk_ms: int = 100, batch_size: int = 8
    ) -> list[Transcript]:
        """Transcribe whole utterances as if they came live, ``batch_size`` streams at a time.

        Args:
            utterances: each (num_samples,) mono in [-1, 1] at the features' sample rate; may be empty.
            chunk_ms: milliseconds of audio handed over at once; does not change the result.
            batch_size: streams decoded together, at least 1.

        Returns:
            One result per utterance, in the same order, without endpoints.
        """
        size = max(1, self._settings.sample_rate * chunk_ms // 1000)
        results: list[Transcript] = []
        for begin in range(0, len(utterances), batch_size):
            batch = [np.asarray(u, np.float32) for u in utterances[begin : begin + batch_size]]
            streams = [self.create_stream() for _ in batch]
            for at in range(0, max(len(samples) for samples in batch) + size, size):
                for samples, stream in zip(batch, streams, strict=True):
                    if at < len(samples):
                        stream.accept(samples[at : at + size])
                    else:
                        stream.finish()
                while ready := [stream for stream in streams if self.is_ready(stream)]:
                    self.decode(ready)
            results += [self.result(stream) for stream in streams]
        return results
