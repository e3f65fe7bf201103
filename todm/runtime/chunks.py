"""How a streaming host cuts audio into chunks, and the silence that it needs behind an utterance."""

from __future__ import annotations

from dataclasses import dataclass

PATIENCE_FRAMES = 40
"""Frames of silence that a stream hears at least behind its end, 400 ms."""


@dataclass(frozen=True, kw_only=True)
class Chunks:
    """Windows of feature frames, one per call of the encoder.

    Args:
        window: frames of one call.
        shift: frames by which the window moves, at most `window`.
    """

    window: int
    shift: int

    @property
    def tail(self) -> int:
        """Frames of silence to put behind the last sample.

        A host drops what does not fill a window, hence the first part; and a streaming net says a word only
        when it is over (``train.loss.streaming_delay``), hence the second.
        """
        return self.window + 1 + PATIENCE_FRAMES

    def heard(self, num_frames: int) -> int:
        """How many of the first frames of a stream of `num_frames` the encoder gets to see.

        A host calls it when strictly more than `window` unread frames are there.
        """
        calls = -(-(num_frames - self.window) // self.shift)
        return (calls - 1) * self.shift + self.window if calls > 0 else 0
