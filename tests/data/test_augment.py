from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from todm.config import AugmentConfig
from todm.data.augment import (
    apply_spec_augment,
    augment,
    change_level,
    change_tempo,
    warp_frequency,
)
from todm.data.batch import Batch
from todm.data.noise import add_noise
from todm.runtime.fbank import LOG_FLOOR

OFF = AugmentConfig(
    freq_warp=0, gain_db=0, tilt_db=0, noise_prob=0, time_masks=0, freq_masks=0, tail_frames=0
)
DB = math.log(10) / 10


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _batch(lens: tuple[int, ...] = (300, 120, 40)) -> Batch:
    feats = torch.randn(len(lens), max(lens), 80, generator=_generator(9)) * 2 - 5
    for row, length in enumerate(lens):
        feats[row, length:] = LOG_FLOOR
    size = len(lens)
    zeros = torch.zeros(size, 1, dtype=torch.int64)
    return Batch(
        feats=feats,
        feat_lens=torch.tensor(lens),
        labels=zeros,
        label_lens=zeros[:, 0],
        texts=("",) * size,
        ids=tuple(map(str, range(size))),
    )


def test_generator_alone_determines_the_result_and_the_batch_is_kept() -> None:
    batch = _batch()
    before = batch.feats.clone()
    config = AugmentConfig(noise_prob=1.0)
    one = augment(batch, config, _generator(1))
    torch.rand(5)
    assert torch.equal(augment(batch, config, _generator(1)).feats, one.feats)
    assert not torch.equal(augment(batch, config, _generator(2)).feats, one.feats)
    assert torch.equal(batch.feats, before)
    assert one.ids == batch.ids
    assert one.feats.isfinite().all()
    assert (one.feats >= LOG_FLOOR - 1e-3).all()


@pytest.mark.parametrize("seed", range(3))
def test_padding_stays_silent(seed: int) -> None:
    batch = _batch()
    augmented = augment(batch, AugmentConfig(noise_prob=1.0), _generator(seed))
    feats = augmented.feats
    assert int(augmented.feat_lens.max()) <= feats.shape[1]
    for row, length in enumerate(augmented.feat_lens.tolist()):
        assert (feats[row, length:] == LOG_FLOOR).all()
        spoken = int(batch.feat_lens[row])
        assert (feats[row, :spoken] != batch.feats[row, :spoken]).any()


def test_tail_is_silence_of_every_length_up_to_its_limit() -> None:
    batch = _batch((50, 20) * 200)
    longer = augment(batch, replace(OFF, tail_frames=7), _generator())
    tail = longer.feat_lens - batch.feat_lens
    assert set(tail.tolist()) == set(range(8))
    assert longer.feats.shape[1] == int(longer.feat_lens.max())
    assert torch.equal(longer.feats[:, :50], batch.feats)
    assert (longer.feats[:, 50:] == LOG_FLOOR).all()
    assert batch.feat_lens.tolist() == [50, 20] * 200


def test_everything_off_changes_nothing() -> None:
    batch = _batch()
    assert torch.equal(augment(batch, OFF, _generator()).feats, batch.feats)


def test_gain_and_tilt_add_a_straight_line_within_their_limits() -> None:
    feats = torch.zeros(400, 3, 80)
    change = change_level(feats, 6.0, 4.0, 0.0, _generator())
    gain = (change[:, 0, 0] + change[:, 0, -1]) / 2 / DB
    tilt = (change[:, 0, -1] - change[:, 0, 0]) / DB
    assert 5.5 < gain.abs().max() <= 6.001
    assert 3.5 < tilt.abs().max() <= 4.001
    torch.testing.assert_close(change.diff(dim=2), change.diff(dim=2)[:, :, :1].expand(-1, -1, 79))
    assert torch.equal(change[:, 0], change[:, 2])


def test_silence_gets_no_louder_and_nothing_falls_below_the_floor() -> None:
    feats = torch.full((50, 2, 80), LOG_FLOOR)
    feats[:, 1] += 0.5
    changed = change_level(feats, 12.0, 12.0, 12.0, _generator())
    assert (changed[:, 0] == torch.tensor(LOG_FLOOR)).all()
    assert (changed >= LOG_FLOOR - 1e-5).all()


def test_ripples_are_slow_and_within_their_limit() -> None:
    change = change_level(torch.zeros(400, 1, 80), 0.0, 0.0, 3.0, _generator())[:, 0] / DB
    assert 6.0 < change.abs().max() <= 12.001
    assert change.diff(dim=1).abs().max() < 3.0 * math.pi / 79 * (1 + 2 + 3 + 4) + 1e-3


