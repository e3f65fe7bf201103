"""Consumed frames of a stream, against the loop of a host."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from todm.runtime.chunks import MARGIN_FRAMES, MIN_TAIL_FRAMES, Chunks, compute_tail_frames


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


@given(
    num_frames=st.integers(0, 400),
    chunk=st.integers(1, 16),
    overlap=st.integers(0, 9),
    factor=st.sampled_from([4, 8]),
    delay=st.integers(1, 20),
)
def test_a_stated_tail_covers_the_emission_delay(
    num_frames: int, chunk: int, overlap: int, factor: int, delay: int
) -> None:
    window, shift = chunk * factor + overlap, chunk * factor
    tail = compute_tail_frames(window, factor, delay)
    chunks = Chunks(window=window, shift=shift, stated_tail_frames=tail)
    assert chunks.tail_frames == tail
    # The last encoder frame ends `overlap` before the last consumed frame.
    processed = chunks.num_consumed_frames(num_frames + tail) - overlap
    assert processed >= num_frames + factor * (delay + MARGIN_FRAMES)


def test_the_tail_of_an_unknown_delay_is_that_of_a_bundle_without_metadata() -> None:
    assert compute_tail_frames(35, 4, 0) == Chunks(window=35, shift=32).tail_frames
