"""Checks whether training can use an utterance, by its duration and the length of its text."""

from __future__ import annotations

from todm.data.tokenizer import Tokenizer
from todm.runtime.fbank import FbankSettings, num_frames
from todm.space.lengths import subsample_length

TOO_MANY_LABELS = "text longer than its frames allow"


def check_duration(seconds: float, shortest: float, longest: float) -> str:
    """Check a duration.

    Args:
        seconds: duration of the utterance.
        shortest: ``data.min_utterance``.
        longest: ``data.max_utterance``.

    Returns:
        The reason for skipping the utterance, or ''.
    """
    if shortest <= seconds <= longest:
        return ""
    return "shorter than data.min_utterance" if seconds < shortest else "longer than data.max_utterance"


def check_length(text: str, seconds: float, tokenizer: Tokenizer, factor: int) -> str:
    """Check whether an utterance has at least as many encoder frames as labels.

    Args:
        text: transcript.
        seconds: duration.
        tokenizer: tokenizer of the labels.
        factor: subsampling factor of the encoder.

    Returns:
        Both numbers as text if it has not, else ''.
    """
    num_labels = len(tokenizer.encode([text])[0])
    encoder_frames = subsample_length(num_frames(round(seconds * FbankSettings().sample_rate)), factor)
    return f"{num_labels} labels, {encoder_frames} encoder frames" if num_labels > encoder_frames else ""
