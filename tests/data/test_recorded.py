"""Recorded noise and measured rooms: preparation, excerpts, mixing, messages."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from tests.nets import make_batch
from todm.config import AugmentConfig, Config, DataConfig
from todm.data.augment import augment
from todm.data.background import replace_by_background
from todm.data.prepare import prepare
from todm.data.recorded import RecordedSounds, mix_noise, open_sounds, reverberate_in_rooms
from todm.data.sound_folders import find_noise, find_rooms, measure_room, write_sounds
from todm.errors import UserError
from todm.layout import DataFolder
from todm.runtime.fbank import LOG_FLOOR, compute_fbank


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def write_audio(path: Path, samples: np.ndarray, rate: int = 16000) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(str(path), samples, rate)


def make_response(rng: np.random.Generator, seconds: float = 0.4, rate: int = 16000) -> np.ndarray:
    """Direct sound after 5 ms, then noise that decays by 60 dB in `seconds`; (S,)."""
    time = np.arange(round(seconds * rate)) / rate
    response = 0.02 * rng.standard_normal(len(time)) * 10 ** (-3 * time / seconds)
    response[: round(0.005 * rate)] = 0.0
    response[round(0.005 * rate)] = 0.5
    return response


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A folder in MUSAN's layout and one of impulse responses, with files of several rates and channels."""
    rng = np.random.default_rng(0)
    noise = tmp_path_factory.mktemp("musan")
    write_audio(noise / "noise" / "free" / "a.wav", 0.05 * rng.standard_normal(8000))
    write_audio(noise / "noise" / "b.flac", 0.05 * rng.standard_normal((22050, 2)), 22050)
    tone = 0.1 * np.sin(2 * math.pi * 440 * np.arange(3 * 16000) / 16000)
    write_audio(noise / "music" / "deep" / "er" / "c.WAV", tone)
    write_audio(noise / "speech" / "d.wav", 0.05 * rng.standard_normal(8000))
    rooms = tmp_path_factory.mktemp("rirs")
    write_audio(rooms / "simulated" / "r1.wav", make_response(rng))
    write_audio(rooms / "real" / "r2.flac", np.stack([make_response(rng, 0.2, 8000)] * 2, axis=1), 8000)
    write_audio(rooms / "real" / "isotropic_noise_1.wav", rng.standard_normal(100) / 9)
    write_audio(rooms / "pointsource_noises" / "n.wav", rng.standard_normal(100) / 9)
    return noise, rooms


