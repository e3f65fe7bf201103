"""Which utterances training can use, by their duration and by the length of their text."""

from __future__ import annotations

from todm.data.tokenizer import Tokenizer
from todm.runtime.fbank import FbankSettings, num_frames

TOO_MANY_LABELS = "text longer than its frames allow"


def duration_problem(seconds: float, shortest: float, longest: float) -> str:
    """Why an utterance of this duration is left out, or ''; the bounds are the ``data`` section's."""
    if shortest <= seconds <= longest:
        return ""
    return "shorter than data.min_utterance" if seconds < shortest else "longer than data.max_utterance"


def length_problem(text: str, seconds: float, tokenizer: Tokenizer, factor: int) -> str:
    """Why an utterance cannot be aligned with one label per encoder frame (subsampled by `factor`), or ''."""
    num_labels = len(tokenizer.encode([text])[0])
    encoder_frames = subsampled_frames(num_frames(round(seconds * FbankSettings().sample_rate)), factor)
    return f"{num_labels} labels, {encoder_frames} encoder frames" if num_labels > encoder_frames else ""


def subsampled_frames(frames: int, factor: int) -> int:
    """Encoder frames of ``frames`` feature frames: each halving by a valid convolution gives (T-1)//2."""
    while factor > 1:
        frames, factor = (frames - 1) // 2, factor // 2
    return max(frames, 0)
