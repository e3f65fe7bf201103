"""Transcripts with token timestamps."""

from __future__ import annotations

from dataclasses import dataclass

from .bundle import Bundle
from .decoding import DecodingResult
from .fbank import DEFAULT_FBANK


@dataclass(frozen=True, kw_only=True)
class Transcript:
    """Recognized utterance, or one segment of a stream.

    Args:
        text: words separated by single spaces.
        ids: token ids.
        tokens: symbols of the tokens as pieces of text (the first piece of a word begins with a space).
        timestamps: time at which each token was emitted, seconds from the start of the audio; in a later
            segment of a stream, too.
        segment: number of the segment in a stream, from 0.
        start_time: start of the segment, seconds from the start of the audio.
    """

    text: str
    ids: tuple[int, ...] = ()
    tokens: tuple[str, ...] = ()
    timestamps: tuple[float, ...] = ()
    segment: int = 0
    start_time: float = 0.0


def make_transcript(
    bundle: Bundle, result: DecodingResult, *, segment: int = 0, start_frame: int = 0
) -> Transcript:
    """Convert token ids and frames into text and seconds.

    Args:
        bundle: the model, which gives symbols and subsampling factor.
        result: hypothesis, with encoder frames counted from the start of the segment.
        segment: number of the segment.
        start_frame: feature frame at which the segment starts.
    """

    def seconds(frame: int) -> float:  # from whole frames, without accumulated rounding
        return frame * DEFAULT_FBANK.frame_shift_ms / 1000

    factor = bundle.subsampling_factor
    return Transcript(
        # A token may be the mark of a word's start alone, which leaves a second space.
        text=" ".join(bundle.tokens.text(result.ids).split()),
        ids=result.ids,
        tokens=tuple(bundle.tokens.token(i) for i in result.ids),
        timestamps=tuple(seconds(start_frame + factor * frame) for frame in result.frames),
        segment=segment,
        start_time=seconds(start_frame),
    )
