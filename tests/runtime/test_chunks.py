"""Consumed frames of a stream, against the loop of a host."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from todm.runtime.chunks import MIN_TAIL_FRAMES, Chunks


@given(num_frames=st.integers(0, 400), shift=st.integers(1, 64), overlap=st.integers(0, 9))
def test_consumed_frames_equal_those_of_a_host(num_frames: int, shift: int, overlap: int) -> None:
    chunks = Chunks(window=shift + overlap, shift=shift)
    processed = consumed = 0
    while num_frames > processed + chunks.window:  # sherpa-onnx: IsReady
        consumed = processed + chunks.window
        processed += shift
    assert chunks.num_consumed_frames(num_frames) == consumed


@given(num_frames=st.integers(0, 400), shift=st.integers(1, 64), overlap=st.integers(0, 9))
def test_the_tail_covers_all_frames_and_the_minimum_of_silence(
    num_frames: int, shift: int, overlap: int
) -> None:
    chunks = Chunks(window=shift + overlap, shift=shift)
    assert chunks.num_consumed_frames(num_frames + chunks.tail_frames) >= num_frames + MIN_TAIL_FRAMES
