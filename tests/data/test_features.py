from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from lhotse import CutSet

from todm.data import features
from todm.data.corpus import read_part
from todm.data.features import (
    LOG_FLOOR,
    compute_feature_stats,
    compute_features,
    load_audio,
    load_features,
    make_extractor,
    perturb_speed,
    store_features,
)
from todm.errors import UserError
from todm.runtime.fbank import compute_fbank, num_frames


def _cuts(corpus: Path) -> CutSet:
    return read_part(corpus, "dev-here").cuts()


def assert_same_features(samples: np.ndarray) -> None:
    """Check equality to 1e-4 above silence, except for one value in a thousand.

    The rounding error of the float32 transform is relative to the loudest bin of a frame: in a bin that is
    e^g weaker it is about 2^-24 e^(g/2) of its energy, in both implementations. Bins with energy from a
    loud neighbour through the edge of their filter are slightly above 1e-4.
    """
    pytest.importorskip("kaldi_native_fbank")
    ours, device = compute_features(samples, make_extractor()), compute_fbank(samples)
    assert ours.shape == device.shape == (num_frames(len(samples)), 80)
    gap = device.max(axis=1, keepdims=True) - device
    difference = np.abs(ours - device)
    assert bool((difference < 2e-4 + 2.0**-22 * np.exp(gap / 2)).all())
    assert np.quantile(difference[gap < 11.5], 0.999) < 1e-4
    assert difference.mean() < 1e-5


@pytest.mark.parametrize("num_samples", [16000, 16001, 15999, 4077, 399, 240, 139, 80])
def test_training_and_device_features_agree(num_samples: int) -> None:
    rng = np.random.default_rng(num_samples)
    assert_same_features((0.1 * rng.standard_normal(num_samples)).astype(np.float32))


def test_training_and_device_features_agree_for_a_voice_with_empty_bins() -> None:
    time = np.arange(16000) / 16000
    voice = sum(np.sin(2 * np.pi * 110 * k * time) / k**2 for k in range(1, 30))
    samples = (0.2 * voice * np.hanning(16000)).astype(np.float32)
    assert_same_features(samples)
    feats = compute_fbank(samples)
    assert (feats.max(axis=1) - feats.min(axis=1)).max() > 15.0  # or there was nothing to see


def test_training_and_device_features_agree_for_speech(digits: Path) -> None:
    for path in sorted(digits.glob("*/*/*/*.flac"))[::60]:
        assert_same_features(load_audio(path))


def test_digital_silence_is_the_floor() -> None:
    feats = make_extractor().extract(np.zeros(8000, dtype=np.float32), 16000)
    np.testing.assert_allclose(feats, LOG_FLOOR, atol=1e-4)


def test_stored_features_are_read_unchanged(corpus: Path, tmp_path: Path) -> None:
    cuts = _cuts(corpus)
    stored = store_features(cuts, tmp_path / "feats")
    extractor = make_extractor()
    assert [cut.id for cut in stored] == sorted(cut.id for cut in cuts)
    for cut in stored:
        assert cut.has_features
        np.testing.assert_array_equal(cut.load_features(), cut.compute_features(extractor))
    part = next(iter(stored)).truncate(duration=0.3)
    np.testing.assert_array_equal(part.load_features(), next(iter(stored)).load_features()[:30])


def test_number_of_jobs_does_not_change_features(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features, "MIN_CUTS_PER_JOB", 1)
    one = store_features(_cuts(corpus), tmp_path / "one", num_jobs=1)
    two = store_features(_cuts(corpus), tmp_path / "two", num_jobs=2)
    assert len(list((tmp_path / "two").iterdir())) == 2
    for left, right in zip(one, two, strict=True):
        assert left.id == right.id
        np.testing.assert_allclose(left.load_features(), right.load_features(), atol=1e-5)


def test_speed_copies_change_length_and_id(corpus: Path) -> None:
    cuts = _cuts(corpus)
    copies = perturb_speed(cuts, (0.9, 1.0, 1.1))
    assert len(copies) == 3 * len(cuts)
    extractor = make_extractor()
    slow = next(cut for cut in copies if cut.id.endswith("_sp0.9"))
    original = next(cut for cut in copies if cut.id == slow.id.removesuffix("_sp0.9"))
    assert slow.duration == pytest.approx(original.duration / 0.9, abs=1e-3)
    assert len(load_features(slow, extractor)) == pytest.approx(
        len(load_features(original, extractor)) / 0.9, abs=1
    )
    assert slow.supervisions[0].text == original.supervisions[0].text


def test_statistics_are_those_of_all_frames(corpus: Path) -> None:
    extractor = make_extractor()
    cuts = _cuts(corpus)
    frames = np.concatenate([load_features(cut, extractor) for cut in cuts]).astype(np.float64)
    stats = compute_feature_stats(cuts)
    assert stats["frames"] == len(frames)
    np.testing.assert_allclose(stats["mean"], frames.mean(0), rtol=1e-5)
    np.testing.assert_allclose(stats["std"], frames.std(0), rtol=1e-5)
    few = compute_feature_stats(cuts, max_cuts=2)
    assert 0 < few["frames"] < stats["frames"]


def test_load_audio_averages_channels_and_resamples(tmp_path: Path) -> None:
    time = np.arange(8000) / 8000
    stereo = np.stack([np.sin(2 * np.pi * 440 * time), 0 * time], axis=1) * 0.5
    for name in ("a.wav", "a.flac"):
        soundfile.write(str(tmp_path / name), stereo, 8000)
        samples = load_audio(tmp_path / name)
        assert samples.dtype == np.float32
        assert samples.shape == (16000,)
        expected = 0.25 * np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)
        np.testing.assert_allclose(samples[500:-500], expected[500:-500], atol=2e-3)


def test_load_audio_names_the_file_that_fails(tmp_path: Path) -> None:
    (tmp_path / "no.flac").write_text("text")
    soundfile.write(str(tmp_path / "zero.wav"), np.zeros(0), 16000)
    for name in ("gone.wav", "no.flac", "zero.wav"):
        with pytest.raises(UserError, match=name):
            load_audio(tmp_path / name)
