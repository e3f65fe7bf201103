"""Short runs on the toy corpus: their settings, and what they leave."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests.prepared import CONFIG
from todm.config import Config
from todm.layout import find_checkpoints
from todm.train.checkpoint import load_checkpoint

NewRun = Callable[[str], Path]

BATCHES_PER_EPOCH = 5  # of the toy corpus


def settings(**changes: Any) -> Config:
    """Two epochs of five batches, a checkpoint after every second one."""
    return replace(CONFIG, train=replace(CONFIG.train, **{"num_epochs": 2, "save_interval": 2, **changes}))


def newest(exp: Path) -> dict[str, Any]:
    return load_checkpoint(find_checkpoints(exp / "checkpoints")[0])


def assert_identical(one: Any, other: Any, where: str = "state") -> None:
    """Bit for bit, through dicts, lists and tensors."""
    if isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key in one:
            assert_identical(one[key], other[key], f"{where}.{key}")
    elif isinstance(one, list):
        assert len(one) == len(other), where
        for index, (left, right) in enumerate(zip(one, other, strict=True)):
            assert_identical(left, right, f"{where}[{index}]")
    elif isinstance(one, Tensor):
        assert one.dtype == other.dtype and torch.equal(one, other), where
    else:
        assert type(one) is type(other) and one == other, where


def records(exp: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (exp / "train" / "metrics.jsonl").read_text().splitlines()]
