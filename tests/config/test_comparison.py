"""Comparison of configs: what a finished training would not take over."""

from __future__ import annotations

from dataclasses import replace

from todm.config import Config
from todm.config.comparison import (
    AFTER_TRAINING,
    NO_EFFECT,
    RUN_LENGTH,
    find_training_change,
    flatten_config,
    flatten_saved,
    is_named,
    is_setting,
)
from todm.config.renamed import EARLIER_VALUES


def test_named_keys_exist() -> None:
    keys = flatten_config(Config())
    for pattern in (*NO_EFFECT, *AFTER_TRAINING, *RUN_LENGTH, *EARLIER_VALUES):
        assert any(is_named(key, (pattern,)) for key in keys), pattern
    assert is_setting("train.seed") and not is_setting("train") and not is_setting("--synth")


def test_saved_settings_are_flat_and_current() -> None:
    assert flatten_saved(Config().to_dict()) == flatten_config(Config())
    data = {"train": {"micro_batches": 2, "gone": 1}, "space": {"ffn_dims": [8, 16]}}
    assert flatten_saved(data) == {"train.grad_accum_steps": 2, "space.widths": {"ffn_dim": [8, 16]}}


def test_changes_that_a_finished_training_would_not_read() -> None:
    config = Config()
    saved = config.to_dict()
    longer = replace(
        config, train=replace(config.train, num_epochs=99, num_threads=3, calibrate_utterances=9)
    )
    assert find_training_change(saved, longer) is None
    assert find_training_change(saved, replace(config, search=replace(config.search, evaluations=9))) is None
    other = replace(config, train=replace(config.train, seed=5))
    assert find_training_change(saved, other) == ("train.seed", config.train.seed, 5)
    del saved["model"]["end_silence_frames"]
    assert find_training_change(saved, config) is None
