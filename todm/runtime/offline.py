"""Recognize whole utterances with an offline bundle."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Sized

import numpy as np
import numpy.typing as npt

from .bundle import Bundle
from .decoding import TokenSearch, make_search
from .errors import BundleError
from .fbank import DEFAULT_FBANK, LOG_FLOOR, FbankSettings, FloatArray, compute_fbank
from .samples import check_samples
from .transcript import Transcript, make_transcript


class OfflineRecognizer:
    """Transcribe whole utterances in batches.

    Args:
        bundle: an opened offline model folder.
        search: greedy when None; see `todm.runtime.decoding.make_search`.
        settings: filter bank that the model was trained with.

    Raises:
        BundleError: the bundle is streaming.
    """

    def __init__(
        self, bundle: Bundle, search: TokenSearch | None = None, settings: FbankSettings = DEFAULT_FBANK
    ) -> None:
        if bundle.mode != "offline":
            raise BundleError(f"{bundle.folder}: is a streaming model; use StreamingRecognizer")
        self.bundle = bundle
        self._search = make_search(bundle) if search is None else search
        self._settings = settings

    def transcribe(self, utterances: Sequence[npt.ArrayLike], *, batch_size: int = 8) -> list[Transcript]:
        """Transcribe utterances in batches of similar length.

        Args:
            utterances: each (num_samples,) mono in [-1, 1] at the features' sample rate; may be empty.
            batch_size: utterances per encoder call, at least 1.

        Returns:
            One result per utterance, in the same order.

        Raises:
            AudioError: samples that `check_samples` refuses.
        """
        checked = [check_samples(samples) for samples in utterances]
        results = [Transcript(text="")] * len(checked)
        for batch in batch_by_length(checked, batch_size):
            feats = [compute_fbank(checked[i], self._settings) for i in batch]
            for i, result in zip(batch, self.transcribe_feats(feats, batch_size=batch_size), strict=True):
                results[i] = result
        return results

    def transcribe_feats(self, feats: Sequence[FloatArray], *, batch_size: int = 8) -> list[Transcript]:
        """Transcribe utterances given as log-mel features, each (T, C) float32; T may be 0."""
        results = [Transcript(text="")] * len(feats)
        # Utterances without frames keep the empty text: an encoder may reject length 0.
        for batch in batch_by_length(feats, batch_size):
            padded, lens = self._pad([feats[i] for i in batch])
            encoder_out, encoder_lens = self.bundle.encode(padded, lens)
            states = [self._search.start() for _ in batch]
            self._search.advance(states, encoder_out, encoder_lens)
            for i, state in zip(batch, states, strict=True):
                results[i] = make_transcript(self.bundle, self._search.best(state))
        return results

    def _pad(self, feats: Sequence[FloatArray]) -> tuple[FloatArray, npt.NDArray[np.int64]]:
        """Pad features with silence: (N, T, C) and lengths (N,)."""
        # The convolutions of the subsampling need at least their receptive field.
        shortest = 2 * self.bundle.subsampling_factor - 1
        longest = max(shortest, *(len(f) for f in feats))
        padded = np.full((len(feats), longest, self._settings.num_mel_bins), LOG_FLOOR, np.float32)
        for row, f in zip(padded, feats, strict=True):
            row[: len(f)] = f
        return padded, np.array([len(f) for f in feats], np.int64)


def batch_by_length(items: Sequence[Sized], batch_size: int) -> Iterator[list[int]]:
    """Yield the indices of the items that are not empty, shortest first, `batch_size` at a time."""
    order = sorted((i for i, item in enumerate(items) if len(item)), key=lambda i: len(items[i]))
    for begin in range(0, len(order), batch_size):
        yield order[begin : begin + batch_size]
