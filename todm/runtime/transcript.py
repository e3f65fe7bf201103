"""Transcripts with token timestamps."""

from __future__ import annotations

from dataclasses import dataclass

from .bundle import Bundle
from .decoding import DecodingResult
from .fbank import DEFAULT_FBANK


@dataclass(frozen=True, kw_only=True)
class Transcript:
    """Recognized utterance or segment.

    Args:
        text: words separated by single spaces.
        ids: token ids.
        tokens: symbols of the tokens as pieces of text (the first piece of a word begins with a space).
        timestamps: time of each token, seconds from the start of the segment.
        segment: number of the segment in a stream, from 0.
        start_time: start of the segment, seconds from the start of the stream.
    """

    text: str
    ids: tuple[int, ...] = ()
    tokens: tuple[str, ...] = ()
    timestamps: tuple[float, ...] = ()
    segment: int = 0
    start_time: float = 0.0


def make_transcript(
    bundle: Bundle, result: DecodingResult, *, segment: int = 0, start_time: float = 0.0
) -> Transcript:
    """Convert token ids and encoder frames into text and seconds."""
    step = bundle.subsampling_factor * DEFAULT_FBANK.frame_shift_ms
    return Transcript(
        text=bundle.tokens.text(result.ids),
        ids=result.ids,
        tokens=tuple(bundle.tokens.token(i) for i in result.ids),
        timestamps=tuple(frame * step / 1000 for frame in result.frames),
        segment=segment,
        start_time=start_time,
    )
