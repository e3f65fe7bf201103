from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from todm.runtime.fbank import LOG_FLOOR, FbankStream, compute_fbank, num_frames

MakeUtterances = Callable[..., list[np.ndarray]]


@pytest.mark.parametrize("length", [0, 79, 80, 100, 239, 240, 400, 12345])
def test_number_of_frames_and_finite_values(length: int, make_utterances: MakeUtterances) -> None:
    feats = compute_fbank(make_utterances([length])[0])
    assert feats.shape == (num_frames(length), 80) == ((length + 80) // 160, 80)
    assert feats.dtype == np.float32
    assert np.isfinite(feats).all()


def test_silence_is_the_floor() -> None:
    assert compute_fbank(np.zeros(8000)) == pytest.approx(LOG_FLOOR, abs=1e-6)
    assert pytest.approx(-15.942385, abs=1e-6) == LOG_FLOOR


def test_pieces_of_any_size_give_the_same_frames(make_utterances: MakeUtterances) -> None:
    (samples,) = make_utterances([20011])
    whole = compute_fbank(samples)
    stream = FbankStream()
    rng = np.random.default_rng(0)
    at = 0
    while at < len(samples):
        size = int(rng.integers(0, 700))
        stream.accept_waveform(samples[at : at + size])
        at += size
    stream.input_finished()
    assert stream.num_frames_ready == len(whole)
    # Read in overlapping windows, as a streaming encoder does: the early frames are discarded.
    for start in range(0, len(whole) - 20, 7):
        assert np.array_equal(stream.get_frames(start, 20), whole[start : start + 20])


def test_features_equal_those_of_sherpa_onnx(
    make_utterances: MakeUtterances, streaming_bundle: object
) -> None:
    sherpa_onnx = pytest.importorskip("sherpa_onnx")
    (samples,) = make_utterances([16161])
    host = sherpa_onnx.OnlineRecognizer.from_transducer(
        **{name: f"{streaming_bundle}/{name}.onnx" for name in ("encoder", "decoder", "joiner")},
        tokens=f"{streaming_bundle}/tokens.txt",
    )
    stream = host.create_stream()
    stream.accept_waveform(16000, samples)
    stream.input_finished()
    ours = compute_fbank(samples)
    theirs = np.array(stream.get_frames(0, len(ours))).reshape(-1, 80)
    assert np.abs(ours - theirs).max() < 1e-4
