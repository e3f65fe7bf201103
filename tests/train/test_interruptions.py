"""A run that is stopped, meets bad batches or cannot save loses nothing."""

from __future__ import annotations

import errno
import json
import math
import signal
from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.train.runs import BATCHES_PER_EPOCH, NewRun, assert_identical, newest, records, settings
from todm.data.batch import Batch
from todm.errors import UserError
from todm.train import loop
from todm.train.loop import Trainer, train


def test_sigterm_saves_the_batch_at_hand_and_nothing_is_lost(
    new_run: NewRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = settings(save_interval=0)
    straight, stopped = new_run("straight"), new_run("stopped")
    train(config, straight)
    original = Trainer._train_batch

    def train_batch(self: Trainer, batch: Batch) -> Any:
        result = original(self, batch)
        if self.state.step == 3:
            signal.raise_signal(signal.SIGTERM)
        return result

    before = signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as patch, pytest.raises(SystemExit) as caught:
        patch.setattr(Trainer, "_train_batch", train_batch)
        train(config, stopped)
    assert caught.value.code == 143
    assert signal.getsignal(signal.SIGTERM) is before
    assert newest(stopped)["step"] == 3
    train(config, stopped)
    for part in ("model", "optimizer", "average", "step"):
        assert_identical(newest(stopped)[part], newest(straight)[part], part)


def test_a_bad_batch_is_skipped_noted_and_counted(new_run: NewRun, monkeypatch: pytest.MonkeyPatch) -> None:
    exp = new_run("bad")
    original = Trainer._train_batch
    lost: list[tuple[str, ...]] = []

    def train_batch(self: Trainer, batch: Batch) -> Any:
        if self.state.step == 1:
            lost.append(batch.ids)
            batch = replace(batch, feats=torch.full_like(batch.feats, math.nan))
        return original(self, batch)

    monkeypatch.setattr(Trainer, "_train_batch", train_batch)
    train(settings(log_interval=3), exp)
    assert newest(exp)["step"] == 2 * BATCHES_PER_EPOCH
    (line,) = (exp / "train" / "skipped-batches.rank0.jsonl").read_text().splitlines()
    noted = json.loads(line)
    assert noted["step"] == 1
    assert lost == [tuple(noted["ids"])]
    intervals = [record for record in records(exp) if record["kind"] == "train"]
    assert [record["skipped"] for record in intervals] == [1, *[0] * (len(intervals) - 1)]
    assert all(math.isfinite(loss) for record in intervals for loss in record["subnets"].values())


def test_a_run_that_only_skips_ends_with_a_sentence(new_run: NewRun, monkeypatch: pytest.MonkeyPatch) -> None:
    exp = new_run("lost")
    monkeypatch.setattr(loop, "MAX_BAD_STEPS", 3)
    original = Trainer._train_batch

    def train_batch(self: Trainer, batch: Batch) -> Any:
        return original(self, replace(batch, feats=torch.full_like(batch.feats, math.nan)))

    monkeypatch.setattr(Trainer, "_train_batch", train_batch)
    with pytest.raises(
        UserError, match=r"skipped-batches\.rank0\.jsonl: the last 3 steps had no finite gradient"
    ):
        train(settings(), exp)


def test_full_disk_keeps_the_last_good_checkpoint(new_run: NewRun, monkeypatch: pytest.MonkeyPatch) -> None:
    exp = new_run("exp")
    original = torch.save

    def save(state: Any, file: Any) -> None:
        if state["step"] > 2:
            file.write(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        original(state, file)

    monkeypatch.setattr(torch, "save", save)
    with pytest.raises(UserError, match=r"step-00000004\.pt: no space left"):
        train(settings(), exp)
    assert [path.name for path in (exp / "checkpoints").iterdir()] == ["step-00000002.pt"]
    monkeypatch.undo()
    train(settings(max_steps=3), exp)
    assert newest(exp)["step"] == 3