def test_tempo_stretches_each_utterance_and_keeps_its_ends() -> None:
    batch = _batch((100, 60) * 100)
    ramp = torch.arange(100.0)[None, :, None].expand(200, 100, 80)
    valid = (torch.arange(100) < batch.feat_lens[:, None])[:, :, None]
    batch = replace(batch, feats=torch.where(valid, ramp, torch.tensor(LOG_FLOOR)))
    other = change_tempo(batch, 0.2, _generator())
    ratio = other.feat_lens / batch.feat_lens
    assert 0.79 < ratio.min() < 0.83 < 1.17 < ratio.max() < 1.21
    assert other.feats.shape[1] == int(other.feat_lens.max())
    for row in range(20):
        old, new = int(batch.feat_lens[row]), int(other.feat_lens[row])
        torch.testing.assert_close(other.feats[row, :new, 3], torch.linspace(0, old - 1, new))
        assert (other.feats[row, new:] == LOG_FLOOR).all()


def test_frequency_warp_moves_a_peak_up_and_down_and_keeps_constants() -> None:
    feats = torch.zeros(200, 1, 80)
    feats[:, :, 40] = 1.0
    peaks = warp_frequency(feats, 0.1, _generator())[:, 0].argmax(1)
    assert peaks.min() < 40 < peaks.max()
    assert (peaks - 40).abs().max() <= 5
    flat = torch.full((50, 2, 80), LOG_FLOOR)
    torch.testing.assert_close(warp_frequency(flat, 0.2, _generator()), flat)
    torch.testing.assert_close(warp_frequency(feats, 0.0, _generator()), feats)


def test_noise_has_the_wanted_power_and_share() -> None:
    feats = torch.full((300, 60, 80), -3.0)
    valid = torch.ones(300, 60, dtype=torch.bool)
    noisy = add_noise(feats, valid, 0.3, (10.0, 10.0), _generator())
    changed = (noisy != feats).flatten(1).any(1)
    assert 0.2 < changed.float().mean() < 0.4
    noise = noisy[changed].exp().sum(2).mean(1) - feats[changed].exp().sum(2).mean(1)
    snr = (feats[changed].exp().sum(2).mean(1) / noise).log() / DB
    assert (snr - 10).abs().max() < 2.0
    assert add_noise(feats, valid, 1.0, (10.0, 20.0), _generator()).ne(feats).flatten(1).any(1).all()


def test_noise_level_ignores_padding() -> None:
    feats = torch.full((100, 80, 80), LOG_FLOOR)
    feats[:, :20] = 0.0
    valid = torch.zeros(100, 80, dtype=torch.bool)
    valid[:, :20] = True
    long = add_noise(feats, valid, 1.0, (10.0, 10.0), _generator())
    short = add_noise(feats[:, :20], valid[:, :20], 1.0, (10.0, 10.0), _generator())
    difference = (long[:, :20].exp().mean() - 1) / (short.exp().mean() - 1)
    assert 0.9 < difference < 1.1


def test_time_masks_respect_their_share_and_hold_the_mean() -> None:
    batch = _batch((300, 100) * 100)
    config = AugmentConfig(time_masks=10, time_mask_frames=20, time_mask_ratio=0.2, freq_masks=0)
    masked = apply_spec_augment(batch.feats, batch.feat_lens, config, _generator())
    changed = ((masked - batch.feats).abs() > 1e-3).any(2)
    share = changed.sum(1) / batch.feat_lens
    assert share.max() <= 0.2
    assert 0.07 < share.mean() < 0.13  # uniform widths: half of the most, less what overlaps
    row = 0
    mean = batch.feats[row].mean(0)
    torch.testing.assert_close(masked[row][changed[row]], mean.expand(int(changed[row].sum()), 80))
    positions = changed[::2].float().mean(0)
    assert positions[:150].sum() == pytest.approx(float(positions[150:].sum()), rel=0.4)


def test_frequency_masks_cover_whole_bins_up_to_their_width() -> None:
    batch = _batch((50,) * 200)
    config = AugmentConfig(time_masks=0, freq_masks=2, freq_mask_bins=27)
    masked = apply_spec_augment(batch.feats, batch.feat_lens, config, _generator())
    changed = (masked - batch.feats).abs() > 1e-3
    bins = changed.float().mean(1)
    assert ((bins == 0) | (bins > 0.9)).all()
    count = (bins > 0).sum(1)
    assert 27 < count.max() <= 54
    assert 15 < count.float().mean() < 30
