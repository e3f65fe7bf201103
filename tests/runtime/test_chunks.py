"""What of a stream is heard, against a host's own loop."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from todm.runtime.chunks import MIN_TAIL_FRAMES, Chunks


@given(num_frames=st.integers(0, 400), shift=st.integers(1, 64), overlap=st.integers(0, 9))
def test_heard_is_what_a_host_s_loop_reads(num_frames: int, shift: int, overlap: int) -> None:
    chunks = Chunks(window=shift + overlap, shift=shift)
    processed = heard = 0
    while num_frames > processed + chunks.window:  # sherpa-onnx: IsReady
        heard = processed + chunks.window
        processed += shift
    assert chunks.num_consumed_frames(num_frames) == heard


@given(num_frames=st.integers(0, 400), shift=st.integers(1, 64), overlap=st.integers(0, 9))
def test_behind_the_tail_everything_was_heard_and_patience_after_it(
    num_frames: int, shift: int, overlap: int
) -> None:
    chunks = Chunks(window=shift + overlap, shift=shift)
    assert chunks.num_consumed_frames(num_frames + chunks.tail_frames) >= num_frames + MIN_TAIL_FRAMES
