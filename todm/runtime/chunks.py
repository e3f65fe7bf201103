"""Chunking of audio by a streaming host, and the silence that an utterance needs at its end."""

from __future__ import annotations

from dataclasses import dataclass

MIN_TAIL_FRAMES = 40
"""Silence that the encoder processes after the last frame of a stream, at least: 400 ms."""


@dataclass(frozen=True, kw_only=True)
class Chunks:
    """Windows of feature frames, one per encoder call.

    Args:
        window: frames per call.
        shift: frames by which the window moves, at most `window`.
    """

    window: int
    shift: int

    @property
    def tail_frames(self) -> int:
        """Frames of silence to append to an utterance.

        A host drops frames that do not fill a window (`window` + 1 frames), and a streaming net emits a word
        only after its end (``train.loss.streaming_delay``; `MIN_TAIL_FRAMES`).
        """
        return self.window + 1 + MIN_TAIL_FRAMES

    def num_consumed_frames(self, num_frames: int) -> int:
        """Number of leading frames that the encoder processes in a stream of `num_frames`.

        A host calls the encoder when strictly more than `window` unread frames are available.
        """
        calls = -(-(num_frames - self.window) // self.shift)
        return (calls - 1) * self.shift + self.window if calls > 0 else 0
