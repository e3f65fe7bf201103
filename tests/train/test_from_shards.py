"""A whole training from shards: prepared, interrupted, continued, averaged; by one process and by two."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.multiprocessing.spawn import spawn

from tests.prepared import write_corpus
from tests.train.runs import assert_identical, newest, records, settings
from tests.train.test_two_processes import free_port, whole_run
from todm.cli import main
from todm.config import Config, save_config
from todm.errors import UserError
from todm.train.loop import train


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, Path]:
    """Settings, and the folder they were prepared in by the command; without what shards stand for."""
    folder = tmp_path_factory.mktemp("shar")
    config = settings()
    data = replace(config.data, shar_dir=str(folder / "shar"), shar_utterances=3, speed_factors=(1.0, 1.1))
    config = replace(config, data=data)
    save_config(config, folder / "conf.yaml")
    write_corpus(folder / "LibriSpeech")
    conf, corpus = ["--conf", str(folder / "conf.yaml")], ["--corpus-dir", str(folder)]
    main(["prepare", *conf, *corpus, "--exp-dir", str(folder / "exp")])
    (folder / "exp" / "data" / "manifests" / "train.jsonl.gz").unlink()
    return config, folder / "exp"


def _copy(prepared: Path, target: Path) -> Path:
    """A run folder on the same data."""
    target.mkdir()
    (target / "data").symlink_to(prepared / "data")
    return target


def test_prepared_trained_and_averaged_by_the_commands(
    prepared: tuple[Config, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, folder = prepared
    exp = _copy(folder, tmp_path / "exp")
    piped = ["--data.shar_dir", f"pipe:cat {config.data.shar_dir}/{{}}", "--train.calibrate_utterances", "5"]
    main(["train", "--conf", str(folder.parent / "conf.yaml"), "--exp-dir", str(exp), *piped])
    assert newest(exp)["epoch"] == 2
    assert sum(record["kind"] == "valid" for record in records(exp)) == 2
    main(["average", str(exp)])
    assert "bias of blank" in capsys.readouterr().out


def test_a_run_that_was_stopped_goes_on_bit_for_bit(prepared: tuple[Config, Path], tmp_path: Path) -> None:
    config, folder = prepared
    straight, stopped = (_copy(folder, tmp_path / name) for name in ("straight", "stopped"))
    train(config, straight)
    for max_steps in (3, 4, 0):
        train(replace(config, train=replace(config.train, max_steps=max_steps)), stopped)
        assert not max_steps or newest(stopped)["batch"] == max_steps  # in the middle of the first epoch
    assert newest(straight)["step"] == newest(stopped)["step"] > 6
    for part in ("model", "optimizer"):
        assert_identical(newest(stopped)[part], newest(straight)[part], part)


def test_a_torn_shard_ends_the_run_with_a_sentence(prepared: tuple[Config, Path], tmp_path: Path) -> None:
    config, folder = prepared
    missing = replace(config, data=replace(config.data, shar_dir=str(tmp_path / "nowhere")))
    with pytest.raises(UserError, match=r"nowhere/index\.json: cannot be read"):
        train(missing, _copy(folder, tmp_path / "exp"))


def test_two_processes_train_one_model_on_shards_of_their_own(
    prepared: tuple[Config, Path], tmp_path: Path
) -> None:
    config, folder = prepared
    exp = _copy(folder, tmp_path / "exp")
    spawn(whole_run, args=(free_port(), str(exp), config), nprocs=2)
    one, other = (torch.load(exp / f"rank-{rank}.pt") for rank in range(2))
    assert_identical(one["weights"], other["weights"])
    assert len(one["seen"]) == len(other["seen"])
    trained = [item for batch in one["seen"] + other["seen"] for item in batch]
    assert {trained.count(item) for item in trained} == {2}  # epochs
    assert len(set(trained)) == 32
