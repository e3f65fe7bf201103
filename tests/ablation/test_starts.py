"""Runs that go on from a common start end where they would have ended by themselves."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from tests.prepared import CONFIG, prepare_run
from todm.ablation.grid import Grid, PlannedRun, load_grid
from todm.ablation.processes import RunProcesses
from todm.ablation.runs import prepare_data, run_folder, run_grid
from todm.ablation.scores import training_cost
from todm.ablation.starts import find_start, list_missing_starts, start_checkpoint
from todm.config import save_config
from todm.train.average import average
from todm.train.loop import train

VARIANTS = {
    "base": {},
    "without": {
        "settings": {
            "train.dropout.policy": "constant",
            "train.dropout.rate": 0.3,
            "train.distill.lattice": "collapsed",
            "augment.gain_db": 1.0,
        }
    },
    "undistilled": {"settings": {"train.distill.lattice": "none"}},
    "adamw": {"settings": {"train.optim.name": "adamw", "train.optim.lr": 0.002}},
    "contrastive": {"settings": {"train.contrastive.steps": 1}},
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Grid, Path, list[str]]:
    folder = tmp_path_factory.mktemp("starts")
    loss = replace(CONFIG.train.loss, alignment_warmup_steps=3)
    save_config(replace(CONFIG, train=replace(CONFIG.train, loss=loss)), folder / "base.yaml")
    settings = {"train.num_epochs": 2, "train.max_steps": 6, "train.num_threads": 1, "train.log_interval": 1}
    content = {"base": "base.yaml", "settings": settings, "seeds": [1], "variants": VARIANTS}
    (folder / "grid.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    prepare_run(folder)
    grid, exp = load_grid(folder / "grid.yaml"), folder / "grid"
    prepare_data(grid, exp, folder / "corpus" / "LibriSpeech")
    messages: list[str] = []
    assert run_grid(grid.plan(["base", "without"]), exp, num_jobs=1, on_message=messages.append) == []
    return grid, exp, messages


def test_the_start_is_trained_once_and_changes_nothing(
    finished: tuple[Grid, Path, list[str]], tmp_path: Path
) -> None:
    grid, exp, messages = finished
    assert sum("start of several" in line for line in messages) == 1
    for run in grid.plan(["base", "without"]):
        alone = tmp_path / run.variant
        alone.mkdir()
        shutil.copytree(exp / "data", alone / "data")
        train(run.config, alone)
        theirs = average(alone)
        ours = load_file(run_folder(exp, run) / "supernet" / "model.safetensors")
        for name, value in theirs.items():
            assert torch.equal(ours[name], value), (run.variant, name)


def test_the_start_counts_as_training_time(finished: tuple[Grid, Path, list[str]]) -> None:
    grid, exp, _ = finished
    for run in grid.plan(["base", "without"]):
        metrics = run_folder(exp, run) / "train" / "metrics.jsonl"
        steps = [line for line in metrics.read_text().splitlines() if '"kind": "train"' in line]
        assert len(steps) == 6 and training_cost(metrics)["steps"] == 6


def test_only_what_is_the_same_is_shared(finished: tuple[Grid, Path, list[str]]) -> None:
    grid, exp, _ = finished
    runs = {run.variant: run for run in grid.plan()}
    base, without, adamw = (find_start(runs[name]) for name in ("base", "without", "adamw"))
    undistilled = find_start(runs["undistilled"])
    assert base is not None and without is not None and adamw is not None and undistilled is not None
    assert base.digest == without.digest
    assert len({base.digest, adamw.digest, undistilled.digest}) == 3
    assert find_start(runs["contrastive"]) is None  # it drops units
    assert start_checkpoint(exp, base).is_file()
    other = replace(base.config, train=replace(base.config.train, seed=2))
    reseeded = find_start(PlannedRun(variant="base", seed=2, config=other))
    assert reseeded is not None and reseeded.digest != base.digest
    assert list_missing_starts(exp, [runs["base"], runs["without"]]) == []
    assert list_missing_starts(exp, [runs["adamw"]]) == []  # nobody to share it with
    assert [start.digest for start in list_missing_starts(exp, [runs["adamw"]] * 2)] == [adamw.digest]


def test_a_stopped_grid_hands_out_no_starts(
    finished: tuple[Grid, Path, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid, _, _ = finished
    began: list[Path] = []

    def finish(self: RunProcesses, folder: Path, *words: str) -> bool:
        began.append(folder)
        self.stopping = True  # as if SIGTERM came now
        return False

    monkeypatch.setattr(RunProcesses, "finish", finish)
    with pytest.raises(SystemExit):
        run_grid(grid.plan(["base", "without"]), tmp_path, num_jobs=1, on_message=lambda line: None)
    assert [folder.parent.name for folder in began] == ["starts"]
    assert not (tmp_path / "runs").exists()


def test_a_start_that_cannot_be_taken_over_is_done_again(
    finished: tuple[Grid, Path, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid, exp, _ = finished
    (tmp_path / "starts").symlink_to(exp / "starts")
    monkeypatch.setattr(RunProcesses, "finish", lambda self, folder, *words: False)

    def full(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("todm.ablation.starts.shutil.copyfile", full)
    messages: list[str] = []
    runs = grid.plan(["base", "without"])
    assert run_grid(runs, tmp_path, num_jobs=1, on_message=messages.append) == runs
    assert sum("cannot copy its start (no space left on device)" in line for line in messages) == 2
    assert not list(tmp_path.glob("runs/*/checkpoints/*"))
