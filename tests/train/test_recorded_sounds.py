"""Trainings with recorded noise, measured rooms, hum and telephone bandwidth are as exact as without."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch.multiprocessing.spawn import spawn

from tests.train.runs import NewRun, assert_identical, newest, settings
from tests.train.test_two_processes import free_port, whole_run
from todm.config import Config
from todm.data.sound_folders import write_sounds
from todm.errors import UserError
from todm.layout import DataFolder, RunFolder
from todm.train.loop import train


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """Settings that augment from the first step on, with a folder of noise and one of rooms."""
    folder = tmp_path_factory.mktemp("sounds")
    rng = np.random.default_rng(0)
    for part, count in (("noise", 3), ("rooms", 2)):
        (folder / part).mkdir()
        for index in range(count):
            decay = np.exp(-np.arange(8000) / (4000 if part == "noise" else 800))
            soundfile.write(folder / part / f"{index}.wav", 0.1 * decay * rng.standard_normal(8000), 16000)
    config = settings(max_steps=6)
    return replace(
        config,
        data=replace(config.data, noise_dir=str(folder / "noise"), rir_dir=str(folder / "rooms")),
        augment=replace(
            config.augment,
            noise_prob=0.6,
            reverb_prob=0.5,
            wordless_prob=0.2,
            hum_prob=0.3,
            narrowband_prob=0.4,
            chain_prob=0.3,
        ),
        train=replace(config.train, loss=replace(config.train.loss, alignment_warmup_steps=0)),
    )


def add_sounds(exp: Path, config: Config) -> Path:
    """Compute the archives in a prepared run folder."""
    write_sounds(config.data, DataFolder(RunFolder(exp).data))
    return exp


def test_a_resumed_run_is_the_uninterrupted_one(new_run: NewRun, config: Config) -> None:
    straight, broken = add_sounds(new_run("straight"), config), add_sounds(new_run("broken"), config)
    train(config, straight)
    train(config, broken, until=3)
    torch.manual_seed(12345)
    train(config, broken)
    assert_identical(newest(broken)["model"], newest(straight)["model"])
    synthetic = replace(config, data=replace(config.data, noise_dir="", rir_dir=""))
    other = new_run("other")
    train(synthetic, other)
    one, two = newest(other)["model"], newest(straight)["model"]
    assert any(not torch.equal(one[name], two[name]) for name in one)


def test_two_processes_train_one_model(new_run: NewRun, config: Config) -> None:
    exp = add_sounds(new_run("exp"), config)
    short = replace(config, train=replace(config.train, max_steps=3))
    spawn(whole_run, args=(free_port(), str(exp), short), nprocs=2)
    one, other = (torch.load(exp / f"rank-{rank}.pt") for rank in range(2))
    assert_identical(one["weights"], other["weights"])
    again = add_sounds(new_run("again"), config)
    spawn(whole_run, args=(free_port(), str(again), short), nprocs=2)
    assert_identical(torch.load(again / "rank-0.pt")["weights"], one["weights"])


def test_a_run_folder_without_archives_is_refused(new_run: NewRun, config: Config) -> None:
    with pytest.raises(UserError, match=r"^data\.noise_dir: .*todm prepare --stage sounds"):
        train(config, new_run("exp"))
