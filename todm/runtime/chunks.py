"""Chunking of audio by a streaming host, and the silence that an utterance needs at its end."""

from __future__ import annotations

from dataclasses import dataclass

MIN_TAIL_FRAMES = 40
"""Silence that the encoder processes after the last frame of a stream, at least, where the bundle does not
state its tail: 400 ms."""

MAX_TAIL_FRAMES = 100_000
"""Longest tail that a bundle may state; more is a damaged file."""

MARGIN_FRAMES = 2
"""Encoder frames of the tail in addition to the emission delay: a net emits a label one frame late at times,
and the last frame of speech is seldom the first of an encoder frame."""


def compute_tail_frames(window: int, factor: int, delay: int) -> int:
    """Compute the silence that a streaming net needs after the last sample, as short as loses no words.

    A host drops up to one chunk of frames that do not fill a window, and the net emits a label `delay`
    encoder frames after its sound.

    Args:
        window: feature frames per encoder call.
        factor: feature frames per encoder frame.
        delay: encoder frames by which the net emits late, ``train.loss.streaming_delay``; 0 is unknown, since
            such a net is free to wait, and gives `MIN_TAIL_FRAMES`.

    Returns:
        Feature frames.
    """
    return window + (factor * (delay + MARGIN_FRAMES) if delay else 1 + MIN_TAIL_FRAMES)


@dataclass(frozen=True, kw_only=True)
class Chunks:
    """Windows of feature frames, one per encoder call.

    Args:
        window: frames per call.
        shift: frames by which the window moves, at most `window`.
        stated_tail_frames: tail that the bundle states, `compute_tail_frames`; None for a bundle without it.
    """

    window: int
    shift: int
    stated_tail_frames: int | None = None

    @property
    def tail_frames(self) -> int:
        """Frames of silence to append to an utterance: the stated ones, or those of an unknown delay."""
        if self.stated_tail_frames is not None:
            return self.stated_tail_frames
        return compute_tail_frames(self.window, factor=1, delay=0)

    def num_consumed_frames(self, num_frames: int) -> int:
        """Number of leading frames that the encoder processes in a stream of `num_frames`.

        A host calls the encoder when strictly more than `window` unread frames are available.
        """
        calls = -(-(num_frames - self.window) // self.shift)
        return (calls - 1) * self.shift + self.window if calls > 0 else 0
