from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from todm.runtime.bundle import open_bundle
from todm.runtime.decoding import Method, make_search
from todm.runtime.errors import BundleError
from todm.runtime.fbank import compute_fbank, num_frames
from todm.runtime.offline import OfflineRecognizer
from todm.runtime.resample import resample
from todm.runtime.streaming import EndpointRules, StreamingRecognizer
from todm.runtime.transcript import Transcript

MakeUtterances = Callable[..., list[np.ndarray]]
LENGTHS = (16000, 1601, 39999, 0, 27777)


@pytest.mark.parametrize("method", ["greedy", "beam"])
@pytest.mark.parametrize("chunk", [1, 3, 8])
def test_streaming_equals_offline(
    method: Method,
    chunk: int,
    tmp_path: Path,
    offline_bundle: Path,
    save_bundle: Callable[..., Path],
    make_utterances: MakeUtterances,
) -> None:
    utterances = make_utterances(LENGTHS)
    bundle = open_bundle(save_bundle(tmp_path / "m", "streaming", chunk=chunk))
    assert bundle.streaming is not None
    shape = bundle.streaming
    tail = np.zeros(160 * shape.tail_frames, np.float32)
    streamed = StreamingRecognizer(bundle, make_search(bundle, method)).transcribe(utterances)
    whole_bundle = open_bundle(offline_bundle)
    assert any(result.ids for result in streamed)
    for samples, result in zip(utterances, streamed, strict=True):
        if not len(samples):
            assert result.ids == ()
            continue
        # The stream runs whole chunks: cut the audio so that the other model sees those frames only.
        padded = np.concatenate([samples, tail])
        num_chunks = (num_frames(len(padded)) - shape.window - 1) // shape.shift + 1
        assert num_chunks * shape.shift >= num_frames(len(samples))  # the tail is long enough
        feats = compute_fbank(padded)[: num_chunks * shape.shift + shape.window - shape.shift]
        recognizer = OfflineRecognizer(whole_bundle, make_search(whole_bundle, method))
        (whole,) = recognizer.transcribe_feats([feats])
        assert result == whole


def test_results_do_not_depend_on_the_size_of_pieces(
    streaming_bundle: Path, make_utterances: MakeUtterances
) -> None:
    utterances = make_utterances(LENGTHS)
    recognizer = StreamingRecognizer(open_bundle(streaming_bundle))
    results = [
        recognizer.transcribe(utterances, chunk_ms=chunk_ms, batch_size=batch_size)
        for chunk_ms, batch_size in ((10, 1), (100, 8), (333, 2), (60000, 3))
    ]
    assert len(results[0]) == len(LENGTHS)
    assert all(result == results[0] for result in results)


def test_results_do_not_depend_on_batches(offline_bundle: Path, make_utterances: MakeUtterances) -> None:
    utterances = make_utterances(LENGTHS)
    recognizer = OfflineRecognizer(open_bundle(offline_bundle))
    alone = [recognizer.transcribe([samples])[0] for samples in utterances]
    assert recognizer.transcribe(utterances, batch_size=2) == alone
    assert recognizer.transcribe(utterances[::-1], batch_size=5) == alone[::-1]
    assert recognizer.transcribe([]) == []


@pytest.mark.parametrize("length", [0, 1, 79, 80, 160, 500, 1000, 1200])
def test_audio_too_short_for_a_frame_is_no_error(
    length: int, offline_bundle: Path, streaming_bundle: Path, make_utterances: MakeUtterances
) -> None:
    samples = make_utterances([length])[0]
    offline = OfflineRecognizer(open_bundle(offline_bundle))
    num_out = ((num_frames(length) - 1) // 2 - 1) // 2
    for result in offline.transcribe([samples, samples]):
        assert len(result.ids) <= max(0, num_out)
    StreamingRecognizer(open_bundle(streaming_bundle)).transcribe([samples])
    assert offline.transcribe([np.zeros(0)]) == [Transcript(text="")]


def test_a_stream_resamples_other_rates(streaming_bundle: Path, make_utterances: MakeUtterances) -> None:
    (samples,) = make_utterances([48000])
    recognizer = StreamingRecognizer(open_bundle(streaming_bundle))
    at_48 = resample(samples, 16000, 48000)
    stream = recognizer.create_stream()
    for begin in range(0, len(at_48), 777):
        stream.accept_waveform(48000, at_48[begin : begin + 777])
    stream.input_finished()
    while recognizer.is_ready(stream):
        recognizer.decode_streams([stream])
    (direct,) = recognizer.transcribe([resample(at_48, 48000, 16000)])
    assert recognizer.get_result(stream) == direct
    assert direct.ids


def test_each_endpoint_rule_acts_on_its_own() -> None:
    rules = EndpointRules()
    # In float32, as the host computes, 240 * 0.01 is just below 2.4, and 120 * 0.01 just below 1.2.
    assert not rules.hold(240, 240)
    assert rules.hold(241, 241)  # nothing but silence
    assert not rules.hold(121, 121)
    assert not rules.hold(120, 122)
    assert rules.hold(121, 122)  # silence after speech
    assert not rules.hold(119, 1999)
    assert rules.hold(0, 2000)  # 20 s without a pause


def test_misuse_of_a_stream(streaming_bundle: Path) -> None:
    recognizer = StreamingRecognizer(open_bundle(streaming_bundle))
    stream = recognizer.create_stream()
    stream.accept_waveform(16000, np.zeros(100))
    with pytest.raises(ValueError, match="from 16000 to 8000"):
        stream.accept_waveform(8000, np.zeros(100))
    stream.input_finished()
    stream.input_finished()  # a second call has no effect
    with pytest.raises(ValueError, match="finished"):
        stream.accept_waveform(16000, np.zeros(100))


def test_timestamps_follow_the_subsampling(
    tmp_path: Path, save_bundle: Callable[..., Path], make_utterances: MakeUtterances
) -> None:
    utterances = make_utterances([48000])
    at4 = OfflineRecognizer(open_bundle(save_bundle(tmp_path / "4", "offline")))
    folder = save_bundle(tmp_path / "8", "offline", encoder_metadata={"subsampling_factor": 8})
    at8 = OfflineRecognizer(open_bundle(folder))
    first, second = at4.transcribe(utterances)[0], at8.transcribe(utterances)[0]
    assert first.timestamps
    assert np.allclose(2 * np.array(first.timestamps), second.timestamps)


def test_the_wrong_kind_of_bundle(offline_bundle: Path, streaming_bundle: Path) -> None:
    with pytest.raises(BundleError, match="streaming model"):
        OfflineRecognizer(open_bundle(streaming_bundle))
    with pytest.raises(BundleError, match="offline model"):
        StreamingRecognizer(open_bundle(offline_bundle))
    with pytest.raises(BundleError, match="magic"):
        make_search(open_bundle(offline_bundle), "magic")  # type: ignore[arg-type]
