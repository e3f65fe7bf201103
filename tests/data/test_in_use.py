"""Augmentations that imitate use: chains, cut edges, background without words, rooms, quiet voices."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from tests.nets import make_batch
from todm.config import AugmentConfig
from todm.data.augment import append_random_silence, attenuate, augment
from todm.data.background import replace_by_background
from todm.data.batch import Batch
from todm.data.chain import join_chains
from todm.data.edges import cut_edges
from todm.data.room import mix_babble, reverberate
from todm.runtime.fbank import LOG_FLOOR


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def named(batch: Batch) -> Batch:
    return replace(batch, texts=tuple(f"T{row}" for row in range(len(batch))))


@pytest.mark.parametrize("size", [1, 2, 5, 9])
@pytest.mark.parametrize("seed", range(4))
def test_chains_hold_every_utterance_once_in_order(size: int, seed: int) -> None:
    lens = [20 + 3 * row for row in range(size)]
    batch = named(make_batch(lens, [row % 4 for row in range(size)], seed=seed))
    chains = join_chains(batch, 4, 30, generator(seed))
    ids = [part for chain in chains.ids for part in chain.split("+")]
    assert sorted(ids) == sorted(batch.ids)
    assert chains.feats.shape[1] == int(chains.feat_lens.max())
    for row, chain in enumerate(chains.ids):
        rows = [int(part) for part in chain.split("+")]
        assert chains.texts[row].split() == [f"T{r}" for r in rows]
        labels = torch.cat([batch.labels[r, : int(batch.label_lens[r])] for r in rows])
        assert torch.equal(chains.labels[row, : int(chains.label_lens[row])], labels)
        speech = torch.cat([batch.feats[r, : lens[r]] for r in rows])
        inside = chains.feats[row, : int(chains.feat_lens[row])]
        sounding = (inside > LOG_FLOOR).any(1)
        assert torch.equal(inside[sounding], speech)
        assert 0 <= len(inside) - len(speech) <= 30 * (len(rows) - 1)
        assert bool((chains.feats[row, int(chains.feat_lens[row]) :] == LOG_FLOOR).all())


def test_chains_of_equal_utterances_need_no_padding() -> None:
    batch = named(make_batch([20] * 8, [2] * 8))
    for seed in range(8):
        chains = join_chains(batch, 2, 30, generator(seed))  # four chains of two
        assert set(chains.feat_lens.tolist()) == {chains.feats.shape[1]}


def test_edges_are_cut_in_what_is_quiet_only() -> None:
    batch = make_batch([100, 100, 100, 100], [2, 2, 2, 0])
    feats = batch.feats.clone()
    feats[:, :30] = -14.0  # quiet edges
    feats[:, 70:] = -14.0
    batch = replace(batch, feats=feats)
    seen = set()
    for seed in range(20):
        cut = cut_edges(batch, 1.0, generator(seed))
        for row in range(3):
            length = int(cut.feat_lens[row])
            assert 40 <= length <= 100
            loud = cut.feats[row, :length].amax(1) > -13.0
            assert int(loud.sum()) == 40
            seen.add(length)
        assert cut.feat_lens[3] == 100  # without words
    assert min(seen) == 40 and len(seen) > 5
    assert torch.equal(cut_edges(batch, 0.0, generator()).feats, batch.feats)


def test_background_replaces_sound_and_labels_together() -> None:
    batch = named(make_batch([50] * 40, [3] * 40))
    changed = replace_by_background(batch, 0.5, generator())
    silent = 0
    for row in range(40):
        same = torch.equal(changed.feats[row], batch.feats[row])
        assert same == (int(changed.label_lens[row]) == 3) == bool(changed.texts[row])
        assert bool(torch.isfinite(changed.feats[row]).all())
        assert same or float(changed.feats[row].min()) >= LOG_FLOOR
        silent += not same
    assert 8 < silent < 32
    assert torch.equal(replace_by_background(batch, 0.0, generator()).feats, batch.feats)


def test_a_room_only_adds_power_that_decays() -> None:
    feats = torch.full((6, 80, 4), float(LOG_FLOOR))
    feats[:, 20] = 0.0
    valid = torch.ones(6, 80, dtype=torch.bool)
    wet = reverberate(feats, valid, 1.0, generator())
    assert bool((wet >= feats).all())
    torch.testing.assert_close(wet[:, :20], feats[:, :20], rtol=0.0, atol=1e-4)
    tail = wet[:, 21:60]
    assert bool((tail.diff(dim=1) <= 1e-5).all())
    total = tail.exp().sum(1)
    assert bool((total <= 1.0 + 1e-4).all()) and bool((total >= 10**-2).all())


def test_babble_has_the_ratio_that_was_drawn() -> None:
    batch = make_batch([60, 50, 40, 60], [1, 1, 1, 1])
    mixed = mix_babble(batch.feats, batch.feat_lens, 1.0, (7.0, 7.0), generator())
    for row, length in enumerate(batch.feat_lens.tolist()):
        clean = batch.feats[row, :length].exp().sum()
        noise = mixed[row, :length].exp().sum() - clean
        assert 10 * math.log10(float(clean / noise)) == pytest.approx(7.0, abs=0.05)
    alone = make_batch([60], [1])
    assert torch.equal(mix_babble(alone.feats, alone.feat_lens, 1.0, (7.0, 7.0), generator()), alone.feats)


def test_attenuation_lowers_levels_down_to_the_floor() -> None:
    feats = make_batch([200, 200], [1, 1]).feats
    quiet = attenuate(feats, 40.0, generator())
    drop = (feats - quiet)[quiet > LOG_FLOOR]
    assert float(drop.min()) >= 0.0 and float(drop.max()) <= 40.0 * math.log(10) / 10 + 1e-4
    assert float(quiet.min()) >= LOG_FLOOR


def test_a_share_of_utterances_gets_no_tail() -> None:
    batch = make_batch([30] * 400, [1] * 400)
    extra = append_random_silence(batch, 20, generator(), 0.5).feat_lens - 30
    assert 150 < int((extra == 0).sum()) < 260 and int(extra.max()) == 20


def test_everything_together_is_finite_and_padded() -> None:
    config = AugmentConfig(
        chain_prob=1.0,
        cut_prob=0.5,
        wordless_prob=0.3,
        reverb_prob=0.5,
        babble_prob=0.5,
        attenuation_db=40.0,
        tail_prob=0.5,
        noise_prob=0.5,
    )
    for seed in range(5):
        out = augment(make_batch([90, 60, 75, 40, 50], [3, 1, 2, 0, 4], seed=seed), config, generator(seed))
        assert bool(torch.isfinite(out.feats).all())
        for row, length in enumerate(out.feat_lens.tolist()):
            assert bool((out.feats[row, length:] == LOG_FLOOR).all())
