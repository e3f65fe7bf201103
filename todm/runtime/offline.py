"""Recognition of whole utterances with an offline bundle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .bundle import Bundle
from .errors import BundleError
from .fbank import DEFAULT_FBANK, LOG_FLOOR, FbankSettings, FloatArray, compute_fbank
from .search import Decoded, Search
from .searches import make_search


@dataclass(frozen=True, kw_only=True)
class Transcript:
    """One recognised utterance or segment.

    Args:
        text: words separated by single spaces.
        ids: token ids.
        tokens: their symbols as pieces of text (a word's first piece begins with a space).
        timestamps: seconds from the start of the segment at which each token was emitted.
        segment: number of the segment in a stream, from 0.
        start_time: seconds from the start of the stream to the start of the segment.
    """

    text: str
    ids: tuple[int, ...] = ()
    tokens: tuple[str, ...] = ()
    timestamps: tuple[float, ...] = ()
    segment: int = 0
    start_time: float = 0.0


def make_transcript(
    bundle: Bundle, decoded: Decoded, *, segment: int = 0, start_time: float = 0.0
) -> Transcript:
    """Turn what a search found into text and seconds."""
    step = bundle.subsampling_factor * DEFAULT_FBANK.frame_shift_ms
    return Transcript(
        text=bundle.tokens.text(decoded.ids),
        ids=decoded.ids,
        tokens=tuple(bundle.tokens.token(i) for i in decoded.ids),
        timestamps=tuple(frame * step / 1000 for frame in decoded.frames),
        segment=segment,
        start_time=start_time,
    )


class OfflineRecognizer:
    """Transcribes whole utterances in batches.

    Args:
        bundle: an opened offline model folder.
        search: greedy when None; see `todm.runtime.searches.make_search`.
        settings: the filter bank the model was trained on.

    Raises:
        BundleError: the bundle is a streaming one.
    """

    def __init__(
        self, bundle: Bundle, search: Search | None = None, settings: FbankSettings = DEFAULT_FBANK
    ) -> None:
        if bundle.mode != "offline":
            raise BundleError(f"{bundle.folder}: is a streaming model; use StreamingRecognizer")
        self.bundle = bundle
        self._search = make_search(bundle) if search is None else search
        self._settings = settings

    def transcribe(self, utterances: Sequence[npt.ArrayLike], *, batch_size: int = 8) -> list[Transcript]:
        """Transcribe utterances, batched with others of similar length.

        Args:
            utterances: each (num_samples,) mono in [-1, 1] at the features' sample rate; may be empty.
            batch_size: utterances per call of the encoder, at least 1.

        Returns:
            One result per utterance, in the same order.
        """
        return self.transcribe_feats(
            [compute_fbank(samples, self._settings) for samples in utterances], batch_size=batch_size
        )

    def transcribe_feats(self, feats: Sequence[FloatArray], *, batch_size: int = 8) -> list[Transcript]:
        """The same from log-mel features, each (T, C) float32; T may be 0."""
        results = [Transcript(text="")] * len(feats)
        # No frames, no words: an encoder may refuse an utterance of length 0.
        order = sorted((i for i, f in enumerate(feats) if len(f)), key=lambda i: len(feats[i]))
        for begin in range(0, len(order), batch_size):
            batch = order[begin : begin + batch_size]
            padded, lens = self._pad([feats[i] for i in batch])
            encoder_out, encoder_lens = self.bundle.encode(padded, lens)
            states = [self._search.start() for _ in batch]
            self._search.advance(states, encoder_out, encoder_lens)
            for i, state in zip(batch, states, strict=True):
                results[i] = make_transcript(self.bundle, self._search.best(state))
        return results

    def _pad(self, feats: Sequence[FloatArray]) -> tuple[FloatArray, npt.NDArray[np.int64]]:
        """Features (N, T, C) padded with silence, and their lengths (N,)."""
        # Below the subsampling's receptive field a convolution without padding cannot run.
        shortest = 2 * self.bundle.subsampling_factor - 1
        longest = max(shortest, *(len(f) for f in feats))
        padded = np.full((len(feats), longest, self._settings.num_mel_bins), LOG_FLOOR, np.float32)
        for row, f in zip(padded, feats, strict=True):
            row[: len(f)] = f
        return padded, np.array([len(f) for f in feats], np.int64)
