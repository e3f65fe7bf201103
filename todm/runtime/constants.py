"""Audio and vocabulary constants that training, export and every device share."""

from __future__ import annotations

SAMPLE_RATE = 16000
"""Samples per second of all audio that reaches the features."""

NUM_MEL_BINS = 80
"""Mel filters, the width of a feature frame."""

FRAME_LENGTH_MS = 25.0
"""Window of one feature frame, milliseconds."""

FRAME_SHIFT_MS = 10.0
"""Hop between feature frames, milliseconds."""

FRAMES_PER_SECOND = round(1000 / FRAME_SHIFT_MS)
"""Feature frames per second of audio."""

FRAME_SECONDS = FRAME_SHIFT_MS / 1000
"""Hop between feature frames, seconds."""

BLANK_ID = 0
"""Token id of blank, fixed by sherpa-onnx."""