@pytest.fixture(scope="module")
def prepared(
    folders: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[DataConfig, DataFolder]:
    config = DataConfig(noise_dir=str(folders[0]), rir_dir=str(folders[1]))
    data = DataFolder(tmp_path_factory.mktemp("exp") / "data")
    figures = write_sounds(config, data)
    assert figures["noise recordings"] == 3 and figures["rooms"] == 2
    assert figures["noise hours"] == pytest.approx(4.5 / 3600, abs=1e-5)
    return config, data


@pytest.fixture(scope="module")
def sounds(prepared: tuple[DataConfig, DataFolder]) -> RecordedSounds:
    return open_sounds(*prepared)


def test_files_are_found_at_any_depth_and_speech_is_left_out(folders: tuple[Path, Path]) -> None:
    config = DataConfig(noise_dir=str(folders[0]), rir_dir=str(folders[1]))
    assert [path.name for path in find_noise(config)] == ["c.WAV", "b.flac", "a.wav"]
    assert [path.name for path in find_rooms(config)] == ["r2.flac", "r1.wav"]
    plain = replace(config, noise_dir=str(folders[0] / "speech"))
    assert [path.name for path in find_noise(plain)] == ["d.wav"]


def test_excerpts_are_parts_of_the_recording_repeated_to_length(
    folders: tuple[Path, Path], sounds: RecordedSounds
) -> None:
    assert sounds.noise is not None and len(sounds.noise) == 3
    whole = sounds.noise.read(0.99)
    samples, _ = soundfile.read(str(folders[0] / "noise" / "free" / "a.wav"), dtype="float32")
    np.testing.assert_allclose(whole.numpy(), compute_fbank(samples), atol=1e-3)
    for start in (0.0, 0.3, 0.999):
        part = sounds.noise.read_excerpt(0.99, start, 20)
        first = min(int(start * 31), 30)
        assert torch.equal(part, whole[first : first + 20])
        longer = sounds.noise.read_excerpt(0.99, start, 120)
        assert longer.shape == (120, 80)
        assert torch.equal(longer[:50], longer[50:100])
        assert torch.equal(longer[:50], whole.roll(-int(start * 50), dims=0))


@pytest.mark.parametrize("snr", [0.0, 12.0])
def test_noise_has_the_ratio_that_was_drawn(sounds: RecordedSounds, snr: float) -> None:
    assert sounds.noise is not None
    batch = make_batch([300, 120, 40, 200], [1, 1, 1, 1])
    mixed = mix_noise(batch.feats, batch.feat_lens, 1.0, (snr, snr), sounds.noise, generator())
    for row, length in enumerate(batch.feat_lens.tolist()):
        clean = batch.feats[row, :length].double().exp().sum()
        noise = mixed[row, :length].double().exp().sum() - clean
        assert 10 * math.log10(float(clean / noise)) == pytest.approx(snr, abs=0.05)
        assert torch.equal(mixed[row, length:], batch.feats[row, length:])
    few = mix_noise(batch.feats, batch.feat_lens, 0.0, (snr, snr), sounds.noise, generator())
    assert torch.equal(few, batch.feats)


def test_an_impulse_changes_nothing_and_an_echo_comes_late() -> None:
    impulse = np.zeros(4000, np.float32)
    impulse[900] = 0.3
    np.testing.assert_allclose(measure_room(impulse), np.ones((1, 80)), rtol=1e-4)
    impulse[900 + 1600] = 0.1
    decay = measure_room(impulse)
    assert decay.shape == (11, 80)
    assert decay[0].mean() == pytest.approx(0.9, abs=0.01)
    assert decay[10].mean() == pytest.approx(0.1, abs=0.01)
    assert np.abs(decay[1:10]).max() < 1e-4


def test_rooms_on_powers_are_close_to_the_convolution_of_the_audio(sounds: RecordedSounds) -> None:
    rng = np.random.default_rng(1)
    response = make_response(rng, 0.5)
    envelope = np.repeat(np.abs(rng.standard_normal(40)) ** 2, 800)  # bursts of 50 ms
    samples = (0.03 * envelope * rng.standard_normal(len(envelope))).astype(np.float32)
    gain = math.sqrt((response**2).sum())
    wet = np.convolve(samples, response / gain)[80 : 80 + len(samples)]  # without the delay of 5 ms
    decay = torch.from_numpy(measure_room(response))

    class OneRoom:
        def read(self, choice: float) -> torch.Tensor:
            return decay

    feats = torch.from_numpy(compute_fbank(samples))[None]
    lens = torch.tensor([feats.shape[1]])
    result = reverberate_in_rooms(feats, lens, 1.0, OneRoom(), generator())[0]  # type: ignore[arg-type]
    true = torch.from_numpy(compute_fbank(wet))
    # Powers of single frames vary with the phases; means over time do not.
    level = (result.exp().mean(0) / true.exp().mean(0)).log()
    assert float(level.abs().mean()) < 0.2
    smooth = [x.exp().mean(1).log() for x in (result, true)]
    assert float((smooth[0] - smooth[1]).abs().mean()) < 0.35
    dry = feats[0].exp().mean(1).log()
    assert float((dry - smooth[1]).abs().mean()) > 2 * float((smooth[0] - smooth[1]).abs().mean())


def test_rooms_keep_silence_padding_and_level(sounds: RecordedSounds) -> None:
    assert sounds.rooms is not None and len(sounds.rooms) == 2
    batch = make_batch([300, 120], [1, 1])
    feats = batch.feats.clone()
    feats[1, :120] = LOG_FLOOR
    wet = reverberate_in_rooms(feats, batch.feat_lens, 1.0, sounds.rooms, generator())
    torch.testing.assert_close(wet[1], feats[1], rtol=0, atol=1e-4)
    assert not torch.equal(wet[0], feats[0])
    ratio = wet[0].exp().mean() / feats[0].exp().mean()
    assert 0.7 < float(ratio) < 1.3
    assert float(wet.min()) >= LOG_FLOOR - 1e-3


def test_wordless_utterances_are_excerpts_too(sounds: RecordedSounds) -> None:
    assert sounds.noise is not None
    batch = make_batch([50] * 60, [3] * 60)
    changed = replace_by_background(batch, 1.0, generator(), sounds.noise)
    assert int(changed.label_lens.sum()) == 0
    assert bool(torch.isfinite(changed.feats).all()) and float(changed.feats.min()) >= LOG_FLOOR - 1e-5
    peak = int(sounds.noise.read(0.0)[20].argmax())  # a pure tone
    alike = int((changed.feats[:, 20].argmax(1) == peak).sum())
    without = replace_by_background(batch, 1.0, generator()).feats
    assert int((without[:, 20].argmax(1) == peak).sum()) < 3
    assert 4 <= alike <= 20  # a third of the recordings, which are half of the sounds
    again = replace_by_background(batch, 1.0, generator(), sounds.noise)
    assert torch.equal(again.feats, changed.feats)


def test_generator_alone_determines_the_batch(sounds: RecordedSounds) -> None:
    config = AugmentConfig(
        noise_prob=0.7, reverb_prob=0.6, wordless_prob=0.2, hum_prob=0.4, narrowband_prob=0.5, chain_prob=0.5
    )
    batch = make_batch([90, 60, 75, 40, 50], [3, 1, 2, 0, 4])
    before = batch.feats.clone()
    for seed in range(4):
        one = augment(batch, config, generator(seed), sounds)
        torch.rand(3)
        assert torch.equal(augment(batch, config, generator(seed), sounds).feats, one.feats)
        assert not torch.equal(augment(batch, config, generator(seed + 9), sounds).feats, one.feats)
        assert bool(torch.isfinite(one.feats).all())
        for row, length in enumerate(one.feat_lens.tolist()):
            assert bool((one.feats[row, length:] == LOG_FLOOR).all())
    assert torch.equal(batch.feats, before)


def test_preparation_is_repeatable_with_any_number_of_jobs(
    prepared: tuple[DataConfig, DataFolder], tmp_path: Path
) -> None:
    config, data = prepared
    again = DataFolder(tmp_path / "data")
    write_sounds(replace(config, num_jobs=5), again)
    for name in ("noise_index", "noise_archive", "room_index", "room_archive"):
        assert getattr(again, name).read_bytes() == getattr(data, name).read_bytes()


@pytest.mark.parametrize("setting", ["noise_dir", "rir_dir"])
def test_unusable_folders_are_refused_before_anything_is_computed(
    setting: str, corpus: Path, config: Config, tmp_path: Path
) -> None:
    def refused(folder: Path, text: str) -> None:
        data = replace(config.data, **{setting: str(folder)})  # type: ignore[arg-type]
        with pytest.raises(UserError, match=rf"^data\.{setting}: .*{text}"):
            prepare(replace(config, data=data), corpus, tmp_path / "exp")
        assert not DataFolder(tmp_path / "exp" / "data").stats.exists()

    refused(tmp_path / "none", "is no folder")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "holds no wav or flac file")
    bad = tmp_path / "bad" / "x.wav"
    write_audio(bad, np.ones(2000))
    (tmp_path / "bad" / "y.wav").write_bytes(b"no audio at all")
    refused(tmp_path / "bad", "y.wav")
    write_audio(tmp_path / "zero" / "z.wav", np.zeros(0))
    refused(tmp_path / "zero", "z.wav")
    if setting == "rir_dir":
        write_audio(tmp_path / "mute" / "m.wav", np.zeros(2000))
        refused(tmp_path / "mute", "is silent")


def test_training_asks_for_the_preparation(prepared: tuple[DataConfig, DataFolder], tmp_path: Path) -> None:
    config, data = prepared
    with pytest.raises(UserError, match=r"^data\.noise_dir: .*--stage sounds' first"):
        open_sounds(config, DataFolder(tmp_path))
    with pytest.raises(UserError, match=r"^data\.rir_dir: .*was computed from .*, not from elsewhere"):
        open_sounds(replace(config, rir_dir="elsewhere"), data)
    nothing = open_sounds(DataConfig(), data)
    assert nothing.noise is None and nothing.rooms is None


def test_all_stages_prepare_sounds_only_if_a_folder_is_given(
    folders: tuple[Path, Path], corpus: Path, config: Config, tmp_path: Path
) -> None:
    data = replace(config.data, rir_dir=str(folders[1]), speed_factors=(1.0,))
    figures = prepare(replace(config, data=data), corpus, tmp_path / "with")
    assert list(figures) == ["manifests", "sounds", "features", "tokenizer"]
    assert not DataFolder(tmp_path / "with" / "data").noise_index.exists()
    assert figures["sounds"] == {"rooms": 2}
