"""The largest batches run before the first step, and leave the run as it was."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.train.runs import NewRun, assert_identical, newest, settings
from todm.errors import UserError
from todm.nn.supernet import Supernet
from todm.train.loop import train
from todm.train.step import SandwichStep


def test_the_longest_come_first_and_nothing_else_changes(
    new_run: NewRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, scanned = new_run("plain"), new_run("scanned")
    original = SandwichStep.__call__
    sizes: list[int] = []

    def step_fn(self: SandwichStep, batch: Any, *args: Any, **kwargs: Any) -> Any:
        sizes.append(batch.feats.shape[0] * batch.feats.shape[1])
        return original(self, batch, *args, **kwargs)

    monkeypatch.setattr(SandwichStep, "__call__", step_fn)
    train(settings(max_steps=5), plain)
    one_epoch = sizes.copy()
    sizes.clear()
    train(settings(max_steps=5, scan_batches=2), scanned)
    scan, run = sizes[:2], sizes[2:]
    assert run == one_epoch
    assert scan[0] >= scan[1] > 0
    for part in ("model", "optimizer", "average", "step"):
        assert_identical(newest(scanned)[part], newest(plain)[part], part)


def test_what_does_not_fit_is_named(new_run: NewRun, monkeypatch: pytest.MonkeyPatch) -> None:
    def too_large(self: Supernet, *_: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3.00 GiB")

    monkeypatch.setattr(Supernet, "share", too_large)
    with pytest.raises(
        UserError, match=r"data\.max_duration: the largest batch, \d+ utterances of up to \d+ fr"
    ):
        train(settings(scan_batches=1), new_run("large"))


def test_another_error_is_not_hidden(new_run: NewRun, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Supernet, *_: Any) -> Any:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(Supernet, "share", broken)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        train(settings(scan_batches=1), new_run("broken"))
