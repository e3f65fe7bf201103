from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from todm.config import Config
from todm.data import loader, utterances
from todm.data.batch import Batch
from todm.data.features import load_features
from todm.data.loader import TrainLoader, load_cuts, load_train_cuts, make_eval_loader, make_train_loader
from todm.data.tokenizer import Tokenizer
from todm.errors import UserError


@pytest.fixture(scope="module")
def tokenizer(exp_dir: Path) -> Tokenizer:
    return Tokenizer.load(exp_dir / "data" / "lang")


def _make(config: Config, exp_dir: Path, tokenizer: Tokenizer, **options: Any) -> TrainLoader:
    options = {"seed": 3, **options}
    epoch, start_batch = options.pop("epoch", 0), options.pop("start_batch", 0)
    batches = make_train_loader(config, exp_dir / "data", tokenizer, **options)
    assert isinstance(batches, TrainLoader)
    batches.set_epoch(epoch, start_batch)
    return batches


def _ids(batches: Iterable[Batch]) -> list[tuple[str, ...]]:
    return [batch.ids for batch in batches]


def test_an_epoch_holds_every_cut_once_within_the_duration(
    config: Config, exp_dir: Path, tokenizer: Tokenizer
) -> None:
    batches = list(_make(config, exp_dir, tokenizer))
    ids = [item for batch in batches for item in batch.ids]
    assert sorted(ids) == sorted(cut.id for cut in load_train_cuts(exp_dir / "data"))
    assert len(ids) == 72
    assert len(batches) > 8
    for batch in batches:
        assert batch.feat_lens.sum() / 100 <= config.data.max_duration + 0.1
        assert tokenizer.encode(batch.texts) == [
            row[:length].tolist() for row, length in zip(batch.labels, batch.label_lens, strict=True)
        ]


def test_order_depends_on_seed_and_epoch_alone(config: Config, exp_dir: Path, tokenizer: Tokenizer) -> None:
    one = _make(config, exp_dir, tokenizer)
    first = _ids(one)
    torch.rand(3)
    assert _ids(one) == first
    one.set_epoch(1)
    second = _ids(one)
    assert second != first
    assert _ids(_make(config, exp_dir, tokenizer, epoch=1)) == second
    assert _ids(_make(config, exp_dir, tokenizer, seed=4)) != first
    assert list(_make(config, exp_dir, tokenizer, epoch=1).batch_ids()) == second


def test_sortagrad_sorts_the_first_epoch_only(config: Config, exp_dir: Path, tokenizer: Tokenizer) -> None:
    changed = replace(config, data=replace(config.data, sortagrad=True))
    sorted_once, shuffled = (
        make_train_loader(settings, exp_dir / "data", tokenizer, seed=3) for settings in (changed, config)
    )
    durations = {cut.id: cut.duration for cut in load_train_cuts(exp_dir / "data")}
    for _ in range(2):  # and again when it is iterated again
        loaded = [durations[item] for batch in sorted_once for item in batch.ids]
        assert loaded == sorted(durations.values())
    assert _ids(shuffled) != _ids(sorted_once)
    assert sorted_once.count_batches(0) == len(list(sorted_once))
    for batches in (sorted_once, shuffled):
        batches.set_epoch(1)
    assert _ids(shuffled) == _ids(sorted_once)
    assert sorted_once.count_batches(1) == len(list(sorted_once))
    sorted_once.set_epoch(0, 3)
    rest = _ids(sorted_once)
    sorted_once.set_epoch(0)
    assert rest == _ids(sorted_once)[3:]
    halves = [
        _ids(make_train_loader(changed, exp_dir / "data", tokenizer, seed=3, rank=rank, world_size=2))
        for rank in range(2)
    ]
    assert len(halves[0]) == len(halves[1]) and not set(halves[0]) & set(halves[1])


def test_resume_in_mid_epoch_loads_only_what_is_left(
    config: Config, exp_dir: Path, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = list(_make(config, exp_dir, tokenizer, epoch=2))
    loaded: list[str] = []

    def record(cut: Any, extractor: Any) -> Any:
        loaded.append(cut.id)
        return load_features(cut, extractor)

    monkeypatch.setattr(utterances, "load_features", record)
    rest = list(_make(config, exp_dir, tokenizer, epoch=2, start_batch=4))
    assert _ids(rest) == _ids(whole[4:])
    assert loaded == [item for batch in rest for item in batch.ids]
    assert torch.equal(rest[0].feats, whole[4].feats)


def test_lazy_reading_and_workers_give_the_same_batches(
    config: Config, exp_dir: Path, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = list(_make(config, exp_dir, tokenizer))
    monkeypatch.setattr(loader, "EAGER_BYTES", 0)
    state = torch.get_rng_state()
    changed = replace(config, data=replace(config.data, num_workers=2))
    found = list(make_train_loader(changed, exp_dir / "data", tokenizer, seed=3))
    assert torch.equal(torch.get_rng_state(), state)
    assert _ids(found) == _ids(expected)
    assert all(torch.equal(a.feats, b.feats) for a, b in zip(found, expected, strict=True))


def test_ranks_share_the_epoch_evenly(config: Config, exp_dir: Path, tokenizer: Tokenizer) -> None:
    ranks = [_ids(_make(config, exp_dir, tokenizer, rank=rank, world_size=2)) for rank in range(2)]
    assert len(ranks[0]) == len(ranks[1])
    left, right = ({item for batch in batches for item in batch} for batches in ranks)
    assert not left & right
    assert len(left | right) == 72


def test_evaluation_runs_from_long_to_short_and_repeats(exp_dir: Path, tokenizer: Tokenizer) -> None:
    cuts = load_cuts(exp_dir / "data", "dev-here")
    batches = make_eval_loader(cuts, tokenizer, max_duration=4.0)
    lens = [int(length) for batch in batches for length in batch.feat_lens]
    assert len(lens) == 6
    assert lens == sorted(lens, reverse=True)
    assert _ids(batches) == _ids(batches)
    assert len(list(batches)) > 1


def test_missing_manifests_and_too_little_data_are_user_errors(
    config: Config, exp_dir: Path, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"cuts_other\.jsonl\.gz: no such manifest; run 'todm prepare'"):
        load_cuts(exp_dir / "data", "other")
    with pytest.raises(UserError, match="no such manifest"):
        load_train_cuts(tmp_path)
    one = list(load_train_cuts(exp_dir / "data"))[:1]
    with pytest.raises(UserError, match="1 usable utterances"):
        TrainLoader(one, tokenizer, config.data, seed=1)


def test_two_utterances_are_enough(config: Config, exp_dir: Path, tokenizer: Tokenizer) -> None:
    two = list(load_train_cuts(exp_dir / "data"))[:2]
    batches = list(TrainLoader(two, tokenizer, config.data, seed=1))
    assert sorted(item for batch in batches for item in batch.ids) == sorted(cut.id for cut in two)
